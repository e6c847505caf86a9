"""What a plan chooses by rules of its own: see rules.py for those of nnU-Net.

Every function gives values for the config, and rows (name, value, reason).
"""

import math

import numpy as np

from medjax.data.folder.nnunet import NORMALISATIONS
from medjax.data.sides import names_a_side
from medjax.survey import rules

# A box of nonzero voxels smaller than this is cropped to, and below the second
# number the rest of it is taken for outside of the patient (nnU-Net).
_CROPPED, _MASKED = 0.95, 0.75
_SCALE = (round(1 / 1.4, 3), round(1 / 0.7, 3))  # nnU-Net's (0.7, 1.4)
_SHARE = 15  # per cent of cases, or one of 7 folds, for a split that is lacking
_FOLDS = 7
_CACHE_GB = 2.0
_OWN = ('ct', 'zscore')  # normalisations that a plan has rules of its own for


def is_boxed(about):
  """Whether images are cropped to what is not 0."""
  return about['zero_background'] and about['box_share'] < _CROPPED


def repeated(about, name):
  """One row per case (m, n) of what `geometries` lists once."""
  rows = [g[name] for g in about['geometries']]
  counts = [g['cases'] for g in about['geometries']]
  return np.repeat(np.array(rows, float), counts, axis=0)


def target_spacing(spacings, shapes, given):
  """Voxel size (n,) and the reason for it; `given` by the user, or None."""
  n = spacings.shape[1]
  if given is not None:
    target = np.array(given, float)
    if target.shape != (n,) or (target <= 0).any():
      raise ValueError(f'--spacing needs {n} positive numbers, not {given}')
    return target, 'as you said (--spacing)'
  target = rules.target_spacing(spacings, shapes)
  if np.ptp(spacings, 0).max() < 1e-4:
    return target, 'all images have it'
  median = np.median(spacings, 0)
  if np.allclose(target, median):
    return target, 'the median'
  axis = rules.coarse_axis(median)
  return target, (
    f'the median; axis {axis} ({median[axis]:.3g} mm) is more than 3 times as '
    'coarse: its 10th percentile'
  )


def preprocess(about, target, across=None):
  """Entries of config.data.preprocess, and their reasons.

  `across` is the axis of slices that are seen one by one: it stays as it is.
  """
  steps, rows = [], []
  if about['reoriented']:
    steps.append(_entry('reorient'))
    rows.append(('orientation', 'to RAS', 'whatever that of a file'))
  if is_boxed(about):
    steps.append(_entry('crop_foreground'))
    share = f'{about["box_share"]:.0%} of an image (median)'
    rows.append(('crop', 'to what is not 0', share))
  # Before the resampling, which leaves nothing of a background that is exactly
  # 0, and softens contrast by the case (nnU-Net's order).
  entries, norms = _normalise(about)
  steps += entries
  rows += norms
  if about['rank'] == 3 or spacing_varies(about):
    kept = [s for a, s in enumerate(target) if a != across]
    coarse = max(kept) > rules.ANISOTROPY * min(kept)
    order = 'linear' if coarse else 'cubic'
    spacing = tuple(
      None if a == across else float(f'{s:.6g}') for a, s in enumerate(target)
    )
    steps.append(_entry('resample', spacing=spacing, order=order))
    why = "nnU-Net's; masks take the nearest voxel"
    if across is not None:
      why += '; slices stay where they are'
    if coarse:
      why = 'cubic would ring across the thick slices'
    rows.append(('resampling', order, why))
  return tuple(steps), rows


def spacing_varies(about):
  """Whether images have different spacings."""
  return np.ptp(repeated(about, 'spacing'), 0).max() > 1e-4


def _normalise(about):
  names = about['modality']
  ct = [k for k, name in enumerate(names) if name.upper() in ('CT', 'HU')]
  told = {
    k: scheme
    for k, name in enumerate(names)
    if (scheme := NORMALISATIONS.get(name.lower())) not in (None, *_OWN)
  }
  rest = [k for k in range(about['channels']) if k not in (*ct, *told)]
  guess = ' (guessed from the values: --modality)' * about['modality_guessed']
  entries, rows = [], []
  if told:
    schemes = tuple(told.get(k, 'none') for k in range(about['channels']))
    entries.append(_entry('normalise', schemes=schemes))
    for k, scheme in told.items():
      which = f'channel {k}' if len(names) > 1 else 'normalisation'
      rows.append((which, scheme, f'the data say so: {names[k]}'))
  for k in ct:
    seen = {n: float(f'{v:.6g}') for n, v in about['intensity'][k].items()}
    low, high = seen['percentile_00_5'], seen['percentile_99_5']
    only = {'channels': (k,)} if len(names) > 1 else {}
    entries.append(
      _entry(
        'scale', low=low, high=high, mean=seen['mean'], std=seen['std'], **only
      )
    )
    rows.append(
      (
        f'channel {k}' if only else 'normalisation',
        f'{low:g} to {high:g}, z-score',
        f'CT{guess}: 0.5 and 99.5 %, mean and std of the labelled voxels',
      )
    )
  if rest:
    masked = about['zero_background'] and about['box_share'] < _MASKED
    only = {'channels': tuple(rest)} if ct or told else {}
    entries.append(
      _entry('zscore', **({'nonzero': True} if masked else {}), **only)
    )
    said = ', '.join(dict.fromkeys(names[k] for k in rest if names[k]))
    why = (f'{said}: ' if said else '') + 'its scale has no unit'
    rows.append(
      (
        f'channel {and_(rest)}' if only else 'normalisation',
        'z-score of each image' + (' where not 0' if masked else ''),
        why + (', and much of the image is empty' if masked else ''),
      )
    )
  return entries, rows


def augment(about, plan, spacing):
  """Entries of config.augment, and the reasons for its limits."""
  flat = rules.is_flat(plan.patch, spacing)
  plane, sides = {}, plan.patch
  if flat:
    axis = rules.coarse_axis(spacing)
    others = tuple(a for a in range(3) if a != axis)
    plane = {'axes': others}
    sides = [plan.patch[a] for a in others]
  if flat and not plan.topology.rank:
    angle, why = (
      180.0,
      f'the patch is flat along axis {axis}: in its plane only',
    )
  elif about['rank'] == 2 or flat:
    square = max(sides) <= 1.5 * min(sides)
    angle = 180.0 if square else 15.0
    why = f'the patch is {"nearly square" if square else "oblong"}'
  else:
    angle, why = 30.0, 'about every axis: the patch is not flat'
  sided = [name for name in about['classes'] if names_a_side(name)]
  entries = (
    _entry('affine', p=0.2, rotate=angle, scale=_SCALE, **plane),
    _entry('gaussian_noise', p=0.1),
    _entry('gaussian_blur', p=0.2, p_channel=0.5, sigma=(0.5, 1.0)),
    _entry('brightness', p=0.15, factor=(0.75, 1.25)),
    _entry('contrast', p=0.15, factor=(0.75, 1.25)),
    _entry('low_resolution', p=0.25, p_channel=0.5, zoom=(0.5, 1.0), **plane),
    _entry('gamma', p=0.1, exponent=(0.7, 1.5), invert=True),
    _entry('gamma', p=0.3, exponent=(0.7, 1.5)),
    *(() if sided else (_entry('flip', p=0.5),)),
  )
  return entries, [
    ('rotation', f'± {angle:g}°', why),
    (
      'mirroring',
      'none' if sided else 'every axis',
      f'{sided[0]!r} would become its other side'
      if sided
      else 'no class names a side',
    ),
  ]


def splits(about):
  """({train, validation, test: names}, fields of config.data, reason).

  Raises ValueError where there are too few cases for three splits, or none
  that may be cut.
  """
  names = list(about['splits'])
  if {'train', 'validation', 'test'} <= {*names}:
    standard = dict(train='train', validation='validation', test='test')
    return standard, {}, 'as the data set has them'
  folds = [name for name in names if name.startswith('fold')]
  if len(folds) > 2:
    return (
      _of_folds(folds),
      {},
      f'one fold each for test and validation of {len(folds)}',
    )
  if about['source']['name'] == 'folder':
    return _of_folder(about)
  return _by_percentage(about)


def _of_folds(folds):
  test, validation, *train = folds
  return dict(train='+'.join(train), validation=validation, test=test)


def _of_folder(about):
  """Where a folder states no test split: folds of the patients that it left."""
  lacking = [s for s in ('test', 'validation') if s not in about['stated']]
  count = min(_FOLDS, about['divisible'])
  _check_enough(about, about['divisible'], len(lacking) + 1, 'patients')
  folds = [f'fold{k}' for k in range(count)]
  held = {split: folds.pop(0) for split in lacking}
  chosen = {'validation': 'validation', 'test': 'test', **held}
  return (
    {'train': '+'.join(folds), **chosen},
    {'folds': count},
    f'the folder has no {" and no ".join(lacking)}: a fold of {count} each',
  )


def _by_percentage(about):
  """Where a prepared set has too few splits: parts of its first."""
  names = list(about['splits'])
  first = 'train' if 'train' in names else names[0]
  lacking = [s for s in ('validation', 'test') if s not in names or s == first]
  if about['patients'] < about['cases']:
    raise ValueError(
      f'{about["source"]["title"]}: has only {and_(names)}, which a '
      'percentage would cut through patients; make splits by patient first'
    )
  count = about['splits'][first]
  _check_enough(about, count, len(lacking) + 1, f'cases of {first}')
  share = max(_SHARE, math.ceil(100 / count))
  cuts = iter((f'[:{share}%]', f'[{share}%:{2 * share}%]'))
  held = {split: first + next(cuts) for split in lacking}
  chosen = {'validation': 'validation', 'test': 'test', **held}
  return (
    {'train': f'{first}[{len(lacking) * share}%:]', **chosen},
    {},
    f'{share} % of {first} each for {and_(lacking)}, which it lacks',
  )


def _check_enough(about, count, needed, what):
  if count < needed:
    raise ValueError(
      f'{about["source"]["title"]}: {count} {what}, too few to train, validate '
      f'and test; add cases until there are {needed}'
    )


def cache_row(about, median):
  """The row about the memory that all cases need."""
  bytes_each = math.prod(median) * (4 * about['channels'] + 1)
  need = bytes_each * about['cases'] / 1e9
  return (
    'memory',
    f'{need:.2g} GB',
    'all cases preprocessed; data.cache_gb of them are held'
    + (f' ({_CACHE_GB:g}: raise it if you can)' if need > _CACHE_GB else ''),
  )


def _entry(name, **arguments):
  return {'name': name, **arguments}


def and_(items):
  """'a and b'."""
  return ' and '.join(map(str, items))
