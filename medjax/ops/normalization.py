"""Normalisation by mean and variance, channels last."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def moments(
  x: Float[Array, 'b *spatial c'], *, per_image
) -> tuple[Float[Array, '*b c'], Float[Array, '*b c']]:
  """Mean and biased variance of every channel, float32 or wider.

  The variance is E[x²] − E[x]², as flax takes it. The last spatial axis and
  the channels are summed as one long vector first: a sum over voxels of few
  channels would leave most of a CPU's vector empty.

  Args:
    x: (b, *spatial, c), one spatial axis or more.
    per_image: over the voxels of each image, (b, c); else of all, (c,).
  """
  wide = _lanes(x)
  axes = tuple(range(int(per_image), wide.ndim - 1))
  count = math.prod(x.shape[int(per_image) : -1])

  def mean(values):
    rows = values.sum(axes)
    return rows.reshape(*rows.shape[:-1], *x.shape[-2:]).sum(-2) / count

  average = mean(wide)
  return average, jnp.maximum(mean(wide * wide) - average * average, 0)


def normalize(
  x: Float[Array, 'b *spatial c'],
  mean: Float[Array, '*b c'],
  variance: Float[Array, '*b c'],
  scale: Float[Array, 'c'],
  bias: Float[Array, 'c'],
  *,
  epsilon,
) -> Float[Array, 'b *spatial c']:
  """(x − mean) / √(variance + epsilon) · scale + bias, in x's dtype.

  As one product and one sum per voxel, computed in float32 or wider. Nothing
  but x is then kept for the gradient.

  Args:
    x: (b, *spatial, c).
    mean: of each image (b, c), or of all (c,).
    variance: likewise.
    scale: (c,).
    bias: (c,).
    epsilon: added to the variance.
  """
  factor = lax.rsqrt(variance + epsilon) * scale
  offset = bias - mean * factor

  spread = lambda values: jnp.expand_dims(
    values, range(values.ndim - 1, x.ndim - 1)
  )
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return (wide * spread(factor) + spread(offset)).astype(x.dtype)


@jax.jit
def instance_norm(
  x: Float[Array, 'b *spatial c'],
  scale: Float[Array, 'c'],
  bias: Float[Array, 'c'],
  *,
  epsilon,
) -> Float[Array, 'b *spatial c']:
  """Mean 0 and variance 1 of every channel of every image (Ulyanov et al.
  2016), then scale and bias.

  A program of its own inside of others: `medjax.export` knows it by its name.

  Args:
    x: (b, *spatial, c).
    scale: (c,).
    bias: (c,).
    epsilon: added to the variance.
  """
  mean, variance = moments(x, per_image=True)
  return normalize(x, mean, variance, scale, bias, epsilon=epsilon)


def _lanes(x):
  """(b, *spatial, c) → (b, *others, last · c), float32 or wider."""
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return x.reshape(*x.shape[:-2], -1).astype(wide)


def unit(x: Float[Array | np.ndarray, '*n d']) -> Float[Array, '*n d']:
  """Rows of length 1, float32; a row of zeros stays one, with a gradient."""
  x = jnp.asarray(x, jnp.float32)
  return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))
