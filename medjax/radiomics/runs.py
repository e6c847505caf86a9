"""Runs of one grey level along a line: the run-length matrix."""

import jax
import jax.numpy as jnp

from medjax.radiomics import lattice


def counts(levels, beside, z, *, num_levels, longest, planar, slices=1):
  """Runs (slices, directions, G, longest) by grey level and length.

  longest: at least as many voxels as the region is wide.
  """
  size, row = levels.size, (z * num_levels + levels - 1) * longest

  def same(places):
    return (levels > 0) & (levels == lattice.taken(levels, places, 0))

  follower = lattice.ahead(beside, planar)
  goes_on = same(follower)
  starts = (levels > 0) & ~same(lattice.behind(beside, planar))
  # How many steps a run goes on: each voxel adds what is known of the one it
  # points at and points as far as that, so that what is known doubles. All
  # directions are one list, each with a place that points at itself at its end.
  end = (size + 1) * jnp.arange(1, len(follower) + 1, dtype=jnp.int32) - 1
  first = end[:, None] - size
  follower = jnp.where(goes_on, follower + first, end[:, None])
  follower = jnp.concatenate([follower, end[:, None]], 1).ravel()
  steps = jnp.pad(goes_on, ((0, 0), (0, 1))).ravel().astype(jnp.int32)

  def double(state):
    steps, follower = state
    gather = dict(mode='promise_in_bounds')
    further = steps.at[follower].get(**gather)
    return steps + further, follower.at[follower].get(**gather)

  def unfinished(state):
    return state[0].at[state[1]].get(mode='promise_in_bounds').any()

  steps, _ = jax.lax.while_loop(unfinished, double, (steps, follower))
  steps = steps.reshape(len(end), size + 1)[:, :size]
  index = jnp.where(starts, row + steps, -1)
  found = lattice.counts(index, slices * num_levels * longest)
  return found.reshape(-1, slices, num_levels, longest).swapaxes(0, 1)
