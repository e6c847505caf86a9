"""All pairs of a list of points, a block of them at a time."""

import jax
import jax.numpy as jnp

_BLOCK = 128


def compacted(columns, chosen):
  """The chosen of columns (C, P) moved to the front, and how many they are."""
  size = chosen.size
  place = jnp.where(chosen, jnp.cumsum(chosen) - 1, size)
  room = -(-size // _BLOCK) * _BLOCK
  found = jnp.zeros((columns.shape[0], room + 1), columns.dtype)
  found = found.at[:, jnp.where(chosen, place, room)].set(columns)
  return found[:, :room], chosen.sum()


def reduced(columns, count, function, combine, start):
  """Combines `function(a, b, valid)` of blocks of points over all i ≤ j.

  columns: (C, P), of which the first `count` are points. a is (C, block, 1), b
  (C, 1, block), and valid (block, block) says which pairs are of two points,
  each pair once.
  """
  blocks = (count + _BLOCK - 1) // _BLOCK
  within = jnp.arange(_BLOCK)

  def block(i):
    return jax.lax.dynamic_slice(
      columns, (0, i * _BLOCK), (columns.shape[0], _BLOCK)
    )

  def rows(i, found):
    a = block(i)[:, :, None]

    def column(j, found):
      first, second = i * _BLOCK + within[:, None], j * _BLOCK + within
      valid = (first < second) & (second < count)
      return combine(found, function(a, block(j)[:, None], valid))

    return jax.lax.fori_loop(i, blocks, column, found)

  return jax.lax.fori_loop(0, blocks, rows, start)
