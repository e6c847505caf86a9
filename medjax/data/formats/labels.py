"""From stored values to class labels: what every reader of masks goes by.

A binary mask is stored as 0 and 1, 0 and 255, two greys, or greys that a lossy
format has smeared. `settled` makes classes of them, says what it took for
what, and refuses values that are no classes.
"""

import numpy as np

_CLASSES = 64  # values below may be classes; a picture's white lies above
_SHADES = 64  # so many values in one picture are shades, not classes
_DOUBT = 1e-3  # share of pixels between black and white that JPEG may leave


def settled(array, path, *, picture=False, lossy=False, ignore=None, values=()):
  """(labels (*spatial,) integers, notes) of the values in a mask.

  Args:
    array: (*spatial,) integers, bool, or floats that are whole numbers.
    path: of the file, for messages.
    picture: the values are greys of a picture: two that lie far apart are a
      binary mask. Else only 0 and 255, 65535 and their like are.
    lossy: the file's format alters values, as JPEG does.
    ignore: a value that stays as it is.
    values: {value: class}; then it alone says what is what, and 0 is 0.

  Raises ValueError for what is no label map: fractions, shades of grey.
  """
  array = _integers(array, path)
  if values:
    return _mapped(array, path, dict(values), ignore), ()
  if not picture:
    return _full_scale(array, ignore)
  found, counts = _histogram(array)
  kept = found != ignore if ignore is not None else np.ones(len(found), bool)
  cut, note = _cut(found[kept], counts[kept], path, lossy)
  if cut is None:
    return array, ()
  labels = (array > cut).astype(np.uint8)
  if ignore is not None and not kept.all():
    labels = labels.astype(np.promote_types(np.uint8, array.dtype))
    labels[array == ignore] = ignore
  return labels, note


def brightest(array, labels, ignore):
  """The grey that became class 1 of a binary mask; 0 where values stayed."""
  if ignore is not None:
    kept = array != ignore
    array, labels = array[kept], labels[kept]
  high = int(array.max(initial=0))
  return high if high > 1 and labels.max(initial=0) == 1 else 0


def unlike(bright, other):
  """Whether the white of two binary masks is not one class, but two."""
  low, high = sorted((bright, other))
  full = all(v >= 255 and not v & (v + 1) for v in (low, high))
  return low < high * 3 / 4 and not full  # as within one mask: see _smeared


def _integers(array, path):
  if array.dtype == bool:
    return array.astype(np.uint8)
  if array.dtype.kind != 'f':
    return array
  whole = np.rint(array)
  odd = np.abs(whole - array) > 1e-3
  if odd.any():
    raise ValueError(
      f'{path}: label map holds {array[odd].flat[0]:g}; labels must be whole '
      'numbers (was it interpolated?)'
    )
  return whole.astype(np.int32)


def _mapped(array, path, values, ignore):
  table = {0: 0, **{int(k): int(v) for k, v in values.items()}}
  if ignore is not None:
    table.setdefault(ignore, ignore)
  found, inverse = np.unique(array, return_inverse=True)
  odd = [v for v in found.tolist() if v not in table]
  if odd:
    raise ValueError(
      f'{path}: holds {odd[0]}, which data.mask_values does not name'
    )
  classes = np.array([table[v] for v in found.tolist()])
  if classes.min(initial=0) < 0:
    raise ValueError('data.mask_values gives classes from 0 on')
  kind = np.min_scalar_type(int(classes.max(initial=0)))
  return classes.astype(kind)[inverse].reshape(array.shape)


def _full_scale(array, ignore):
  """0 and 2^k - 1 only, k ≥ 8, are 0 and 1."""
  top = int(array.max(initial=0))
  if top < 255 or top & (top + 1) or top == ignore:
    return array, ()
  on = array == top
  if not np.all(on | (array == 0)):
    return array, ()
  return on.astype(np.uint8), (f'mask of 0 and {top}: taken as 0 and 1',)


def _histogram(array):
  if array.dtype == np.uint8:
    counts = np.bincount(array.ravel(), minlength=256)
    found = np.flatnonzero(counts)
    return found, counts[found]
  return np.unique(array, return_counts=True)


def _cut(found, counts, path, lossy):
  """(value above which is foreground, notes); None: these are classes."""
  if not len(found) or found[0] < 0:
    return None, ()
  high = int(found[-1])
  shown = ', '.join(map(str, found[:6].tolist()))
  shown += ', …' if len(found) > 6 else ''
  if high < _CLASSES:
    if lossy and high:
      raise ValueError(
        f'{path}: holds {shown}: JPEG alters labels; save masks as PNG'
      )
    return None, ()
  said = (f'mask of {shown}: taken as 0 and 1, the brighter',)
  if len(found) == 1:
    return (0, said) if high >= 192 else (None, ())
  low = int(found[0])
  if len(found) == 2:
    if low == 1 or high - low < _CLASSES:
      return None, ()
    exact = low == 0 and not high & (high + 1)
    return (low + high) / 2, () if exact else said
  return _smeared(found, counts, path, lossy, shown, said)


def _smeared(found, counts, path, lossy, shown, said):
  """The cut of more than two values, if all lie near black and white."""
  high = int(found[-1])
  middle = (found > high / 4) & (found < high * 3 / 4)
  share = counts[middle].sum() / counts.sum()
  bright = np.count_nonzero(found >= high * 3 / 4)
  if share <= _DOUBT * lossy and (lossy or bright > 1):
    return high / 2, said
  if lossy:
    raise ValueError(
      f'{path}: {share:.1%} of its pixels are neither black nor white: JPEG '
      'has altered the labels; save masks as PNG'
    )
  if len(found) > _SHADES:
    raise ValueError(
      f'{path}: holds {len(found)} shades of grey, which are no classes; '
      'threshold it, or save class indices'
    )
  if np.diff(found).min() >= 32:
    pairs = ', '.join(f'{v}: {i}' for i, v in enumerate(found[1:].tolist(), 1))
    raise ValueError(
      f'{path}: holds the greys {shown}; say which classes they are, as in '
      f'data.mask_values={{{pairs}}}'
    )
  return None, ()
