"""Points to aim at in a structure."""

import numpy as np
from scipy import ndimage


def points_in(mask, spacing, count):
  """Up to `count` points (n, 3), mm on the grid, deep within a mask.

  The deepest voxel first, then the voxel farthest from those before it, and so
  on, among voxels at least half as deep as the deepest.
  """
  deep = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
  deep = deep[1:-1, 1:-1, 1:-1]
  voxels = np.argwhere(deep >= 0.5 * deep.max())
  depth = deep[tuple(voxels.T)]
  points = voxels * np.asarray(spacing)
  chosen = [int(depth.argmax())]
  nearest = np.full(len(points), np.inf)
  while len(chosen) < min(count, len(points)):
    away = ((points - points[chosen[-1]]) ** 2).sum(-1)
    nearest = np.minimum(nearest, away)
    if nearest.max() == 0:
      break
    chosen.append(int(nearest.argmax()))
  return points[chosen]


def farthest_apart(points, order, count, apart):
  """Up to `count` indices in `order` whose points are at least `apart` mm off.

  points: (n, d). What is best comes first, and what is like it is left out.
  """
  chosen = []
  for i in order:
    if len(chosen) == count:
      break
    away = points[chosen] - points[i]
    if not chosen or (np.linalg.norm(away, axis=-1) >= apart).all():
      chosen.append(int(i))
  return chosen
