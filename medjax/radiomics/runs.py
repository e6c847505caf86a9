"""Runs of one grey level along a line: the run-length matrix."""

import jax
import jax.numpy as jnp

from medjax.radiomics import lattice


def counts(levels, mask, dims, *, num_levels, longest, planar, slices=1):
  """Runs (slices, directions, G, longest) by grey level and length.

  longest: at least as many voxels as the region is wide.
  """
  z = lattice.coordinates(dims, levels.size)[2] if slices > 1 else 0
  row = (z * num_levels + levels - 1) * longest

  def of(places):
    same = mask & lattice.shifted(mask, places)
    same &= levels == lattice.shifted(levels, places)

    # How many steps the run goes on, doubling how far that is known for as
    # long as a run goes on that far.
    def double(state):
      steps, known = state
      further = lattice.shifted(steps, known * places)
      return jnp.where(steps == known, known + further, steps), 2 * known

    start = same.astype(jnp.int32), jnp.int32(1)
    steps, _ = jax.lax.while_loop(
      lambda state: (state[0] == state[1]).any(), double, start
    )
    starts = mask & ~lattice.shifted(same, -places)
    index = jnp.where(starts, row + steps, -1)
    found = lattice.counts(index, slices * num_levels * longest)
    return found.reshape(slices, num_levels, longest)

  return lattice.each(of, dims, planar).swapaxes(0, 1)
