"""Voxels of a region as one list, and where in it their neighbours are.

The list has the region's voxels only, which are a fifth of its box, and is
filled up: then regions of every shape that have about as many voxels run
through one compiled program. What lies beside a voxel is a gather.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# One of each pair of opposite neighbours; the first four lie in a slice.
DIRECTIONS = (
  (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, -1, 0),
  (0, 0, 1), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1),
  (1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1),
)  # fmt: skip
# The 27 steps to a voxel and all around it, in the order of `beside`.
STEPS = np.array(list(np.ndindex(3, 3, 3))) - 1


class Box(NamedTuple):
  """A region as lists of P voxels; slices are along the last axis.

  values: (P,) intensities. shape: (P,) bool, whether there is a voxel, or the
  list is filled up. mask: (P,) bool, the voxels whose intensities count, fewer
  where outliers were taken out. place: (3, P) int32 of a voxel in its box.
  beside: (27, P) int32, the place in the list of each neighbour, P for none.
  spacing: (3,) mm. around: (8,) the bodies around the region (`hull.bodies`),
  and peaks: (2,) of intensity (`peaks.peaks`), NaN where nobody asks.
  """

  values: jax.Array
  shape: jax.Array
  mask: jax.Array
  place: jax.Array
  beside: jax.Array
  spacing: jax.Array
  around: jax.Array
  peaks: jax.Array


def listed(mask, size):
  """On the host: (place (3, size), beside (27, size)) of a mask (x, y, z).

  Its outermost voxels are in no mask.
  """
  at = np.flatnonzero(mask)
  where = np.full(mask.size, size, np.int32)
  where[at] = np.arange(len(at))
  strides = np.array([mask.shape[1] * mask.shape[2], mask.shape[2], 1])
  place = np.zeros((3, size), np.int32)
  place[:, : len(at)] = np.unravel_index(at, mask.shape)
  beside = np.full((27, size), size, np.int32)
  beside[:, : len(at)] = where[at + (STEPS @ strides)[:, None]]
  return place, beside


def index_of(step):
  """Where a step, or several (…, 3), is among `STEPS`."""
  return (np.asarray(step) + 1) @ (9, 3, 1)


def ahead(beside, planar):
  """Neighbours (n, P), one of each opposite pair: 13, or 4 of a slice."""
  return beside[index_of(DIRECTIONS[:4] if planar else DIRECTIONS)]


def behind(beside, planar):
  """The opposite ones of `ahead`."""
  return beside[26 - index_of(DIRECTIONS[:4] if planar else DIRECTIONS)]


def around(beside, planar):
  """All neighbours (n, P): 26, or 8 of a slice."""
  return jnp.concatenate([ahead(beside, planar), behind(beside, planar)])


def taken(values, places, beyond):
  """Values (P,) at places of the list, and `beyond` where there is none."""
  values = jnp.append(values, jnp.asarray(beyond, values.dtype))
  return values.at[places].get(mode='promise_in_bounds')


def counts(index, size, weights=None):
  """How often (…, size) each number below `size` is in an index (…, P).

  Others are left out. Float weights (P,) are added in place of 1.
  """
  rows = math.prod(index.shape[:-1])
  first = size * jnp.arange(rows, dtype=jnp.int32)[:, None]
  flat = index.reshape(rows, -1)
  flat = jnp.where((flat >= 0) & (flat < size), flat + first, rows * size)
  weights = jnp.int32(1) if weights is None else weights
  found = jnp.zeros(rows * size + 1, weights.dtype)
  found = found.at[flat].add(weights, mode='promise_in_bounds')
  return found[:-1].reshape(*index.shape[:-1], size)
