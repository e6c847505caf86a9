"""Voxel grids: from one to another, and windows of one."""

import nibabel.orientations
import numpy as np
from scipy import ndimage

# Names of padding as numpy has them; 'constant' takes a value.
PADDINGS = ('constant', 'edge', 'reflect', 'symmetric', 'wrap')
# Voxels beyond the outermost centres that still belong to a grid: half a cell,
# and the quarter that rounding the shape in `resample` may cut off.
_EDGE = 0.751


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
  linear, offset, aligned = relative(source_affine, target_affine, target_shape)
  if not aligned:
    near = within(linear, offset, array.shape[:n], target_shape)
    out = interpolate(array, linear, offset, target_shape, order)
    return out * near.reshape(near.shape + (1,) * (array.ndim - n))
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
    return window(array, whole.astype(int), target_shape, 0)
  out = interpolate(array, step, offset, target_shape, order)
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
  linear, offset, aligned = relative(source_affine, target_affine, target_shape)
  if not aligned:
    return None
  axis = int(np.argmax(linear[0] != 0))
  return axis, offset[0], linear[0, axis]


def relative(source_affine, target_affine, target_shape):
  """Target voxel → source voxel: linear part, offset, axes parallel or not."""
  n = source_affine.shape[0] - 1
  matrix = np.linalg.solve(source_affine, target_affine)
  linear, offset = matrix[:n, :n], matrix[:n, n]
  # Rotations below a thousandth of a voxel over the whole grid are rounding.
  small = np.abs(linear) * np.max(target_shape) < 1e-3
  linear = np.where(small, 0.0, linear)
  pairs = linear != 0
  return linear, offset, (pairs.sum(0) == 1).all() and (pairs.sum(1) == 1).all()


def window(array, start, shape, value):
  """The window of `shape` at `start`, `value` where it leaves the array.

  Integers become float32 where theirs cannot hold the value.
  """
  n = len(shape)
  if array.dtype.kind in 'iu':
    most = np.iinfo(array.dtype)
    if not (float(value).is_integer() and most.min <= value <= most.max):
      array = array.astype(np.float32)
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


def interpolate(array, matrix, offset, shape, order):
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


def within(linear, offset, source_shape, target_shape):
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


def centred(old, new):
  """Start of a centred window; cropping undoes padding and the reverse."""
  return np.fix((old - new) / 2).astype(int)


def padded(image, start, shape, value, mode):
  """`_window`, where the padding may continue the image."""
  if mode == 'constant':
    return window(image, start, shape, value)
  n = len(shape)
  stop = np.add(start, shape)
  size = np.array(image.shape[:n])
  inner = tuple(map(slice, np.maximum(start, 0), np.minimum(stop, size)))
  before, after = np.maximum(-start, 0), np.maximum(stop - size, 0)
  widths = [*zip(before, after, strict=True), *[(0, 0)] * (image.ndim - n)]
  return np.pad(image[inner], widths, mode)


def axes_of(codes):
  """nibabel's orientation of 'RAS' and its like."""
  try:
    found = nibabel.orientations.axcodes2ornt(str(codes).upper())
    known = sorted(found[:, 0].tolist()) == [0, 1, 2]
  except (ValueError, IndexError):
    known = False
  if not known:
    raise ValueError(
      f'reorient: codes={codes!r}; needs one each of R or L, A or P, S or I, '
      "as in 'RAS'"
    )
  return found


def turn(affine, codes):
  """How the axes of a grid go to 'RAS' and its like, as nibabel says it.

  Pictures have none of these: theirs go to rows and columns.
  """
  wanted = axes_of(codes)
  found = nibabel.orientations.io_orientation(affine)
  if len(affine) == 4 and not np.isnan(found).any():
    return nibabel.orientations.ornt_transform(found, wanted)
  return found


# What a config that is meant for pictures wants, told that it gets volumes.
_VOLUMES = (
  """: --config.data.preprocess="({'name':'resize','shape':(32,32,16)},"""
  """{'name':'zscore'})\""""
)


def each_axis(sample, transform, name, values):
  """One number, or one for each spatial axis, as an array (n,)."""
  n = sample['affine'].shape[0] - 1
  values = np.asarray(values)
  if values.ndim and values.shape != (n,):
    raise ValueError(
      f'{sample.get("id")}: {transform}: {name} {tuple(values.tolist())} for '
      f'{n} spatial axes; give {n} numbers, or one for all, in data.preprocess'
      f'{_VOLUMES if n == 3 and transform == "resize" else ""}'
    )
  return np.broadcast_to(values, (n,))
