"""Connected zones of one grey level: by size, and by distance to the border."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from medjax.radiomics import lattice


def labelled(levels, beside, *, planar):
  """The first place (P,) of the zone each voxel is in; P where none counts.

  Zones touch by faces, edges or corners. Labels spread to neighbours, and then
  each takes that of its label, so that long zones are done in few rounds.
  """
  size = levels.size
  links = lattice.around(beside, planar)
  same = (levels > 0) & (levels == lattice.taken(levels, links, 0))
  links = jnp.where(same, links, size)
  start = jnp.where(levels > 0, jnp.arange(size, dtype=jnp.int32), size)

  def spread(state):
    label, _ = state
    least = jnp.minimum(label, lattice.taken(label, links, size).min(0))
    # The root of a zone that met a smaller one follows it.
    table = jnp.append(label, size)
    table = table.at[label].min(least, mode='promise_in_bounds')
    table = jnp.minimum(table, jnp.append(least, size))
    table = table[table]
    table = table[table]
    return table[:size], jnp.any(table[:size] != label)

  return jax.lax.while_loop(lambda s: s[1], spread, (start, jnp.array(True)))[0]


def distances(mask, beside, *, planar):
  """Steps (P,) from each voxel to the nearest outside of a mask: 1 at its edge.

  Steps go through faces; in 2-D those of a slice.
  """
  faces = lattice.index_of(np.eye(3, dtype=int)[: 2 if planar else 3])
  beside = beside[np.concatenate([faces, 26 - faces])]

  def erode(state):
    left, found = state
    inner = left & lattice.taken(left, beside, False).all(0)
    return inner, found + inner

  start = mask, mask.astype(jnp.int32)
  return jax.lax.while_loop(lambda s: s[0].any(), erode, start)[1]


def sizes(size):
  """How many different sizes the zones of `size` voxels can have."""
  return math.isqrt(2 * size) + 2


def counts(label, levels, z, distance, *, num_levels, longest, slices=1):
  """Zones by level and size (slices, 1, G, K), size (K,), and by distance.

  Few of all sizes occur, so columns are those that do. distance: (P,) of each
  voxel, or None for no matrix of distances, (slices, 1, G, longest).
  """
  size = levels.size
  place = jnp.arange(size, dtype=jnp.int32)
  root = label == place
  voxels = lattice.counts(label, size)
  occurs = jnp.zeros(size + 1, jnp.int32)
  occurs = occurs.at[jnp.where(root, voxels, 0)].set(1).at[0].set(0)
  rank, most = jnp.cumsum(occurs) - 1, sizes(size)
  column = jnp.where(root, rank[voxels], 0)
  width = jnp.zeros(most, jnp.int32).at[column].max(jnp.where(root, voxels, 0))
  row = z * num_levels + levels - 1
  by_size = lattice.counts(
    jnp.where(root, row * most + column, -1), slices * num_levels * most
  ).reshape(slices, 1, num_levels, most)
  if distance is None:
    return by_size, width, None
  far = jnp.iinfo(jnp.int32).max
  nearest = (
    jnp.full(size + 1, far)
    .at[label]
    .min(jnp.where(label < size, distance, far), mode='promise_in_bounds')
  )
  by_distance = lattice.counts(
    jnp.where(root, row * longest + nearest[:size] - 1, -1),
    slices * num_levels * longest,
  ).reshape(slices, 1, num_levels, longest)
  return by_size, width, by_distance
