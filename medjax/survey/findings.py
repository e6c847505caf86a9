"""What is wrong or odd in a data set, from the facts of its cases."""

import collections

import numpy as np

from medjax.survey.classes import about_classes
from medjax.survey.finding import LEVELS, Finding, count, times
from medjax.survey.leaks import leaks

_COARSE = 10.0  # ratio of the largest to the smallest spacing
_SCALES = 20.0  # ratio of the standard deviations of images
_GREY = 0.02  # channels that differ by less, as a share of the range


def findings(surveyed, twins):
  """Everything noteworthy, the gravest first."""
  cases = surveyed.read
  found = [
    *_unreadable(surveyed.cases),
    *leaks(surveyed, twins),
    *_flat(cases),
    *_grey(cases),
    *_intensities(cases),
    *_geometry(cases),
    *about_classes(surveyed),
  ]
  return sorted(found, key=lambda f: LEVELS.index(f.level))


def _unreadable(cases):
  bad = [c for c in cases if c.problem]
  if bad:
    yield Finding(
      'error',
      f'{count(len(bad), "case")} cannot be read.',
      tuple(f'{c.split}, case {c.index}: {c.problem}' for c in bad),
    )


def _flat(cases):
  constant = [c for c in cases if (c.low == c.high).all()]
  if constant:
    yield Finding(
      'error',
      f'{count(len(constant), "image")} constant: nothing is on them.',
      tuple(f'{c.split}: {c.id}, all {c.low[0]:g}' for c in constant),
    )
  partly = [
    c for c in cases if (c.low == c.high).any() and not (c.low == c.high).all()
  ]
  if partly:
    yield Finding(
      'warning',
      f'{count(len(partly), "image")} with a constant channel.',
      tuple(f'{c.split}: {c.id}' for c in partly),
    )


def _grey(cases):
  """Colour pictures without colour, all of them or (worse) some."""
  colour = [c for c in cases if len(c.shape) == 2 and c.channels == 3]
  grey = [c for c in colour if c.colour < _GREY]
  if not grey:
    return
  if len(grey) == len(cases):
    yield Finding(
      'note',
      'All images are grey, though stored in colour: their three channels '
      f'differ by less than {_GREY:.0%} of the range.',
    )
    return
  shares = ', '.join(
    f'{n} of {total} of {split}'
    for split, total in collections.Counter(c.split for c in cases).items()
    if (n := sum(c.split == split for c in grey))
  )
  yield Finding(
    'warning',
    f'Some colour images are grey ({shares}): if that goes with the class, it '
    'is what a model learns.',
    tuple(f'{c.split}: {c.id}' for c in grey),
  )


def _intensities(cases):
  channels = cases[0].channels
  levels = np.array([c.deviation for c in cases if c.channels == channels])
  for k, values in enumerate(levels.T):
    values = values[values > 0]
    low, middle, high = np.percentile(values if len(values) else 0, (1, 50, 99))
    if high > _SCALES * low > 0:
      of = f' in channel {k}' if channels > 1 else ''
      yield Finding(
        'warning',
        f'Images have different scales{of}: standard deviations from '
        f'{low:.3g} (1 %) over {middle:.3g} to {high:.3g} (99 %). Normalise '
        "each by itself ('zscore').",
      )


def _geometry(cases):
  kinds = collections.Counter((len(c.shape), c.channels) for c in cases)
  if len(kinds) > 1:
    said = ', '.join(
      f'{n} of {rank}-D with {count(channels, "channel")}'
      for (rank, channels), n in kinds.most_common()
    )
    yield Finding('error', f'Images of different kinds: {said}.')
  volumes = [c for c in cases if len(c.shape) == 3]
  if not volumes:
    return
  spacing = np.array([c.spacing for c in volumes])
  for level, which, text in (
    ('error', (spacing <= 0).any(1), 'with a spacing of 0 mm'),
    (
      'warning',
      spacing.max(1) > _COARSE * np.maximum(spacing.min(1), 1e-9),
      f'with an axis more than {_COARSE:g} times as coarse as another',
    ),
  ):
    if which.any():
      yield Finding(
        level,
        f'{count(int(which.sum()), "volume")} {text}.',
        tuple(
          f'{c.split}: {c.id}, {times(c.spacing)} mm'
          for c, odd in zip(volumes, which, strict=True)
          if odd
        ),
      )
  ones = (spacing == 1).all(1)
  if ones.any():
    yield Finding(
      'note',
      f'{count(int(ones.sum()), "volume")} of {len(volumes):,} with a spacing '
      'of exactly 1 mm everywhere: resampled to it, or a header that lost it.',
    )
  low, high = spacing.min(0), spacing.max(0)
  if (high > 2 * np.maximum(low, 1e-9)).any():
    yield Finding(
      'warning',
      f'Spacing differs between volumes, from {times(low)} to {times(high)} '
      'mm: resample (medjax.plan says to what).',
    )
  codes = collections.Counter(c.orientation for c in volumes)
  if len(codes) > 1:
    said = ', '.join(f'{n} {code}' for code, n in codes.most_common(6))
    yield Finding(
      'warning',
      f"Orientations differ ({said}): begin data.preprocess with 'reorient'.",
    )
