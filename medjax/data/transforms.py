"""Deterministic host transforms: `f(sample, *, …) → sample`, numpy and scipy.

A sample is a dict: `image` (*spatial, C) and optionally `mask` (*spatial,),
`affine` (n+1, n+1) voxel index → mm, `spacing` (n,) mm; other fields pass
through. Nothing is changed in place. Every transform that moves voxels moves
image and mask together and updates affine and spacing, so that a voxel keeps
its place in the patient. In a config:

    config.data.preprocess = (
      dict(name='reorient'), dict(name='resample', spacing=(1, 1, 1)),
      dict(name='zscore'))

`patch` draws from a generator; `to_grid` brings predictions back.
"""

import nibabel.orientations
import numpy as np
from scipy import ndimage

from medjax.data.formats import spacing_of

__all__ = [
  'append_mask',
  'crop_foreground',
  'crop_or_pad',
  'distance_map',
  'orthogonal_views',
  'patch',
  'percentile',
  'reorient',
  'resample',
  'resize',
  'scale',
  'to_grid',
  'window',
  'zscore',
]

_VIEWS = {
  'middle': lambda x, axis: np.take(x, x.shape[axis] // 2, axis),
  'mean': lambda x, axis: x.mean(axis, dtype=np.float32),
  'max': lambda x, axis: x.max(axis),
}
_ORDERS = {'nearest': 0, 'linear': 1, 'cubic': 3}
# Voxels beyond the outermost centres that still belong to a grid: half a cell,
# and the quarter that rounding the shape in `resample` may cut off.
_EDGE = 0.751


# Geometry.


def reorient(sample):
  """Flips and permutes the spatial axes to the nearest RAS orientation.

  Volumes: the first axis then runs to the patient's right, the second to
  anterior, the third to superior. Exact: voxels are only moved. Pictures, whose
  affine is positive and diagonal, stay as they are.
  """
  affine = sample['affine']
  orientation = nibabel.orientations.io_orientation(affine)
  if np.isnan(orientation).any():
    raise ValueError(
      f'{sample.get("id")}: the affine leaves an axis without a direction; '
      'mend the header'
    )
  shape = sample['image'].shape[: affine.shape[0] - 1]
  back = nibabel.orientations.inv_ornt_aff(orientation, shape)

  def move(array):
    moved = nibabel.orientations.apply_orientation(array, orientation)
    return np.ascontiguousarray(moved)

  return _moved(sample, move, move, affine @ back)


def resample(sample, *, spacing, order='linear'):
  """Resamples to a voxel size in mm (n,): image linear or cubic, mask nearest.

  The centre of the volume stays where it is; the new shape is the old extent
  over the new spacing, rounded. Voxels are cells, not points: values outside
  the first and last centres repeat the edge. No smoothing before coarser
  sampling, as is the habit with volumes (nnU-Net).
  """
  old = spacing_of(sample['affine'])
  new = np.broadcast_to(np.asarray(spacing, np.float64), old.shape)
  if np.any(new <= 0):
    raise ValueError(f'resample: spacing must be positive, not {spacing}')
  n = old.size
  shape = np.maximum(1, np.rint(sample['image'].shape[:n] * old / new))
  return _rescaled(sample, new / old, shape.astype(int), order)


def resize(sample, *, shape, order='linear', antialias=True):
  """Resizes to a number of voxels per axis (n,), whatever their size in mm.

  The field of view stays; spacing follows. Before shrinking, `antialias` blurs
  the image with a Gaussian of sigma (factor - 1) / 2 (scikit-image's choice).
  """
  n = sample['affine'].shape[0] - 1
  shape = np.broadcast_to(np.asarray(shape, int), (n,))
  if shape.min() < 1:
    raise ValueError(f'resize: shape {shape} must be 1 or more on each axis')
  factor = np.asarray(sample['image'].shape[:n]) / shape
  if antialias and np.any(factor > 1) and order != 'nearest':
    sigma = (*np.maximum(0, (factor - 1) / 2), 0)
    image = sample['image'].astype(np.float32, copy=False)
    blurred = ndimage.gaussian_filter(image, sigma, mode='nearest')
    sample = {**sample, 'image': blurred}
  return _rescaled(sample, factor, shape, order)


def crop_foreground(sample, *, threshold=0.0, margin=0):
  """Crops to the bounding box of image > threshold (any channel) + margin.

  A volume without such a voxel stays whole. `margin` is in voxels.
  """
  inside = (sample['image'] > threshold).any(-1)
  if not inside.any():
    return sample
  start, stop = [], []
  for axis, size in enumerate(inside.shape):
    others = tuple(a for a in range(inside.ndim) if a != axis)
    (found,) = np.nonzero(inside.any(others))
    start.append(max(0, found[0] - margin))
    stop.append(min(size, found[-1] + 1 + margin))
  return _cropped(sample, np.array(start), np.subtract(stop, start))


def crop_or_pad(sample, *, shape, value=0.0):
  """Crops and pads around the centre to `shape` (n,); None keeps an axis.

  The image is padded with `value`, the mask with 0.
  """
  n = sample['affine'].shape[0] - 1
  old = sample['image'].shape[:n]
  if len(shape) != n:
    raise ValueError(f'crop_or_pad: shape {shape} for {n} spatial axes')
  if any(s is not None and s < 1 for s in shape):
    raise ValueError(f'crop_or_pad: shape {shape} must be 1 or more, or None')
  new = np.array(
    [o if s is None else s for o, s in zip(old, shape, strict=True)]
  )
  return _cropped(sample, _centred(np.array(old), new), new, value)


def patch(sample, rng, *, size, foreground=0.33, value=0.0):
  """Cuts a random patch of `size` (n,) voxels, padding smaller volumes.

  With probability `foreground` the patch is centred, as far as the volume
  allows, on a random voxel of a random class present in the mask (nnU-Net,
  Isensee et al. 2021, oversampling); otherwise, and without a mask or
  foreground, it lies anywhere inside. `rng` is a numpy.random.Generator.
  """
  old = np.array(sample['image'].shape[:-1])
  size = np.asarray(size, int)
  if size.shape != old.shape:
    raise ValueError(f'patch: size {tuple(size)} for {old.size} spatial axes')
  centre = None
  if 'mask' in sample and rng.random() < foreground:
    centre = _foreground_voxel(sample['mask'], rng)
  room = np.maximum(old - size, 0)
  if centre is None:
    start = rng.integers(0, room, endpoint=True)
  else:
    start = np.clip(centre - size // 2, 0, room)
  start = np.where(old < size, _centred(old, size), start)
  return _cropped(sample, start, size, value)


# Intensity. All return float32.


def zscore(sample, *, nonzero=False, channels=None):
  """Zero mean and unit standard deviation, per image and channel.

  `nonzero`: over the voxels that are not 0, which are left at 0 (skull-stripped
  MRI). A constant channel becomes 0. `channels`: only these, by default all.
  """
  chosen = _channels('zscore', channels, sample['image'].shape[-1])

  def channel(x):
    inside = x[x != 0] if nonzero else x
    if inside.size == 0 or inside.min() == inside.max():
      return np.zeros_like(x)
    mean = np.float32(inside.mean(dtype=np.float64))
    deviation = np.float32(inside.std(dtype=np.float64))
    y = (x - mean) / deviation
    return np.where(x != 0, y, np.float32(0)) if nonzero else y

  return _per_channel(sample, channel, chosen)


def percentile(sample, *, low=0.5, high=99.5):
  """Maps percentiles low…high of each channel to 0…1 and clips (MRI)."""
  if not 0 <= low < high <= 100:
    raise ValueError(
      f'percentile: low ({low}) must be below high ({high}), both of 0 to 100'
    )

  def channel(x):
    bottom, top = np.percentile(x, (low, high))
    if top <= bottom:
      return np.zeros_like(x)
    return np.clip((x - bottom) / (top - bottom), 0, 1).astype(np.float32)

  return _per_channel(sample, channel)


def window(sample, *, low, high):
  """Maps low…high to 0…1 and clips: a CT window in HU, its two ends."""
  if high <= low:
    raise ValueError(f'window: high ({high}) must be above low ({low})')
  image = sample['image'].astype(np.float32)
  image = np.clip((image - low) / np.float32(high - low), 0, 1)
  return {**sample, 'image': image}


def scale(sample, *, mean=0.0, std=255.0, low=None, high=None, channels=None):
  """(x - mean) / std with given numbers, one each or one per channel.

  x is cut off at `low` and `high` first: with those of the foreground of a set
  this is how nnU-Net normalises CT. `channels`: only these, by default all.
  """
  if np.any(np.asarray(std) == 0):
    raise ValueError('scale: std must not be 0')
  image = sample['image'].astype(np.float32)
  chosen = _channels('scale', channels, image.shape[-1])
  part = image[..., chosen]
  if low is not None or high is not None:
    part = np.clip(part, low, high)
  image[..., chosen] = (part - np.float32(mean)) / np.float32(std)
  return {**sample, 'image': image}


def orthogonal_views(sample, *, of='middle'):
  """A cube (s, s, s, C) as a picture (s, s, 3C): its three views, as channels.

  What a 2-D network can see of a volume ("2.5-D": Roth et al. 2014; Setio et
  al. 2016 for lung nodules). `of` is the 'middle' plane across each axis, or
  the 'mean' or 'max' along it, one for all channels or one each: the mean of an
  outline is its thickness. First come the channels of the view along the last
  axis. The picture has that view's affine, spacing, and mask: the shadow.
  """
  image, n = sample['image'], sample['affine'].shape[0] - 1
  kinds = [of] * image.shape[-1] if isinstance(of, str) else list(of)
  if len(kinds) != image.shape[-1] or not {*kinds} <= {*_VIEWS}:
    raise ValueError(
      f'orthogonal_views: of={of!r} must be of {", ".join(_VIEWS)}, one or one '
      f'for each of {image.shape[-1]} channels'
    )
  if n != 3 or len(set(image.shape[:n])) > 1:
    raise ValueError(
      f'{sample.get("id")}: orthogonal_views takes a cube, not '
      f'{image.shape[:n]}; crop_or_pad first'
    )
  views = [
    _VIEWS[kind](image[..., c], axis)
    for axis in (2, 1, 0)
    for c, kind in enumerate(kinds)
  ]
  plane = [0, 1, 3]
  affine = sample['affine'][np.ix_(plane, plane)]
  out = {
    **sample,
    'image': np.stack(views, -1),
    'affine': affine,
    'spacing': spacing_of(affine),
  }
  if 'mask' in sample:
    out['mask'] = sample['mask'].max(2)
  return out


def distance_map(sample, *, threshold=0.0):
  """How deep each voxel > threshold lies: mm to the nearest that is not.

  0 elsewhere; per channel, float32. The largest value is the radius of the
  largest ball inside: half the thickness of a shape.
  """
  spacing, image = spacing_of(sample['affine']), sample['image']
  depth = [
    ndimage.distance_transform_edt(image[..., c] > threshold, spacing)
    for c in range(image.shape[-1])
  ]
  return {**sample, 'image': np.stack(depth, -1).astype(np.float32)}


def append_mask(sample):
  """Appends mask > 0 to the image as a channel of 0 and 1.

  For the classification of something that is already outlined: then files to
  predict on need a mask, too.
  """
  if 'mask' not in sample:
    raise ValueError(f'{sample.get("id")}: has no mask for append_mask')
  inside = (sample['mask'] > 0).astype(np.float32)[..., None]
  image = sample['image'].astype(np.float32)
  return {**sample, 'image': np.concatenate([image, inside], -1)}


# Back to the file's own grid.


def to_grid(array, source_affine, target_affine, target_shape, *, order=1):
  """Brings an array (*spatial[, K]) from one voxel grid to another.

  Used to return a prediction to the grid of the file it came from: give the
  sample's affine, and the raw case's affine and spatial shape. Grids that
  differ by whole voxels, flips and axis order only are copied exactly; else
  interpolation of `order` (0: labels, 1: probabilities), repeating the edge
  for up to ¾ voxel beyond the outermost centres. Farther out the result is 0.
  """
  n = source_affine.shape[0] - 1
  target_shape = tuple(int(s) for s in target_shape)
  if len(target_shape) != n:
    raise ValueError(f'to_grid: shape {target_shape} for {n} spatial axes')
  linear, offset, aligned = _relative(
    source_affine, target_affine, target_shape
  )
  if not aligned:
    inside = _inside(linear, offset, array.shape[:n], target_shape)
    out = _interpolate(array, linear, offset, target_shape, order)
    return out * inside.reshape(inside.shape + (1,) * (array.ndim - n))
  # Axis by axis: permute, flip, then copy or interpolate along each.
  axes = np.argmax(linear != 0, axis=0)  # target axis → source axis
  array = np.transpose(array, (*axes, *range(n, array.ndim)))
  step, offset = linear[axes, range(n)], offset[axes]
  flipped = tuple(int(a) for a in np.flatnonzero(step < 0))
  array = np.flip(array, flipped)
  ends = np.array(array.shape[:n]) - 1
  offset = np.where(step < 0, ends - offset, offset)
  step = np.abs(step)
  whole = np.rint(offset)
  if (np.abs(step - 1) * np.max(target_shape) < 1e-3).all() and (
    np.abs(offset - whole) < 1e-3
  ).all():
    return _window(array, whole.astype(int), target_shape, 0)
  out = _interpolate(array, step, offset, target_shape, order)
  for axis in range(n):
    position = offset[axis] + step[axis] * np.arange(target_shape[axis])
    near = (position > -_EDGE) & (position < ends[axis] + _EDGE)
    out[(slice(None),) * axis + (~near,)] = 0
  return out


def along_axis(source_affine, target_affine, target_shape):
  """Where the rows (first axis) of one grid run in another.

  Returns (axis of the target, position in source rows of that axis's voxel 0,
  rows per voxel); None where the grids are rotated against each other.
  """
  linear, offset, aligned = _relative(
    source_affine, target_affine, target_shape
  )
  if not aligned:
    return None
  axis = int(np.argmax(linear[0] != 0))
  return axis, offset[0], linear[0, axis]


# What the above share.


def _relative(source_affine, target_affine, target_shape):
  """Target voxel → source voxel: linear part, offset, axes parallel or not."""
  n = source_affine.shape[0] - 1
  matrix = np.linalg.solve(source_affine, target_affine)
  linear, offset = matrix[:n, :n], matrix[:n, n]
  # Rotations below a thousandth of a voxel over the whole grid are rounding.
  small = np.abs(linear) * np.max(target_shape) < 1e-3
  linear = np.where(small, 0.0, linear)
  pairs = linear != 0
  return linear, offset, (pairs.sum(0) == 1).all() and (pairs.sum(1) == 1).all()


def _moved(sample, move_image, move_mask, affine):
  """The sample with its arrays moved and its place in space updated."""
  out = {
    **sample,
    'image': move_image(sample['image']),
    'affine': affine,
    'spacing': spacing_of(affine),
  }
  if 'mask' in sample:
    out['mask'] = move_mask(sample['mask'])
  return out


def _rescaled(sample, factor, shape, order):
  """New voxels `factor` times as large, the centre of the volume kept."""
  if order not in _ORDERS:
    raise ValueError(f'order {order!r}: known are {", ".join(_ORDERS)}')
  affine = sample['affine']
  n = affine.shape[0] - 1
  old = np.array(sample['image'].shape[:n])
  if np.array_equal(old, shape) and np.allclose(factor, 1, atol=1e-6, rtol=0):
    return sample
  offset = (old - 1) / 2 - factor * (shape - 1) / 2
  step = np.eye(n + 1)
  step[:n, :n] = np.diag(factor)
  step[:n, n] = offset

  def move_image(image):
    image = image.astype(np.float32, copy=False)
    return _interpolate(image, factor, offset, shape, _ORDERS[order])

  def move_mask(mask):
    return _interpolate(mask, factor, offset, shape, 0)

  return _moved(sample, move_image, move_mask, affine @ step)


def _cropped(sample, start, shape, value=0.0):
  """The window of `shape` at `start`, padded where it leaves the volume."""
  affine = sample['affine'].copy()
  n = affine.shape[0] - 1
  affine[:n, n] += affine[:n, :n] @ start
  return _moved(
    sample,
    lambda image: _window(image, start, shape, value),
    lambda mask: _window(mask, start, shape, 0),
    affine,
  )


def _centred(old, new):
  """Start of a centred window; cropping undoes padding and the reverse."""
  return np.fix((old - new) / 2).astype(int)


def _window(array, start, shape, value):
  n = len(shape)
  out_shape = (*(int(s) for s in shape), *array.shape[n:])
  out = np.full(out_shape, value, array.dtype)
  inner, outer = [], []
  for size, first, length in zip(array.shape[:n], start, shape, strict=True):
    low, high = max(0, first), min(size, first + length)
    high = max(low, high)
    inner.append(slice(low, high))
    outer.append(slice(low - first, high - first) if high > low else slice(0))
  out[tuple(outer)] = array[tuple(inner)]
  return out


def _interpolate(array, matrix, offset, shape, order):
  """scipy.ndimage on each trailing channel; edges repeat."""
  n = len(shape)
  shape = tuple(int(s) for s in shape)
  channels = array.reshape(*array.shape[:n], -1)
  out = np.empty((*shape, channels.shape[-1]), array.dtype)
  for c in range(channels.shape[-1]):
    ndimage.affine_transform(
      channels[..., c],
      matrix,
      offset,
      output_shape=shape,
      output=out[..., c],
      order=order,
      mode='nearest',
    )
  return out.reshape(*shape, *array.shape[n:])


def _inside(linear, offset, source_shape, target_shape):
  """Which target voxels (*spatial, bool) belong to the source's grid."""
  inside = np.ones(target_shape, bool)
  n = len(target_shape)
  for a in range(n):
    position = np.full((1,) * n, offset[a])
    for b in range(n):
      index = np.arange(target_shape[b]).reshape(
        [-1 if d == b else 1 for d in range(n)]
      )
      position = position + linear[a, b] * index
    inside &= (position > -_EDGE) & (position < source_shape[a] - 1 + _EDGE)
  return inside


def _foreground_voxel(mask, rng):
  flat = np.flatnonzero(mask)
  if flat.size == 0:
    return None
  labels = mask.reshape(-1)[flat]
  present = np.flatnonzero(np.bincount(labels))
  chosen = flat[labels == rng.choice(present)]
  return np.array(np.unravel_index(rng.choice(chosen), mask.shape))


def _per_channel(sample, function, chosen=None):
  image = sample['image'].astype(np.float32)
  for c in range(image.shape[-1]) if chosen is None else chosen:
    image[..., c] = function(image[..., c])
  return {**sample, 'image': image}


def _channels(name, channels, last):
  """The channels as a list; those that the image lacks are refused."""
  chosen = list(range(last) if channels is None else channels)
  if not set(chosen) <= set(range(last)):
    raise ValueError(f'{name}: channels {tuple(chosen)} of an image of {last}')
  return chosen
