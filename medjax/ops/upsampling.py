"""Up-sampling, learned and linear, channels last."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.jit
def transposed_conv(
  x: Float[Array, 'b *spatial c'], kernel: Float[Array, '*window c o']
) -> Float[Array, 'b *out o']:
  """Transposed convolution whose stride is the size of its kernel.

  Windows do not overlap then, so every voxel becomes a block of `window`
  voxels by one matrix product, and no dilated input is needed: its gradient
  is slow in XLA. Agrees with `torch.nn.ConvTranspose2d/3d` of kernel_size =
  stride, padding 0, with kernel = weight (c, o, *window) moved to
  (*window, c, o); `lax.conv_transpose` flips the taps unless told otherwise.
  A program of its own inside of others: `medjax.export` knows it by its name.

  Args:
    x: (b, *spatial, c).
    kernel: (*window, c, o).

  Returns:
    (b, *(spatial × window), o).
  """
  *window, channels, features = kernel.shape
  rank = len(window)
  matrix = kernel.reshape(math.prod(window), channels, features)
  matrix = matrix.transpose(1, 0, 2).reshape(channels, -1)
  blocks = (x @ matrix).reshape(*x.shape[:-1], *window, features)
  # (b, d, h, w, kd, kh, kw, o) → (b, d, kd, h, kh, w, kw, o)
  order = [a for i in range(1, rank + 1) for a in (i, i + rank)]
  blocks = blocks.transpose(0, *order, 2 * rank + 1)
  sides = (n * k for n, k in zip(x.shape[1:-1], window, strict=True))
  return blocks.reshape(x.shape[0], *sides, features)


def linear_upsample(
  x: Float[Array, 'b *spatial c'], size
) -> Float[Array, 'b *out c']:
  """Linear interpolation onto a grid of `size` voxels, no smaller than x's.

  An axis of n voxels that came of one of `size` by a stride, rounded up, is
  enlarged by that stride and cropped at its far end, as slices and sums. Any
  other is stretched onto `size` by a matrix product. Where the stride divides
  both are `torch.nn.functional.interpolate` with align_corners=False.

  Args:
    x: (b, *spatial, c).
    size: voxels per spatial axis.

  Raises:
    ValueError: for another number of axes.
  """
  for axis, m in zip(range(1, x.ndim - 1), size, strict=True):
    n = x.shape[axis]
    factor = -(-m // n)
    if -(-m // factor) == n:
      x = _enlarged(x, axis, factor)
      x = lax.slice_in_dim(x, 0, m, axis=axis)
    else:
      shape = (*x.shape[:axis], m, *x.shape[axis + 1 :])
      x = jax.image.resize(x, shape, 'linear')
  return x


def _enlarged(x, axis, factor):
  """One axis, `factor` voxels for each; ends are repeated."""
  n = x.shape[axis]
  if factor == 1:
    return x
  cut = lambda low, high: lax.slice_in_dim(x, low, high, axis=axis)
  before = jnp.concatenate([cut(0, 1), cut(0, n - 1)], axis)
  after = jnp.concatenate([cut(1, n), cut(n - 1, n)], axis)
  phases = []
  for i in range(factor):
    offset = (i + 0.5) / factor - 0.5  # of the new voxel's centre, in old ones
    neighbour = before if offset < 0 else after
    phases.append((1 - abs(offset)) * x + abs(offset) * neighbour)
  y = jnp.stack(phases, axis + 1)
  return y.reshape(*x.shape[:axis], n * factor, *x.shape[axis + 1 :])
