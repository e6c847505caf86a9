"""Images as voxels and a place in space, and what is done to them before.

Beside run.py: NIfTI by nibabel, DICOM by pydicom, pictures by Pillow, the rest
by numpy alone. An affine is voxel → mm, of one row more than there are axes.
"""

import collections
import pathlib

import numpy as np

_APART = 1.5  # times the training's voxels: other anatomy fills a window
_EDGE = 0.751  # voxels beyond the outermost centres that still count
_CENTIMETRES = 3  # of an ultrasound region, DICOM PS3.3 C.8.5.5.1.15


def stem(path):
  """The name of a file without what says its format; of a folder all of it."""
  path = pathlib.Path(path).absolute()
  if path.is_dir():  # may be called by a UID, whose points are no suffix
    return path.name
  return path.name.removesuffix('.gz').rpartition('.')[0] or path.name


def check_answers(paths, out, further, info):
  """Raises ValueError where an answer would overwrite another, or an input."""
  if out.exists() and not out.is_dir():
    raise ValueError(f'{out} is a file: the last word is a folder for answers')
  names = ['predictions.csv']
  if info['masks']:
    stems = collections.Counter(map(stem, paths))
    if twice := [name for name, n in stems.items() if n > 1]:
      raise ValueError(
        f'two inputs are called {twice[0]}, so that one mask would overwrite '
        'the other: predict them into two folders'
      )
    names = [name + end for name in stems for end in ('.nii.gz', '.png')]
  given = map(pathlib.Path, (*paths, *further.values()))
  same = lambda path: path.stat()[1:3]  # of all names and links of a file
  inputs = {same(path) for path in given if path.exists()}
  for path in (out / name for name in names):
    if path.exists() and same(path) in inputs:
      raise ValueError(
        f'{path} is an input, and an answer would overwrite it: give another '
        'folder'
      )


def read(path):
  """(voxels (*s, C) float32, affine, function that writes a label map)."""
  path = pathlib.Path(path)
  if path.is_dir() or path.suffix.lower() == '.dcm':
    return _read_dicom(path)
  if path.name.lower().endswith(('.nii', '.nii.gz')):
    return _read_nifti(path)
  return _read_picture(path)


def further(name, value):
  """(array, affine) of --NAME=VALUE: an image, or numbers without an affine."""
  if pathlib.Path(value).exists():
    return read(value)[:2]
  try:
    return np.array(value.split(','), np.float32), None
  except ValueError:
    raise ValueError(
      f'--{name}={value}: no such file, and no numbers with commas'
    ) from None


def _nifti_writer(affine):
  def write(out, labels):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(labels, affine), f'{out}.nii.gz')

  return write


def _picture_writer(out, labels):
  from PIL import Image

  Image.fromarray(labels).save(f'{out}.png')


def _read_nifti(path):
  import nibabel

  image = nibabel.load(path)
  array, affine = np.asanyarray(image.dataobj), image.affine
  while array.ndim > 3 and array.shape[3] == 1:
    array = array[:, :, :, 0]
  if image.header.get_xyzt_units()[0] not in ('mm', 'unknown'):
    raise ValueError('its sizes are not in mm: convert it')
  rank = min(array.ndim, 3)
  array = array[..., None] if array.ndim == rank else array
  place = affine
  if rank == 2:
    place = np.diag([*np.linalg.norm(affine[:3, :2], axis=0), 1.0])
  return array.astype(np.float32), place, _nifti_writer(affine)


def _read_picture(path):
  from PIL import Image, ImageOps

  image = ImageOps.exif_transpose(Image.open(path))
  if image.mode in ('1', 'LA', 'La'):
    image = image.convert('L')
  elif image.mode not in ('L', 'F') and image.mode[0] != 'I':
    image = image.convert('RGB')
  array = np.asarray(image).astype(np.float32)
  array = array.reshape(*array.shape[:2], -1)
  return array, np.eye(3), _picture_writer


def _read_dicom(path):
  import pydicom

  files = sorted(path.iterdir()) if path.is_dir() else [path]
  frames = [f for f in map(pydicom.dcmread, files) if 'PixelData' in f]
  kinds = {f.PhotometricInterpretation for f in frames}
  if kinds != {'MONOCHROME2'} or any(f.pixel_array.ndim > 2 for f in frames):
    raise ValueError('no DICOM of single grey frames (MONOCHROME2): convert it')
  arrays = [_values(f) for f in frames]
  rows, columns = _pixel_size(frames[0])
  if not path.is_dir():
    affine = np.diag([rows, columns, 1.0])
    return arrays[0][..., None].astype(np.float32), affine, _picture_writer
  along, down = np.reshape(frames[0].ImageOrientationPatient, (2, 3))
  along, down = np.asarray(along, float), np.asarray(down, float)
  places = np.array([f.ImagePositionPatient for f in frames], float)
  order = np.argsort(places @ np.cross(along, down), kind='stable')
  gaps = np.diff(places[order] @ np.cross(along, down))
  if len(gaps) and gaps.max() - gaps.min() > 0.1 * np.median(gaps):
    raise ValueError('slices are missing, or of two series')
  affine, places = np.eye(4), places[order]
  step = (places[-1] - places[0]) / max(len(gaps), 1)
  affine[:3] = np.stack([along * columns, down * rows, step, places[0]], 1)
  affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM's LPS to RAS
  array = np.stack([arrays[i].T for i in order], -1)[..., None]
  return array.astype(np.float32), affine, _nifti_writer(affine)


def _values(frame):
  """The real values of a frame, where a slope and an intercept say them."""
  slope, intercept = (
    frame.get(name) for name in ('RescaleSlope', 'RescaleIntercept')
  )
  others = ['ModalityLUTSequence', 'DoseGridScaling']
  if slope is None and intercept is None:
    others.append('RealWorldValueMappingSequence')
  for name in others:
    if frame.get(name):
      raise ValueError(f'its values follow from {name}: convert it')
  array = frame.pixel_array.astype(np.float32)
  return array * float(slope or 1) + float(intercept or 0)


def _pixel_size(header):
  """(between rows, between columns) in mm as medjax has it; 1 where unknown."""
  magnified = float(header.get('EstimatedRadiographicMagnificationFactor') or 1)
  for name, times in (
    ('PixelSpacing', 1),
    ('ImagerPixelSpacing', magnified),  # at the detector
    ('NominalScannedPixelSpacing', 1),
  ):
    sizes = [float(x) / times for x in header.get(name) or ()]
    if sizes and min(sizes) > 0:  # 0 stands for unknown
      return sizes
  scales = {
    tuple(_of_region(region, axis) for axis in 'YX')
    for region in header.get('SequenceOfUltrasoundRegions') or ()
    if region.get('RegionSpatialFormat', 1) == 1
  }
  one = scales.pop() if len(scales) == 1 else (0, 0)
  return one if min(one) > 0 else (1.0, 1.0)


def _of_region(region, axis):
  """mm of a pixel of an ultrasound region along an axis; 0 where unknown."""
  known = region.get(f'PhysicalUnits{axis}Direction') == _CENTIMETRES
  size = 10 * abs(float(region.get(f'PhysicalDelta{axis}', 0)))
  return round(size, 9) if known else 0


def other_spacing(affine, info):
  """What to say of voxels unlike the training's; '' where a step mends them."""
  n, trained = len(affine) - 1, info['trained_at_spacing']
  mended = {'resample', 'resize'} & {step['name'] for step in info['outside']}
  if mended or info['unit_of_length'] != 'mm' or len(trained) != n:
    return ''
  given = np.linalg.norm(affine[:n, :n], axis=0)
  factor = np.sort(given) / np.sort(trained)  # axes may lie otherwise
  if 1 / _APART < factor.min() <= factor.max() < _APART:
    return ''
  sizes = [' x '.join(f'{x:.3g}' for x in each) for each in (given, trained)]
  return (
    f'voxels of {sizes[0]} mm, but the model learnt from {sizes[1]} mm and '
    'does not resample: resample the file first'
  )


# What is done to an image, step by step: (image, affine, options) → both.


def prepare(image, affine, steps, name='image'):
  """The image and its affine after the steps of model.json's 'outside'.

  name: of the input that it is; a step may be only for some.
  """
  image, affine = np.asarray(image, np.float32), np.asarray(affine, float)
  for step in steps:
    if name not in step.get('only', [name]):
      continue
    options = {k: v for k, v in step.items() if k not in ('name', 'only')}
    image, affine = _STEPS[step['name']](image, affine, **options)
  return image, affine


def _reorient(image, affine, codes='RAS'):
  from nibabel import orientations as o

  turn = o.io_orientation(affine)
  if len(affine) == 4:
    turn = o.ornt_transform(turn, o.axcodes2ornt(codes.upper()))
  back = o.inv_ornt_aff(turn, image.shape[: len(affine) - 1])
  return np.ascontiguousarray(o.apply_orientation(image, turn)), affine @ back


def _resample(image, affine, spacing, order='linear'):
  n = len(affine) - 1
  old = np.linalg.norm(affine[:n, :n], axis=0)
  new = np.broadcast_to(np.asarray(spacing, float), n)
  new = np.where(np.isnan(new), old, new)  # None keeps an axis
  shape = np.maximum(1, np.rint(image.shape[:n] * old / new)).astype(int)
  return _rescaled(image, affine, new / old, shape)


def _resize(image, affine, shape, order='linear', antialias=True):
  n = len(affine) - 1
  shape = np.broadcast_to(shape, n)
  factor = np.asarray(image.shape[:n]) / shape
  if antialias and (factor > 1).any():
    for axis, sigma in enumerate(np.maximum(0, (factor - 1) / 2)):
      image = _blurred(image, axis, sigma)
  return _rescaled(image, affine, factor, shape)


def _blurred(image, axis, sigma):
  radius = int(4 * sigma + 0.5)
  if not radius:
    return image
  place, n = np.arange(-radius, radius + 1), image.shape[axis]
  taps = np.exp(-0.5 * (place / sigma) ** 2)
  rows = np.clip(np.arange(n)[:, None] + place, 0, n - 1)
  matrix = np.zeros((n, n))
  np.add.at(matrix, (np.arange(n)[:, None], rows), taps / taps.sum())
  blurred = np.moveaxis(image, axis, -1).astype(float) @ matrix.T
  return np.moveaxis(blurred, -1, axis).astype(np.float32)


def _rescaled(image, affine, factor, shape):
  n = len(affine) - 1
  old = np.array(image.shape[:n])
  if np.array_equal(old, shape) and np.allclose(factor, 1, atol=1e-6, rtol=0):
    return image, affine
  offset = (old - 1) / 2 - factor * (shape - 1) / 2
  step = np.diag([*factor, 1.0])
  step[:n, n] = offset
  for axis in range(n):
    place = offset[axis] + factor[axis] * np.arange(shape[axis])
    image = _along(image, axis, place)
  return image, affine @ step


def _along(image, axis, place):
  """Linear interpolation along an axis; the ends repeat."""
  n = image.shape[axis]
  place = np.clip(place, 0, n - 1)
  low = np.minimum(place.astype(int), max(n - 2, 0))
  part = (place - low).reshape(-1, *(1,) * (image.ndim - axis - 1))
  first = image.take(low, axis).astype(float)
  last = image.take(np.minimum(low + 1, n - 1), axis)
  return (first * (1 - part) + last * part).astype(np.float32)


def _window(image, affine, start, shape, value=0.0, mode='constant'):
  n = len(shape)
  start, shape = np.asarray(start, int), np.asarray(shape, int)
  size = np.array(image.shape[:n])
  inner = tuple(
    map(slice, np.maximum(start, 0), np.minimum(start + shape, size))
  )
  rest = zip(
    np.maximum(-start, 0), np.maximum(start + shape - size, 0), strict=True
  )
  widths = [*rest, *[(0, 0)] * (image.ndim - n)]
  more = {'constant_values': value} if mode == 'constant' else {}
  moved = affine.copy()
  moved[:n, n] += affine[:n, :n] @ start
  return np.pad(image[inner], widths, mode, **more), moved


def _crop_or_pad(image, affine, shape, value=0.0, mode='constant'):
  old = np.array(image.shape[: len(shape)])
  pairs = zip(old, shape, strict=True)
  new = np.array([a if b is None else b for a, b in pairs])
  start = np.fix((old - new) / 2).astype(int)
  return _window(image, affine, start, new, value, mode)


def _pad_to_multiple(image, affine, k, value=0.0, mode='constant'):
  old = np.array(image.shape[:-1])
  return _crop_or_pad(image, affine, -(-old // k) * k, value, mode)


def _crop_foreground(image, affine, threshold=None, margin=0):
  inside = (image != 0 if threshold is None else image > threshold).any(-1)
  if not inside.any():
    return image, affine
  found, size = np.nonzero(inside), np.array(inside.shape)
  start = np.maximum([x.min() - margin for x in found], 0)
  stop = np.minimum([x.max() + 1 + margin for x in found], size)
  return _window(image, affine, start, stop - start)


def standardise(image, affine, **step):
  """Cuts off, shifts and scales each channel: numbers, or as it is measured."""
  shift, scale = step['shift'], step['scale']
  if step.get('measured'):
    shift, scale = statistics(image, step['measured'])
  low, high = (
    np.array([np.nan if v is None else v for v in step[k]], np.float32)
    for k in ('low', 'high')
  )
  out = np.fmin(np.fmax(image, low), high)
  out = (out - np.float32(shift)) / np.float32(scale)
  if step.get('unit'):
    out = np.clip(out, 0, 1)
  if (step.get('measured') or {}).get('nonzero'):
    out = np.where(image != 0, out, 0)
  return out.astype(np.float32), affine


def statistics(image, measured):
  """(2, C): what each channel is shifted and divided by, of the whole image."""
  found = np.array([measured['shift'], measured['scale']], np.float32)
  for c, kind in enumerate(measured['kinds']):
    x = image[..., c]
    x = x[x != 0] if measured.get('nonzero') else x
    if not kind:
      continue
    low, high = (x.min(), x.max()) if x.size else (0, 0)
    if kind == 'percentile':
      low, high = np.percentile(x, measured['percentiles'])
    if kind == 'range':
      found[:, c] = low, max(high - low, 1e-8)
    elif high <= low:
      found[:, c] = 0, np.inf  # a constant channel becomes 0
    elif kind == 'percentile':
      found[:, c] = low, high - low
    else:
      found[:, c] = x.mean(dtype=np.float64), x.std(dtype=np.float64)
  return found


_STEPS = {
  'reorient': _reorient,
  'resample': _resample,
  'resize': _resize,
  'crop_or_pad': _crop_or_pad,
  'pad_to_multiple': _pad_to_multiple,
  'crop_foreground': _crop_foreground,
  'standardise': standardise,
}


def to_grid(array, source, target, shape):
  """A map (*s, K) on the grid of `source`, on that of `target`: linear.

  Only flips, other orders of axes, shifts and sizes lie between the two.
  """
  n = len(shape)
  between = np.linalg.solve(source, target)
  turn = np.abs(between[:n, :n]) * max(shape) > 1e-3
  axes = turn.argmax(0)
  array = array.transpose(*axes, *range(n, array.ndim))
  for axis, old in enumerate(axes):
    place = between[old, n] + between[old, axis] * np.arange(shape[axis])
    if (np.abs(place - np.rint(place)) < 1e-3).all():
      place = np.rint(place)  # voxels are only moved
    end = array.shape[axis] - 1
    array = _along(array, axis, place)
    far = (place < -_EDGE) | (place > end + _EDGE)
    array[(slice(None),) * axis + (far,)] = 0
  return array
