"""How another scanner would have drawn it: grey values of the next example.

Both take the look of the next example of the batch and leave what is seen and
where: an image is drawn as another site draws its own. They run under
`vmap(…, axis_name='batch')`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from medjax.augment.chance import chance


def _partner(x):
  count = jax.lax.axis_size('batch')
  following = [((i + 1) % count, i) for i in range(count)]
  return jax.lax.ppermute(x, 'batch', following)


def histogram_match(
  key: PRNGKeyArray, example: dict[str, Array], *, p=0.5, share=(0.0, 1.0)
) -> dict[str, Array]:
  """Gives each channel the grey values of the next example, rank by rank.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    share: range of how far it goes: 0 is not at all, 1 exactly those values.
  """
  image = example['image']
  key_chosen, key_share = jax.random.split(key)
  chosen = chance(key_chosen, p)
  low, high = share
  amount = jax.random.uniform(key_share, (), minval=low, maxval=high)
  flat = image.reshape(-1, image.shape[-1])
  other = jnp.sort(_partner(flat), 0)
  rank = jnp.argsort(jnp.argsort(flat, 0), 0)
  matched = jnp.take_along_axis(other, rank, 0).reshape(image.shape)
  out = image + amount * (matched - image)
  return {**example, 'image': jnp.where(chosen, out, image)}


def amplitude_mix(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  p=0.5,
  width=0.1,
  share=(0.0, 1.0),
) -> dict[str, Array]:
  """Takes low frequencies' amplitudes of the next example, and its own phases.

  As Fourier domain adaptation (Yang & Soatto 2020), with the other image of the
  batch in place of one of a target.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    width: half of the box of frequencies, as a share of all along an axis.
    share: range of how far it goes: 0 is not at all, 1 those amplitudes.
  """
  image = example['image']
  axes = tuple(range(image.ndim - 1))
  key_chosen, key_share = jax.random.split(key)
  chosen = chance(key_chosen, p)
  low, high = share
  amount = jax.random.uniform(key_share, (), minval=low, maxval=high)
  waves = jnp.fft.fftn(image, axes=axes)
  inside = jnp.ones(())
  for n in image.shape[:-1]:
    inside = inside[..., None] * (jnp.abs(jnp.fft.fftfreq(n)) <= width)
  size = jnp.abs(waves)
  other = jnp.abs(jnp.fft.fftn(_partner(image), axes=axes))
  mixed = size + amount * inside[..., None] * (other - size)
  factor = mixed / jnp.maximum(size, 1e-12)
  out = jnp.fft.ifftn(waves * factor, axes=axes).real
  return {**example, 'image': jnp.where(chosen, out, image)}
