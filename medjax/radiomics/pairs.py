"""All pairs of a list of points, a block of them at a time."""

import jax
import jax.numpy as jnp

BLOCK = 64


def compacted(chosen):
  """Where the chosen of points (P,) are in a list of all; how many they are."""
  size = chosen.size
  place = jnp.cumsum(chosen, dtype=jnp.int32) - 1
  source = jnp.zeros(size + BLOCK, jnp.int32)
  source = source.at[jnp.where(chosen, place, size)].set(
    jnp.arange(size, dtype=jnp.int32)
  )
  return source, chosen.sum(dtype=jnp.int32)


def blocks(count):
  """How many blocks so many points are."""
  return (count + BLOCK - 1) // BLOCK


def block(source, count, i):
  """What block i has of a compacted list: places, and which of them are one."""
  within = i * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)
  return jax.lax.dynamic_slice(source, (i * BLOCK,), (BLOCK,)), within < count


def reduced(columns, source, count, function, combine, start):
  """Combines `function(a, b, valid)` of blocks of points over all i ≤ j.

  columns: (C, P), of which `source` tells `count` points. a is (C, block, 1), b
  (C, 1, block), and valid (block, block) says which pairs are of two points,
  each pair once.
  """
  within = jnp.arange(BLOCK, dtype=jnp.int32)
  number = blocks(count)

  def rows(i, found):
    a = columns[:, block(source, count, i)[0], None]

    def column(j, found):
      at, valid = block(source, count, j)
      valid &= i * BLOCK + within[:, None] < j * BLOCK + within
      return combine(found, function(a, columns[:, None, at], valid))

    return jax.lax.fori_loop(i, number, column, found)

  return jax.lax.fori_loop(0, number, rows, start)
