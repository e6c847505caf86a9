"""Normalisation by mean and variance, channels last."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def moments(
  x: Float[Array, 'b *spatial c'],
) -> tuple[Float[Array, 'b c'], Float[Array, 'b c']]:
  """Mean and biased variance of every channel of every image, float32 or wider.

  The variance is E[y²] − E[y]² of y = x − the mean of the image's first line.
  Of x itself, whose mean may be a hundred standard deviations, float32 would
  lose half a percent of it; and a single voxel in place of the line may itself
  be far out. The last spatial axis and the channels are summed as one long
  vector first: a sum over voxels of few channels would leave most of a CPU's
  vector empty.

  Args:
    x: (b, *spatial, c), one spatial axis or more.
  """
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  first = wide[:, *[slice(1)] * (x.ndim - 3)].mean(-2, keepdims=True)
  first = lax.stop_gradient(first)  # the variance does not depend on it
  # (b, *others, last · c)
  lanes = (wide - first).reshape(*x.shape[:-2], -1)
  count = math.prod(x.shape[1:-1])

  def mean(values):
    rows = values.sum(range(1, values.ndim - 1))
    return rows.reshape(-1, *x.shape[-2:]).sum(-2) / count

  average = mean(lanes)
  variance = jnp.maximum(mean(lanes * lanes) - average * average, 0)
  return average + first.reshape(average.shape), variance


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
  mean, variance = moments(x)
  return normalize(x, mean, variance, scale, bias, epsilon=epsilon)


def unit(x: Float[Array | np.ndarray, '*n d']) -> Float[Array, '*n d']:
  """Rows of length 1, float32; a row of zeros stays one, with a gradient."""
  x = jnp.asarray(x, jnp.float32)
  return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))
