"""What planning needs to know of a data set, summed up from its facts."""

import collections

import numpy as np

PERCENTILES = (0.5, 50.0, 99.5)
# A CT in Hounsfield units holds air (-1000); nothing else goes so far down.
_AIR = -500


def fingerprint(surveyed):
  """What planning needs to know of the data, as a dict for JSON.

  Axes are in the order of the file; of volumes whose orientations differ, in
  that of RAS, as `reorient` brings them there ('reoriented' says so).
  Intensities are those of labelled voxels ('image': all voxels, without a
  mask), every case with the same weight: mean and standard deviation exactly,
  percentiles from evenly spaced quantiles of each case. 'geometries' lists
  each shape, its box above 0 and spacing once, with the number of cases.
  """
  cases = [c for c in surveyed.read if not is_test(c.split)]
  cases = cases or surveyed.read
  rank, channels = len(cases[0].shape), cases[0].channels
  cases = [c for c in cases if (len(c.shape), c.channels) == (rank, channels)]
  turned = len({c.orientation for c in cases}) > 1
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
