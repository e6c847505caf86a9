"""The numbers that the figures of a survey draw."""

import collections
import dataclasses

import numpy as np

_BOXES = 30  # classes drawn
_DRAWN = 5000  # images


def geometry(surveyed, unit):
  """Panels for `figures.distributions`: shape and spacing by split."""
  rank = len(surveyed.read[0].shape)
  same = [c for c in surveyed.read if len(c.shape) == rank]
  only = dataclasses.replace(surveyed, cases=same)
  for axis in range(rank):
    yield (
      f'Shape, axis {axis}',
      'voxels',
      _by_split(only, lambda c, a=axis: c.shape[a]),
    )
  for axis in range(rank):
    yield (
      f'Spacing, axis {axis}',
      unit,
      _by_split(only, lambda c, a=axis: c.spacing[a]),
    )


def intensity(surveyed, channels):
  """Panels for `figures.distributions`: intensities by split and channel."""
  same = [c for c in surveyed.read if c.channels == channels]
  only = dataclasses.replace(surveyed, cases=same)
  for k in range(channels):
    of = f', channel {k}' if channels > 1 else ''
    levels = _by_split(only, lambda c, k=k: c.levels[k])
    pooled = {s: np.concatenate(v) for s, v in levels.items()}
    low, high = np.percentile(np.concatenate([*pooled.values()]), (0.5, 99.5))
    yield (
      f'All voxels{of}',
      'intensity, 0.5 to 99.5 %',
      {s: v[(v >= low) & (v <= high)] for s, v in pooled.items()},
    )
    inside = _by_split(only, lambda c, k=k: c.foreground[k])
    inside = {s: np.concatenate(v) for s, v in inside.items()}
    if surveyed.masks and sum(map(len, inside.values())):
      low, high = np.percentile(np.concatenate([*inside.values()]), (0.5, 99.5))
      yield (
        f'Labelled voxels{of}',
        'intensity, 0.5 to 99.5 %',
        {s: v[(v >= low) & (v <= high)] for s, v in inside.items()},
      )
    yield (
      f'Mean of an image{of}',
      'intensity',
      _by_split(only, lambda c, k=k: c.mean[k]),
    )


def volumes(surveyed):
  """Rows and metrics for `figures.boxes`: millilitres, or share of an image."""
  names = surveyed.mask_names[: _BOXES + 1]
  rows = []
  for case in surveyed.read:
    if case.voxels is None:
      continue
    solid = len(case.shape) == 3
    unit = np.prod(case.spacing) / 1000 if solid else 1 / np.prod(case.shape)
    metric = 'volume' if solid else 'area'
    counts = np.pad(case.voxels, (0, len(names)))[: len(names)]
    rows.append(
      {
        f'{metric}/{name}': n * unit if n else ''
        for name, n in list(zip(names, counts, strict=True))[1:]
      }
    )
  return rows[:_DRAWN], ('volume', 'area') if rows else ()


def _by_split(surveyed, value):
  groups = collections.defaultdict(list)
  for case in surveyed.read:
    groups[case.split].append(value(case))
  return groups
