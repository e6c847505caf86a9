"""A voxel and those around it: grey tone difference, and dependence."""

import jax.numpy as jnp

from medjax.radiomics import lattice


def counts(levels, beside, z, *, num_levels, planar, slices=1, lonely=False):
  """Counts (slices, 1, G), differences (slices, 1, G), dependences (…, G, 27).

  The first two are of the neighbourhood grey tone difference matrix. A voxel
  without neighbours is not in it, or with `lonely` is, with a difference of 0.
  """
  mask = levels > 0
  other = lattice.taken(levels, lattice.around(beside, planar), 0)
  number = (other > 0).sum(0, dtype=jnp.int32)
  equal = (other == levels).sum(0, dtype=jnp.int32)
  row, size = z * num_levels + levels - 1, slices * num_levels
  counted = mask if lonely else mask & (number > 0)
  average = other.sum(0) / jnp.maximum(number, 1).astype(jnp.result_type(float))
  difference = jnp.where(counted & (number > 0), jnp.abs(levels - average), 0)
  place = jnp.where(counted, row, -1)
  n = lattice.counts(place, size)
  s = lattice.counts(place, size, difference)
  dependence = lattice.counts(jnp.where(mask, row * 27 + equal, -1), size * 27)
  shape = (slices, 1, num_levels)
  return n.reshape(shape), s.reshape(shape), dependence.reshape(*shape, 27)


def tone_features(n, s):
  """{name: (m,)} of counts and sums of differences (m, G) (IBSI, 3.10)."""
  dtype = jnp.result_type(float)
  level = jnp.arange(1, n.shape[1] + 1, dtype=dtype)
  total = jnp.maximum(n.sum(1), 1).astype(dtype)
  p = n / total[:, None]
  there = n > 0
  present = there.sum(1)
  both = there[:, :, None] & there[:, None]
  apart = level[:, None] - level
  ip, ps, all_s = level * p, p * s, s.sum(1)
  busy = jnp.where(both, jnp.abs(ip[:, :, None] - ip[:, None]), 0).sum((1, 2))
  pair = jnp.where(both, p[:, :, None] + p[:, None], 1)
  complexity = jnp.where(
    both, jnp.abs(apart) * (ps[:, :, None] + ps[:, None]) / pair, 0
  ).sum((1, 2))
  strength = jnp.where(both, pair * apart**2, 0).sum((1, 2))
  spread = 2 * ((p @ level**2) - (p @ level) ** 2)
  several = jnp.maximum(present * (present - 1), 1)
  coarse = ps.sum(1)
  return {
    'coarseness': jnp.where(
      coarse > 0, 1 / jnp.where(coarse > 0, coarse, 1), 1e6
    ),
    'contrast': jnp.where(present > 1, spread / several * all_s / total, 0),
    'busyness': jnp.where(busy > 0, coarse / jnp.where(busy > 0, busy, 1), 0),
    'complexity': complexity / total,
    'strength': jnp.where(
      all_s > 0, strength / jnp.where(all_s > 0, all_s, 1), 0
    ),
  }
