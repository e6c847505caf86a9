"""How features hold when the outline is drawn a little otherwise."""

import numpy as np
import scipy.spatial
from scipy import ndimage

from medjax.radiomics.agreement import one_way

KINDS = ('dilate', 'erode', 'shift', 'supervoxels')
_MARGIN = 4  # voxels around the region that may join it
_VOXELS = 16  # of a supervoxel


def perturbed(mask, spacing, *, seed, image=None, kind=None):
  """The mask (x, y, z) with another outline, always the same for a seed.

  dilate, erode: by up to 1.5 voxels, of the smallest side. shift: by up to a
  voxel along each axis. supervoxels: voxels near each other and alike in
  `image` form groups, each of which is in the mask by chance, as much of it as
  was before (Zwanenburg 2019, Sci Rep 9:614). By default the seed chooses.
  """
  kind = KINDS[seed % len(KINDS)] if kind is None else kind
  rng = np.random.default_rng((seed, 7))
  ends = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {a}))) for a in range(3)]
  inner = tuple(
    slice(max(0, e[0] - _MARGIN), e[-1] + 1 + _MARGIN) for e in ends
  )
  box = mask[inner].astype(bool)
  if kind == 'supervoxels':
    found = _supervoxels(box, image[inner], np.asarray(spacing), rng)
  else:
    found = _moved(box, np.asarray(spacing), kind, rng)
  out = np.zeros(mask.shape, bool)
  out[inner] = found if found.any() else box
  return out


def _moved(box, spacing, kind, rng):
  """By the signed distance to the outline, in mm; inside it is above 0."""
  wide = np.pad(box, 1)
  within = ndimage.distance_transform_edt(wide, sampling=spacing)
  without = ndimage.distance_transform_edt(~wide, sampling=spacing)
  depth = np.where(
    wide, within - spacing.min() / 2, spacing.min() / 2 - without
  )
  by = rng.uniform(0.5, 1.5) * spacing.min()
  if kind == 'shift':
    depth = ndimage.shift(depth, rng.uniform(-1, 1, 3), order=1, mode='nearest')
    by = 0
  level = -by if kind == 'dilate' else by
  return (depth > level)[1:-1, 1:-1, 1:-1]


def _supervoxels(box, image, spacing, rng):
  at = np.stack(np.indices(box.shape), -1).reshape(-1, 3) * spacing
  side = np.cbrt(_VOXELS * spacing.prod())
  values = image.reshape(-1).astype(float)
  spread = values[box.ravel()].std() or 1.0
  points = np.concatenate([at / side, values[:, None] / spread], 1)
  seeds = rng.choice(len(points), max(2, len(points) // _VOXELS), replace=False)
  _, group = scipy.spatial.cKDTree(points[seeds]).query(points)
  count = np.bincount(group, minlength=len(seeds))
  inside = np.bincount(group, box.ravel(), minlength=len(seeds))
  kept = rng.random(len(seeds)) < inside / np.maximum(count, 1)
  return kept[group].reshape(box.shape)


def agreement(rows):
  """[{feature, icc, low, high, n}] over rows with `_perturbed` values.

  Of a region with as many values as any has; a feature's interval is of 95 %.
  """
  rows = [r for r in rows if r.get('_perturbed')]
  if not rows:
    return []
  most = max(len(r['_perturbed']) for r in rows)
  rows = [r for r in rows if len(r['_perturbed']) == most]
  found = []
  for feature in rows[0]['_perturbed'][0]:
    values = np.array(
      [[r[feature], *(p[feature] for p in r['_perturbed'])] for r in rows],
      float,
    )
    values = values[np.isfinite(values).all(1)]
    icc, low, high = one_way(values)
    about = {'feature': feature, 'icc': icc, 'low': low, 'high': high}
    found.append(about | {'n': len(values)})
  return found
