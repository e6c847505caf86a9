"""All pairs of a list of points, a block of them at a time."""

import jax
import jax.numpy as jnp

_BLOCK = 64


def compacted(columns, chosen):
  """The chosen of columns (C, P) moved to the front, and how many they are."""
  size = chosen.size
  room = -(-size // _BLOCK) * _BLOCK
  place = jnp.where(chosen, jnp.cumsum(chosen, dtype=jnp.int32) - 1, room)
  source = jnp.zeros(room + 1, jnp.int32)
  source = source.at[place].set(jnp.arange(size, dtype=jnp.int32))
  return columns[:, source[:room]], chosen.sum(dtype=jnp.int32)


def reduced(columns, count, function, combine, start, *, along=None):
  """Combines `function(a, b, valid)` of blocks of points over all i ≤ j.

  columns: (C, P), of which the first `count` are points. a is (C, block, 1), b
  (C, 1, block), and valid (block, block) says which pairs are of two points,
  each pair once. along: only pairs that are alike in this column are asked
  for, by half of which the points are in order: 2 p and 2 p + 1 may alternate.
  """
  blocks = (count + _BLOCK - 1) // _BLOCK
  within = jnp.arange(_BLOCK, dtype=jnp.int32)

  def block(i):
    return jax.lax.dynamic_slice_in_dim(columns, i * _BLOCK, _BLOCK, axis=1)

  def rows(i, found):
    a = block(i)
    last = None if along is None else a[along, -1] | 1

    def more(state):
      j, _ = state
      if along is None:
        return j < blocks
      full = (i + 1) * _BLOCK <= count
      near = columns[along, jnp.minimum(j * _BLOCK, count - 1)] <= last
      return (j < blocks) & ((j == i) | (near & full))

    def column(state):
      j, found = state
      first, second = i * _BLOCK + within[:, None], j * _BLOCK + within
      valid = (first < second) & (second < count)
      b = block(j)[:, None]
      return j + 1, combine(found, function(a[:, :, None], b, valid))

    return jax.lax.while_loop(more, column, (i, found))[1]

  return jax.lax.fori_loop(0, blocks, rows, start)
