"""HD95, NSD and Dice of mask pairs: medjax against MONAI, equal values.

Masks: real hippocampi against themselves moved, where MSD Task04 is prepared
(else ellipsoids of their size), a 128³ organ, a tiny and an empty one.
"""

import functools

import harness
import numpy as np

from medjax.metrics import surface

SPACING = (1.0, 1.0, 1.5)
TOLERANCE = 2.0


def ellipsoid(shape, radii, shift=0.0):
  """A filled ellipsoid in the middle of a grid, moved by `shift` voxels."""
  grid = np.indices(shape).astype(np.float32)
  r2 = sum(
    ((g - n / 2 - shift) / r) ** 2
    for g, n, r in zip(grid, shape, radii, strict=True)
  )
  return r2 <= 1


def hippocampi(count=8):
  """(prediction, reference) pairs of real label maps, one class each."""
  from medjax.data import records

  try:
    cases = records.open_split('msd/hippocampus', 'fold0')
  except (FileNotFoundError, ValueError):
    one = ellipsoid((36, 50, 36), (8, 16, 7))
    return [(np.roll(one, i % 3, 1), one) for i in range(count)]
  masks = [cases[i]['mask'] > 0 for i in range(count)]
  return [(np.roll(m, i % 3, 1), m) for i, m in enumerate(masks)]


PAIRS = {
  'hippocampus x8': hippocampi,
  'organ 128³': lambda: [
    (
      ellipsoid((128,) * 3, (40, 30, 35), 2),
      ellipsoid((128,) * 3, (38, 33, 35)),
    )
  ],
  'tiny 128³': lambda: [
    (ellipsoid((128,) * 3, (2, 2, 2), 1), ellipsoid((128,) * 3, (2, 2, 2)))
  ],
  'empty 128³': lambda: [
    (np.zeros((128,) * 3, bool), ellipsoid((128,) * 3, (20, 20, 20)))
  ],
}


def ours(pairs):
  """[(HD95, NSD, Dice)] of every pair."""
  results = []
  for p, r in pairs:
    d = surface.surface_distances(p, r, spacing=SPACING)
    dice = 2 * (p & r).sum() / max(p.sum() + r.sum(), 1)
    results.append((surface.hd95(d), surface.nsd(d, tolerance=TOLERANCE), dice))
  return results


def monai(pairs):
  """The same with MONAI's functions, as its users call them."""
  import torch
  from monai import metrics

  results = []
  for p, r in pairs:
    p, r = (torch.from_numpy(m)[None, None].float() for m in (p, r))
    keep = dict(include_background=True)
    hd = metrics.compute_hausdorff_distance(
      p, r, percentile=95, spacing=SPACING, **keep
    )
    nsd = metrics.compute_surface_dice(
      p, r, class_thresholds=[TOLERANCE], spacing=SPACING, **keep
    )
    dice = metrics.compute_dice(p, r, **keep)
    results.append(tuple(float(x) for x in (hd, nsd, dice)))
  return results


def agree(pairs):
  """Raises unless both give the same values (where both are defined)."""
  a, b = np.array(ours(pairs)), np.array(monai(pairs))
  both = np.isfinite(a) & np.isfinite(b)
  np.testing.assert_allclose(a[both], b[both], rtol=1e-4, atol=1e-4)


def case(name):
  """The case of one kind of mask."""
  load = functools.cache(PAIRS[name])

  def peer():
    agree(load())
    return lambda: monai(load())

  return harness.Case(
    name,
    {harness.OURS: lambda: lambda: ours(load()), 'monai': peer},
    aim=0.5,
  )


if __name__ == '__main__':
  harness.main('HD95 + NSD + Dice', [case(name) for name in PAIRS], rounds=9)
