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

from medjax.data import grid
from medjax.data.formats import spacing_of
from medjax.data.grid import along_axis as along_axis
from medjax.data.grid import to_grid
from medjax.data.intensity import (
  compress,
  normalise,
  percentile,
  scale,
  standardise,
  window,
  zscore,
)
from medjax.data.text import hash_text

__all__ = [
  'append_mask',
  'compress',
  'crop_foreground',
  'crop_or_pad',
  'distance_map',
  'hash_text',
  'normalise',
  'orthogonal_views',
  'pad_to_multiple',
  'patch',
  'percentile',
  'reorient',
  'resample',
  'resize',
  'scale',
  'standardise',
  'to_grid',
  'window',
  'zscore',
]

# Those that leave the size of an image as it is.
SAME_SIZE = frozenset((
  'append_mask', 'compress', 'distance_map', 'hash_text', 'normalise',
  'percentile', 'scale', 'standardise', 'window', 'zscore',
))  # fmt: skip

_VIEWS = {
  'middle': lambda x, axis: np.take(x, x.shape[axis] // 2, axis),
  'mean': lambda x, axis: x.mean(axis, dtype=np.float32),
  'max': lambda x, axis: x.max(axis),
}
_ORDERS = {'nearest': 0, 'linear': 1, 'cubic': 3}


# Geometry.


def reorient(sample, *, codes='RAS'):
  """Flips and permutes the spatial axes to the nearest of an orientation.

  codes: where the axes run to: 'RAS' is to the patient's right, to anterior and
  to superior, 'LPS' DICOM's, 'PIR' … any of the 48. Exact: voxels are only
  moved. Pictures, whose affine is positive and diagonal, stay as they are.
  """
  affine = sample['affine']
  orientation = grid.turn(affine, codes)
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

  None in place of a number keeps that axis as it is.

  The centre of the volume stays where it is; the new shape is the old extent
  over the new spacing, rounded. Voxels are cells, not points: values outside
  the first and last centres repeat the edge. No smoothing before coarser
  sampling, as is the habit with volumes (nnU-Net). Cubic values stay within
  those of their channel, which splines overshoot at edges (nnU-Net, too).
  """
  old = spacing_of(sample['affine'])
  new = grid.each_axis(sample, 'resample', 'spacing', spacing).astype(
    np.float64
  )
  new = np.where(np.isnan(new), old, new)
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
  shape = grid.each_axis(sample, 'resize', 'shape', shape).astype(int)
  if np.any(shape < 1):
    raise ValueError(f'resize: shape must be positive, not {tuple(shape)}')
  factor = np.asarray(sample['image'].shape[:n]) / shape
  if antialias and np.any(factor > 1) and order != 'nearest':
    sigma = (*np.maximum(0, (factor - 1) / 2), 0)
    image = sample['image'].astype(np.float32, copy=False)
    blurred = ndimage.gaussian_filter(image, sigma, mode='nearest')
    sample = {**sample, 'image': blurred}
  return _rescaled(sample, factor, shape, order)


def crop_foreground(sample, *, threshold=None, margin=0):
  """Crops to the bounding box of what is not 0 (any channel) + margin.

  With a `threshold`, of what is above it. A volume without such a voxel stays
  whole. `margin` is in voxels.
  """
  image = sample['image']
  inside = (image != 0 if threshold is None else image > threshold).any(-1)
  if not inside.any():
    return sample
  start, stop = [], []
  for axis, size in enumerate(inside.shape):
    others = tuple(a for a in range(inside.ndim) if a != axis)
    (found,) = np.nonzero(inside.any(others))
    start.append(max(0, found[0] - margin))
    stop.append(min(size, found[-1] + 1 + margin))
  return _cropped(sample, np.array(start), np.subtract(stop, start))


def crop_or_pad(sample, *, shape, value=0.0, mode='constant'):
  """Crops and pads around the centre to `shape` (n,); None keeps an axis.

  The image is padded with `value`, or as numpy.pad does with `mode` 'edge',
  'reflect', 'symmetric' or 'wrap'; the mask with 0 in any case.
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
  return _cropped(sample, grid.centred(np.array(old), new), new, value, mode)


def pad_to_multiple(sample, *, k, value=0.0, mode='constant'):
  """Pads around the centre to the next multiple of `k`, one or one per axis.

  So that a network that halves its maps several times takes the whole image.
  `value` and `mode` are those of `crop_or_pad`.
  """
  k = grid.each_axis(sample, 'pad_to_multiple', 'k', k).astype(int)
  if np.any(k < 1):
    raise ValueError(f'pad_to_multiple: k must be 1 or more, not {tuple(k)}')
  old = np.array(sample['image'].shape[: k.size])
  return crop_or_pad(sample, shape=-(-old // k) * k, value=value, mode=mode)


def patch(sample, rng, *, size, foreground=0.33, value=0.0, ignore=None):
  """Cuts a random patch of `size` (n,) voxels, padding smaller volumes.

  With probability `foreground` the patch is centred, as far as the volume
  allows, on a random voxel of a random class present in the mask (nnU-Net,
  Isensee et al. 2021, oversampling); otherwise, and without a mask or
  foreground, it lies anywhere inside. `rng` is a numpy.random.Generator.
  `ignore` is a label that is no foreground.
  """
  old = np.array(sample['image'].shape[:-1])
  size = np.asarray(size, int)
  if size.shape != old.shape:
    raise ValueError(f'patch: size {tuple(size)} for {old.size} spatial axes')
  centre = None
  if 'mask' in sample and rng.random() < foreground:
    centre = _foreground_voxel(sample['mask'], rng, ignore)
  room = np.maximum(old - size, 0)
  if centre is None:
    start = rng.integers(0, room, endpoint=True)
  else:
    start = np.clip(centre - size // 2, 0, room)
  start = np.where(old < size, grid.centred(old, size), start)
  return _cropped(sample, start, size, value)


def orthogonal_views(sample, *, of='middle'):
  """A cube (s, s, s, C) as a picture (s, s, 3C): its three views, as channels.

  What a 2-D network can see of a volume ("2.5-D": Roth et al. 2014; Setio et
  al. 2016 for lung nodules). `of` is the 'middle' plane across each axis, or
  the 'mean' or 'max' along it, one for all channels or one each: the mean of an
  outline is its thickness. First come the channels of the view along the last
  axis. The picture has that view's spacing and mask: the shadow.
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
  # A picture's axes need not be those of the body: a coronal file has others.
  affine = np.diag([*spacing_of(sample['affine'])[:2], 1.0])
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
  largest ball inside: half the thickness of a shape. What fills the image ends
  where that does.
  """
  spacing, image = spacing_of(sample['affine']), sample['image']

  def depth_of(inside):
    if inside.all():  # scipy needs a voxel that is not
      around = ndimage.distance_transform_edt(np.pad(inside, 1), spacing)
      return around[(slice(1, -1),) * inside.ndim]
    return ndimage.distance_transform_edt(inside, spacing)

  depth = [depth_of(image[..., c] > threshold) for c in range(image.shape[-1])]
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


# What the above share.


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
    moved = grid.interpolate(image, factor, offset, shape, _ORDERS[order])
    if order == 'cubic':
      axes = tuple(range(n))
      np.clip(moved, image.min(axes), image.max(axes), out=moved)
    return moved

  def move_mask(mask):
    return grid.interpolate(mask, factor, offset, shape, 0)

  return _moved(sample, move_image, move_mask, affine @ step)


def _cropped(sample, start, shape, value=0.0, mode='constant'):
  """The window of `shape` at `start`, padded where it leaves the volume."""
  if mode not in grid.PADDINGS:
    raise ValueError(f'mode {mode!r}: known are {", ".join(grid.PADDINGS)}')
  affine = sample['affine'].copy()
  n = affine.shape[0] - 1
  affine[:n, n] += affine[:n, :n] @ start
  return _moved(
    sample,
    lambda image: grid.padded(image, start, shape, value, mode),
    lambda mask: grid.window(mask, start, shape, 0),
    affine,
  )


def _foreground_voxel(mask, rng, ignore):
  flat = np.flatnonzero(mask if ignore is None else mask * (mask != ignore))
  if flat.size == 0:
    return None
  labels = mask.reshape(-1)[flat]
  present = np.flatnonzero(np.bincount(labels))
  chosen = flat[labels == rng.choice(present)]
  return np.array(np.unravel_index(rng.choice(chosen), mask.shape))
