"""What planning needs to know of a data set, summed up from its facts."""

import collections
import math
import pathlib

import numpy as np

from medjax import files
from medjax.build import closest
from medjax.config import default_config
from medjax.survey.source import LATER

PERCENTILES = (0.5, 50.0, 99.5)
# A CT in Hounsfield units holds air (-1000); nothing else goes so far down.
_AIR = -500


def fingerprint(surveyed):
  """What planning needs to know of the data, as a dict for JSON.

  Axes of pictures are rows and columns; of volumes they are in the order of
  RAS, as `reorient` brings them there ('reoriented' says so), so that files
  with other axes can be predicted.
  Intensities are those of labelled voxels ('image': all voxels, without a
  mask), every case with the same weight: mean and standard deviation exactly,
  percentiles from evenly spaced quantiles of each case. 'geometries' lists
  each shape, its box above 0 and spacing once, with the number of cases.
  """
  cases = [c for c in surveyed.read if not is_test(c.split)]
  cases = cases or surveyed.read
  rank, channels = len(cases[0].shape), cases[0].channels
  cases = [c for c in cases if (len(c.shape), c.channels) == (rank, channels)]
  turned = any(c.orientation and '?' not in c.orientation for c in cases)
  geometries = collections.Counter(_geometry(c, turned) for c in cases)
  shapes, boxes, spacings = (
    np.array([g[i] for g in geometries.elements()], float) for i in range(3)
  )
  low = min(float(c.low.min()) for c in cases)
  shrunk = float(np.median(boxes.prod(1) / shapes.prod(1)))
  median = np.median(spacings, 0)
  voxels = None
  if surveyed.masks:
    voxels = np.zeros(len(surveyed.mask_names), int)
    for case in cases:
      if case.voxels is not None:
        voxels[: len(case.voxels)] += case.voxels
  guessed, modalities = modality_of(surveyed, cases)
  return {
    'source': {'title': surveyed.source.name, **surveyed.source.config},
    'splits': {
      split: len(sequence) for split, sequence in surveyed.source.splits.items()
    },
    'stated': list(surveyed.source.stated),
    'divisible': _divisible(surveyed),
    'cases': len(cases),
    'patients': len({c.patient for c in cases}),
    'rank': rank,
    'unit': unit_of(cases),
    'channels': channels,
    'modality': list(modalities),
    'modality_guessed': guessed,
    'classes': list(surveyed.mask_names or surveyed.label_names),
    'labelled': surveyed.labelled,
    'class_voxels': None if voxels is None else voxels.tolist(),
    'reoriented': turned,
    'spacing': _spread(spacings),
    'shape': _spread(shapes),
    'shape_resampled': _spread(np.rint(shapes * spacings / median)),
    'zero_background': low >= 0,
    'box_share': shrunk,
    'intensity_of': 'foreground' if surveyed.masks else 'image',
    'intensity': _intensity(cases, channels),
    'geometries': [
      {'shape': shape, 'box': box, 'spacing': spacing, 'cases': count}
      for (shape, box, spacing), count in sorted(geometries.items())
    ],
  }


def _divisible(surveyed):
  """How many folds the patients of no stated split but train may give."""
  stated = surveyed.source.stated
  cases = [
    c for c in surveyed.read if c.split == 'train' or c.split not in stated
  ]
  patients = {'': {c.patient for c in cases}}
  for case in cases:  # each fold has every label
    for label in np.atleast_1d(() if case.label is None else case.label):
      patients.setdefault(int(label), set()).add(case.patient)
  return min(map(len, patients.values()))


def unit_of(cases):
  """'mm', or 'px' for pictures that do not say how large their pixels are."""
  measured = any(len(c.shape) > 2 or c.spacing != (1, 1) for c in cases)
  return 'mm' if measured else 'px'


def is_test(split):
  """Whether a split is set aside, and so none of planning's business."""
  return split.startswith('test')


def _geometry(case, turned):
  axes = range(len(case.shape))
  if turned:
    # The axis that runs right or left first, then to the front, then up.
    ends = ('RL', 'AP', 'SI')
    if '?' not in case.orientation:
      axes = [
        next(i for i, code in enumerate(case.orientation) if code in end)
        for end in ends
      ]
  return tuple(
    tuple(values[a] for a in axes)
    for values in (
      case.shape,
      case.cropped,
      [round(s, 9) for s in case.spacing],
    )
  )


def _spread(values):
  names = ('minimum', 'percentile_10', 'median', 'percentile_90', 'maximum')
  found = np.percentile(values, (0, 10, 50, 90, 100), axis=0)
  return dict(zip(names, found.tolist(), strict=True))


def _intensity(cases, channels):
  """Per channel: minimum, mean, std and percentiles; None without voxels."""
  held = [c for c in cases if c.foreground.shape[1]]
  if not held:
    return None
  summary = []
  for k in range(channels):
    mean, square = np.mean([c.moments[:, k] for c in held], 0)
    pooled = np.concatenate([c.foreground[k] for c in held])
    percentiles = np.percentile(pooled, PERCENTILES).tolist()
    summary.append(
      {
        'mean': float(mean),
        'std': float(np.sqrt(max(square - mean**2, 0))),
        'percentile_00_5': percentiles[0],
        'median': percentiles[1],
        'percentile_99_5': percentiles[2],
      }
    )
  return summary


def modality_of(surveyed, cases):
  """(whether it is a guess, one name per channel: 'CT', 'MRI', … or '')."""
  channels = cases[0].channels
  said = surveyed.source.modalities
  if not said and len({c.modality for c in cases}) == 1:
    said = (cases[0].modality,) if cases[0].modality else ()
  if len(said) == 1:
    said = said * channels
  if said:
    if len(said) != channels:
      raise ValueError(
        f'{surveyed.source.name}: {len(said)} modalities '
        f'({", ".join(said)}) for {channels} channels'
      )
    return False, said
  air = np.mean([c.low <= _AIR for c in cases], 0) > 0.5
  return bool(air.any()), tuple('CT' if a else '' for a in air)


# Read again.

_KINDS = {
  'source': dict,
  'splits': dict,
  'stated': list,
  'divisible': int,
  'cases': int,
  'patients': int,
  'rank': int,
  'unit': str,
  'channels': int,
  'modality': list,
  'modality_guessed': bool,
  'classes': list,
  'labelled': bool,
  'reoriented': bool,
  'zero_background': bool,
  'box_share': (int, float),
  'geometries': list,
}


def read(path):
  """The fingerprint in a file, checked: it may be another's.

  Raises ValueError of one line for one that is damaged, or says of its source
  what no survey does.
  """
  path = pathlib.Path(path)
  mend = 'python -m medjax.inspect writes one'
  about = files.read_json(path, mend=mend)
  if about is None:
    raise FileNotFoundError(f'{path}: no such file; {mend}')
  fault = _fault(about)
  if fault:
    raise ValueError(f'{path}: not a fingerprint ({fault}); {mend}')
  return about


def _fault(about):
  """What is wrong with it, or ''."""
  if not isinstance(about, dict):
    return 'no fields'
  for name, kind in _KINDS.items():
    if not isinstance(about.get(name), kind):
      return f'{name} is {about.get(name)!r:.40}'
  rank, channels = about['rank'], about['channels']
  if rank not in (2, 3) or channels < 1 or len(about['modality']) != channels:
    return f'rank {rank}, {channels} channels'
  names = [*about['modality'], *about['classes'], *about['splits']]
  if not all(isinstance(name, str) for name in names):
    return 'a name is no text'
  numbers = [about['cases'], about['patients'], *about['splits'].values()]
  if not all(isinstance(n, int) and 0 <= n < 10**7 for n in numbers):
    return 'a count is none'
  source, known = about['source'], default_config().data
  if not {'title', 'name'} <= set(source):
    return 'source has no title or name'
  for field in source:
    if field not in ('title', 'name', 'path', 'data_dir') and (
      field not in known or field in LATER
    ):
      return f'source has {field!r:.40}{closest(field, known)}'
  return _wrong_numbers(about, rank, channels)


def _wrong_numbers(about, rank, channels):
  def positive(values, count):
    return (
      isinstance(values, list)
      and len(values) == count
      and all(isinstance(v, int | float) for v in values)
      and all(math.isfinite(v) and v > 0 for v in values)
    )

  total = 0
  for geometry in about['geometries']:
    sound = isinstance(geometry, dict) and all(
      positive(geometry.get(name), rank) for name in ('shape', 'box', 'spacing')
    )
    if not sound or not isinstance(geometry.get('cases'), int):
      return f'geometries has {geometry!r:.60}'
    total += max(geometry['cases'], 0)
  if not 0 < total == about['cases']:
    return f'geometries has {total} cases, not {about["cases"]}'
  intensity = about.get('intensity')
  if intensity is not None and not (
    isinstance(intensity, list)
    and len(intensity) == channels
    and all(
      isinstance(c, dict) and _finite(c.values()) and len(c) == 5
      for c in intensity
    )
  ):
    return f'intensity is {intensity!r:.40}'
  return ''


def _finite(values):
  return all(isinstance(v, int | float) and math.isfinite(v) for v in values)
