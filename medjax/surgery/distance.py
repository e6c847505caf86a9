"""Distances to structures: exact fields on the grid, and bounds between it.

A structure is the set of the centres of its voxels, and its surface lies half a
voxel beyond them. D is the exact Euclidean distance from the centre of every
voxel to the nearest of those centres (Maurer 2003; SciPy's), on grids of any
spacing. Between centres, two things are computed of the eight D around a point:

- the estimate, D interpolated;
- a lower bound that holds always: D² of one centre is a quadratic function, so
  that its trilinear interpolation exceeds it by exactly V = Σ h² t (1 - t), h
  the spacing and t the place within the cell. The D² of a set is the smallest
  of such functions, hence interpolated D² - V is never above D².

Between two samples of a line a step δ apart, V is δ² t (1 - t) for the same
reason: what lies between samples is bounded, too.
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

FAR = 40.0  # mm; what is farther is not told apart
UNIT = 1 / 128  # mm, in which distances are stored, rounded down
_MOST = 2**24  # nodes of a stored field: 16 bytes each


class Field(NamedTuple):
  """The distances to a structure, as a compiled program reads them.

  corners: (n, 8) uint16, of each cell those of its corners, in UNIT.
  half: (n,) float32, mm: half a voxel towards the nearest centre, the most as
    seen from the corners of the cell.
  size: cells along each axis (3,).
  step: mm between nodes (3,).
  """

  corners: jnp.ndarray
  half: jnp.ndarray
  size: jnp.ndarray
  step: jnp.ndarray


def to_centres(mask, spacing):
  """(D, half) float32 of a mask (x, y, z): D, and half a voxel towards it.

  `half` is that of the ellipsoid in a voxel in the direction of the nearest
  centre. Infinite D where the mask is empty.
  """
  if not mask.any():
    return (
      np.full(mask.shape, np.inf, np.float32),
      np.full(mask.shape, np.mean(spacing) / 2, np.float32),
    )
  distance, sites = ndimage.distance_transform_edt(
    ~mask, sampling=spacing, return_indices=True
  )
  squares = np.zeros(mask.shape, np.float32)
  for axis, size in enumerate(spacing):
    index = np.arange(mask.shape[axis]).reshape(
      [-1 if a == axis else 1 for a in range(3)]
    )
    squares += ((sites[axis] - index) * np.float32(size**2)) ** 2
  distance = distance.astype(np.float32)
  with np.errstate(invalid='ignore', divide='ignore'):
    half = np.sqrt(squares) / distance / 2
  half = np.where(distance > 0, half, np.min(spacing) / 2)
  return distance, half.astype(np.float32)


def field(mask, spacing):
  """The `Field` of a mask (x, y, z), of every second node and so on if large.

  Fewer nodes loosen the bound and never break it.
  """
  distance, half = to_centres(mask, spacing)
  stride = 1
  while np.prod([-(-n // stride) for n in mask.shape]) > _MOST:
    stride += 1
  if stride > 1:
    # Nodes must reach the last voxel: beyond it, distances grow no faster
    # than the way there.
    width = [(0, (-(n - 1)) % stride) for n in mask.shape]
    distance = np.pad(distance, width, mode='edge')
    beyond = [
      np.maximum(np.arange(d) - n + 1, 0) * h
      for d, n, h in zip(distance.shape, mask.shape, spacing, strict=True)
    ]
    way = np.sqrt(sum(x**2 for x in np.ix_(*beyond)))
    distance = np.maximum(distance - way, 0)[(slice(None, None, stride),) * 3]
    half = np.pad(half, width, mode='edge')[(slice(None, None, stride),) * 3]
  half = ndimage.maximum_filter(half, 2, origin=-1)
  units = np.floor(np.minimum(distance, FAR) / UNIT).astype(np.uint16)
  corners = np.stack(
    [
      units[
        tuple(slice(o, n - 1 + o) for o, n in zip(at, units.shape, strict=True))
      ]
      for at in np.ndindex(2, 2, 2)
    ],
    -1,
  )
  return Field(
    jnp.asarray(corners.reshape(-1, 8)),
    jnp.asarray(half[:-1, :-1, :-1].ravel().astype(np.float32)),
    jnp.asarray(corners.shape[:3], jnp.int32),
    jnp.asarray(np.multiply(spacing, stride), jnp.float32),
  )


def cell(where, points):
  """(row of the cell, place in it (…, 3)) of points in mm on the grid.

  Points off the grid count as at its border, and how far off in mm is the
  third: by as much their distances may be smaller.
  """
  at = points / where.step
  last = where.size.astype(at.dtype)
  inside = jnp.clip(at, 0.0, last)
  index = jnp.clip(jnp.floor(inside).astype(jnp.int32), 0, where.size - 1)
  row = (index[..., 0] * where.size[1] + index[..., 1]) * where.size[2]
  off = jnp.abs((at - inside) * where.step).sum(-1)
  return row + index[..., 2], inside - index, off


def around(where, points):
  """(estimate, square of the lower bound, row) of D at points (…, 3), mm.

  Both are of the distance to centres of voxels.
  """
  row, t, off = cell(where, points)
  eight = where.corners.at[row].get(mode='promise_in_bounds')
  eight = eight.astype(jnp.float32) * UNIT
  weights = _weights(t)
  estimate, square = 0.0, 0.0
  for k, weight in enumerate(weights):
    value = eight[..., k]
    estimate += weight * value
    square += weight * value * value
  square -= (where.step**2 * t * (1 - t)).sum(-1)
  square = jnp.maximum(square, 0.0)
  # Off the grid, which is rare, the bound is less by as much.
  bound = jnp.where(
    off > 0, jnp.maximum(jnp.sqrt(square + 1e-12) - off, 0) ** 2, square
  )
  return jnp.maximum(estimate - off, 0.0), bound, row


def _weights(t):
  x, y, z = t[..., 0], t[..., 1], t[..., 2]
  return [
    (x if i else 1 - x) * (y if j else 1 - y) * (z if k else 1 - z)
    for i, j, k in np.ndindex(2, 2, 2)
  ]


def between(squares, step):
  """The least square of a distance along a line: samples (…, n) step (…) apart.

  A bound below what lies between two samples: see the module.
  """
  a, b = squares[..., :-1], squares[..., 1:]
  bend = (step**2)[..., None]
  t = jnp.clip(0.5 - (b - a) / (2 * jnp.maximum(bend, 1e-12)), 0.0, 1.0)
  least = (1 - t) * a + t * b - bend * t * (1 - t)
  return jnp.maximum(least, 0.0)


def segment_to_points(start, end, points):
  """(least distance, the point it is to) of a segment and points (n, 3).

  Exact; float64 on the host.
  """
  along = end - start
  square = along @ along
  t = np.zeros(len(points))
  if square > 0:
    t = np.clip((points - start) @ along / square, 0, 1)
  away = points - (start + t[:, None] * along)
  squares = (away**2).sum(-1)
  least = int(squares.argmin())
  return float(np.sqrt(squares[least])), away[least]


def half_towards(away, spacing):
  """Half a voxel in a direction, mm; the least of the axes where it is 0."""
  length = np.linalg.norm(away)
  if length == 0:
    return float(np.min(spacing) / 2)
  return float(np.linalg.norm(away / length * spacing) / 2)


def surface_centres(mask, spacing):
  """Centres (n, 3), mm on the grid, of the voxels at the border of a mask."""
  inner = ndimage.binary_erosion(mask)
  return np.argwhere(mask & ~inner) * np.asarray(spacing)


def proven(line, mask, centres, spacing):
  """Clearance of a line (n, 3) to a mask by brute force, mm.

  Of every segment and all `surface_centres` of the mask: the exact distance to
  the centre, less half a voxel in that direction; 0 where the line hits.
  Infinite for an empty mask.
  """
  line = np.asarray(line, float)
  near = np.ones(len(centres), bool)
  for axis in range(3):
    low, high = line[:, axis].min() - FAR - 9, line[:, axis].max() + FAR + 9
    near &= (centres[:, axis] >= low) & (centres[:, axis] <= high)
  centres, least = centres[near], np.inf
  for start, end in itertools.pairwise(line):
    # Deep within a structure, its border is far.
    count = int(np.linalg.norm(end - start) / np.min(spacing) * 2) + 2
    index = np.rint(np.linspace(start, end, count) / spacing).astype(int)
    index = np.clip(index, 0, np.array(mask.shape) - 1)
    if mask[tuple(index.T)].any():
      return 0.0
    if near.any():
      found, away = segment_to_points(start, end, centres)
      least = min(least, found - half_towards(away, spacing))
  return max(0.0, least)
