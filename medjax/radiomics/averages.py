"""From counts by slice and direction to features: what is merged, and when."""

import jax.numpy as jnp

# How the standard writes them; a family without directions has the part before
# the first '_' only.
AGGREGATIONS = (
  '2D_avg',
  '2D_comb',
  '2.5D_avg',
  '2.5D_comb',
  '3D_avg',
  '3D_comb',
)


def planar(aggregation):
  """Whether neighbours are looked for within slices only."""
  return not aggregation.startswith('3D')


def merged(counts, aggregation):
  """Counts (slices, directions, …) as the matrices (n, …) of an aggregation."""
  if not aggregation.startswith('2D'):
    counts = counts.sum(0, keepdims=True)
  if aggregation.endswith('_comb'):
    counts = counts.sum(1, keepdims=True)
  return counts.reshape(-1, *counts.shape[2:])


def mean(features, matrices):
  """{name: mean over the matrices (n, …) that are not empty}."""
  there = matrices.reshape(matrices.shape[0], -1).sum(1) > 0
  return {
    name: jnp.where(there, value, 0).sum() / there.sum()
    for name, value in features.items()
  }


def entropy(counts, axes):
  """-Σ p log₂ p of whole numbers (…), of which p is the part of their sum.

  Of the numbers themselves, which needs one pass over them: Σ c log₂ c.
  """
  total = jnp.maximum(counts.sum(axes), 1).astype(jnp.result_type(float))
  weighed = counts * jnp.log2(jnp.maximum(counts, 1).astype(total.dtype))
  return jnp.log2(total) - weighed.sum(axes) / total
