"""How large a structure is: diameters by the corners of its voxels, mm."""

from typing import NamedTuple

import numpy as np
from scipy import spatial


class Diameters(NamedTuple):
  """The longest diameter in an axial slice, and that across it.

  longest, across: mm; slice: its index along `axis` of the grid.
  """

  longest: float
  across: float
  slice: int
  axis: int


def axial_diameters(mask, affine, spacing):
  """The `Diameters` of a mask (x, y, z).

  Slices are those of the grid that are nearest to axial. The longest diameter
  is that between two corners of voxels in one slice, as a ruler laid across
  the pixels. Across it is the longest chord of the slice's convex hull at a
  right angle. NaN where the mask is empty.
  """
  # By direction: thick slices go far down, however little they are tilted.
  axis = int((np.abs(affine[2, :3]) / np.asarray(spacing)).argmax())
  across = [a for a in range(3) if a != axis]
  slices = np.moveaxis(mask, axis, 0)
  best = Diameters(np.nan, np.nan, -1, axis)
  for k in np.flatnonzero(slices.any((1, 2))):
    hull = _hull(_corners(slices[k]), np.asarray(spacing)[across])
    away = spatial.distance.cdist(hull, hull)
    i, j = np.unravel_index(away.argmax(), away.shape)
    if not away[i, j] <= best.longest:
      along = (hull[j] - hull[i]) / away[i, j]
      best = Diameters(away[i, j], _chord(hull, along), int(k), axis)
  return best


def feret(mask, spacing):
  """The largest distance of two corners of voxels, in 3-D; NaN of none."""
  if not mask.any():
    return np.nan
  hull = _hull(_corners(mask), spacing)
  return float(spatial.distance.cdist(hull, hull).max())


def _corners(mask):
  """Indices (n, d) of corners of voxels; voxel 0 has corners 0 and 1."""
  found = np.zeros([n + 1 for n in mask.shape], bool)
  for at in np.ndindex(*[2] * mask.ndim):
    found[
      tuple(slice(o, o + n) for o, n in zip(at, mask.shape, strict=True))
    ] |= mask
  return np.argwhere(found)


def _hull(points, spacing):
  """The vertices of the convex hull, in mm; in 2-D in order."""
  points = points * np.asarray(spacing, float)
  return points[spatial.ConvexHull(points).vertices]


def _chord(hull, along):
  """The longest chord of a convex polygon (n, 2) at right angles to `along`.

  Its length is concave between vertices, so that one of them has it.
  """
  t = hull @ along
  s = hull @ np.array([-along[1], along[0]])
  t1, s1 = np.roll(t, -1), np.roll(s, -1)
  longest = 0.0
  for at in t:
    crosses = (np.minimum(t, t1) <= at) & (at <= np.maximum(t, t1))
    gap = np.where(t1 == t, 1.0, t1 - t)
    share = np.where(t1 == t, 0.0, (at - t) / gap)
    where = (s + share * (s1 - s))[crosses]
    longest = max(longest, float(where.max() - where.min()))
  return longest
