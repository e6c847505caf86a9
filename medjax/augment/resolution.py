"""How sharp things are: Gaussian blur and low resolution.

Both are one matrix per axis. On a CPU that costs about what a short kernel
does, and a matrix product, unlike shifted sums, never lets XLA compute what
comes before it anew for every tap.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from medjax.augment.chance import chance
from medjax.augment.spatial import spatial_axes


def gaussian_blur(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  p=0.5,
  p_channel=1.0,
  sigma=(0.5, 1.0),
) -> dict[str, Array]:
  """Convolves with a separable Gaussian, cut at four times its largest width.

  The border is mirrored with its edge repeated, as scipy.ndimage does.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    p_channel: probability of each channel of a chosen example.
    sigma: range of the standard deviation in voxels, drawn per channel and
      axis.
  """
  image = example['image']
  *shape, channels = image.shape
  key_chosen, key_channel, key_sigma = jax.random.split(key, 3)
  chosen = chance(key_chosen, p)
  chosen &= chance(key_channel, p_channel, (channels,))
  low, high = sigma
  widths = jax.random.uniform(
    key_sigma, (channels, len(shape)), minval=low, maxval=high
  )
  radius = int(4 * high + 0.5)

  def blur(x, widths):
    for axis, width in enumerate(widths):
      x = along(axis, gaussian_matrix(x.shape[axis], width, radius), x)
    return x

  out = jax.vmap(blur, in_axes=(-1, 0), out_axes=-1)(image, widths)
  return {**example, 'image': jnp.where(chosen, out, image)}


def low_resolution(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  p=0.5,
  p_channel=1.0,
  zoom=(0.5, 1.0),
  axes=None,
) -> dict[str, Array]:
  """Shows the image as if it had been taken with larger voxels.

  Nearest voxel down to round(zoom · side), linear back up, as nnU-Net's
  SimulateLowResolutionTransform. The mask stays.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    p_channel: probability of each channel of a chosen example.
    zoom: range of the resolution left, ≤ 1, drawn per channel.
    axes: spatial axes that lose it, alike; all by default.
  """
  image = example['image']
  channels = image.shape[-1]
  axes = spatial_axes(axes, image.ndim - 1)
  key_chosen, key_channel, key_zoom = jax.random.split(key, 3)
  chosen = chance(key_chosen, p)
  chosen &= chance(key_channel, p_channel, (channels,))
  low, high = zoom
  zooms = jax.random.uniform(key_zoom, (channels,), minval=low, maxval=high)

  def coarsen(x, zoom):
    for axis in axes:
      x = along(axis, _coarse(x.shape[axis], zoom), x)
    return x

  out = jax.vmap(coarsen, in_axes=(-1, 0), out_axes=-1)(image, zooms)
  return {**example, 'image': jnp.where(chosen, out, image)}


def along(
  axis, matrix: Float[Array, 'n n'], x: Float[Array, '*s']
) -> Float[Array, '*s']:
  """The matrix times every line of `x` along one axis."""
  # A GPU or TPU would otherwise multiply with 10 or 8 bits.
  out = jnp.tensordot(matrix, x, (1, axis), precision='highest')
  return jnp.moveaxis(out, 0, axis)


def gaussian_matrix(size, width, radius) -> Float[Array, 'n n']:
  """The matrix of a Gaussian convolution with mirrored borders."""

  def kernel(distance):
    # The bound makes a width of 0 the identity.
    value = jnp.exp(-0.5 * (distance / jnp.maximum(width, 1e-3)) ** 2)
    return jnp.where(jnp.abs(distance) <= radius, value, 0)

  i = jnp.arange(size)[:, None]
  j = jnp.arange(size)
  # The mirrored line repeats itself, and turned about, every 2 · size.
  turns = range(-(radius // (2 * size)) - 1, radius // (2 * size) + 2)
  images = [j + 2 * size * turn for turn in turns]
  weights = sum(kernel(i - x) + kernel(i + 1 + x) for x in images)
  return weights / kernel(jnp.arange(-radius, radius + 1)).sum()


def _coarse(size, zoom) -> Float[Array, 'n n']:
  """The matrix of nearest sampling to round(zoom · size) and linear back."""
  coarse = jnp.maximum(jnp.round(size * zoom), 1)
  at = (jnp.arange(size) + 0.5) * coarse / size - 0.5
  at = jnp.clip(at, 0, coarse - 1)
  left = jnp.floor(at)
  right = jnp.minimum(left + 1, coarse - 1)

  def source(i):
    # Without the 1e-3 a rounding error could miss a centre on a boundary.
    return jnp.floor((i + 0.5) * size / coarse + 1e-3).astype(jnp.int32)

  weight = (at - left)[:, None]
  pick = functools.partial(jax.nn.one_hot, num_classes=size)
  return pick(source(left)) * (1 - weight) + pick(source(right)) * weight
