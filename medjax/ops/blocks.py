"""An image as a grid of blocks of its voxels, and back."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_Any = Array | np.ndarray


def grid_of(shape, size):
  """How many blocks of `size` each axis of an image of `shape` has."""
  return tuple(-(-n // p) for n, p in zip(shape, size, strict=True))


def split(
  x: Float[_Any, 'b *spatial c'], size
) -> Float[Array, 'b blocks voxels']:
  """Blocks of `size` per axis, row by row, each of its voxels with channels.

  What is missing of the last block of an axis is zeros.
  """
  batch, *shape, channels = x.shape
  grid = grid_of(shape, size)
  missing = [(0, g * p - n) for g, p, n in zip(grid, size, shape, strict=True)]
  x = jnp.pad(x, [(0, 0), *missing, (0, 0)])
  pairs = [n for pair in zip(grid, size, strict=True) for n in pair]
  rank = len(shape)
  # (b, g0, p0, g1, p1, …, c) → (b, g0, g1, …, p0, p1, …, c)
  order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
  x = x.reshape(batch, *pairs, channels).transpose(order)
  return x.reshape(batch, math.prod(grid), -1)


def join(
  x: Float[_Any, 'b blocks voxels'], size, shape
) -> Float[Array, 'b *spatial c']:
  """The image (b, *shape, c) of which `split` made the blocks."""
  grid, rank = grid_of(shape, size), len(shape)
  x = x.reshape(len(x), *grid, *size, -1)
  # (b, g0, g1, …, p0, p1, …, c) → (b, g0, p0, g1, p1, …, c)
  pairs = [a for i in range(rank) for a in (1 + i, 1 + rank + i)]
  x = x.transpose(0, *pairs, 2 * rank + 1)
  whole = [g * p for g, p in zip(grid, size, strict=True)]
  x = x.reshape(len(x), *whole, -1)
  return x[(slice(None), *(slice(n) for n in shape))]
