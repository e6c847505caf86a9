"""Voxels of a box as one list, in which a neighbour is a number of places on.

A region of interest is cut out with one empty voxel around it, its box is
written as a list, and the list filled up: then boxes of every shape that hold
about as many voxels run through one compiled program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# One of each pair of opposite neighbours; the first four lie in a slice.
DIRECTIONS = (
  (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, -1, 0),
  (0, 0, 1), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1),
  (1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1),
)  # fmt: skip


class Box(NamedTuple):
  """A region in its box, as lists of P voxels; slices are along the last axis.

  values: (P,) intensities. mask: (P,) bool, the voxels whose intensities count.
  shape: (P,) bool, the region itself, before outliers were taken out of it.
  inside: (P,) bool, the voxels that the image has. dims: (3,) int32 of the box,
  whose outermost voxels are in no mask. spacing: (3,) mm. around: (8,) the
  bodies around the region (`hull.bodies`), NaN where nobody asks for them.
  """

  values: jax.Array
  mask: jax.Array
  shape: jax.Array
  inside: jax.Array
  dims: jax.Array
  spacing: jax.Array
  around: jax.Array


def directions(planar):
  """The 13 directions of space, or the 4 of a slice: (n, 3) int32."""
  return jnp.array(DIRECTIONS[:4] if planar else DIRECTIONS, jnp.int32)


def each(function, dims, planar):
  """Stacks `function(places to the neighbour)` of all directions.

  A loop, so that a program holds the function once, and not 13 times.
  """
  return jax.lax.map(lambda d: function(offset(d, dims)), directions(planar))


def summed(function, start, dims, planar):
  """Adds `function(places)` over both ways of all directions to a tree."""
  ways = directions(planar)
  ways = jnp.concatenate([ways, -ways])

  def add(i, total):
    found = function(offset(ways[i], dims))
    return jax.tree.map(jnp.add, total, found)

  return jax.lax.fori_loop(0, len(ways), add, start)


def offset(direction, dims):
  """How many places further in the list a neighbour is."""
  x, y, z = direction
  return (x * dims[1] + y) * dims[2] + z


def shifted(values, places):
  """The list of what lies `places` further on; its end goes on at its start.

  No voxel of a mask reads past an end: the box is empty around it.
  """
  size = values.shape[0]
  twice = jnp.concatenate([values, values])
  return jax.lax.dynamic_slice(twice, (places % size,), (size,))


def coordinates(dims, size):
  """x, y and z of each voxel, three (P,) int32."""
  place = jnp.arange(size, dtype=jnp.int32)
  plane = dims[1] * dims[2]
  return place // plane, place % plane // dims[2], place % dims[2]


def counts(index, size, weights=None):
  """How often each number below `size` is in `index`; others are left out.

  Integers are added: XLA is ten times slower with floats. Float weights go.
  """
  index = jnp.where((index >= 0) & (index < size), index, size)
  weights = jnp.int32(1) if weights is None else weights
  found = jnp.zeros(size + 1, weights.dtype)
  return found.at[index].add(weights, mode='promise_in_bounds')[:size]
