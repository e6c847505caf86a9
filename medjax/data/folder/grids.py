"""Whether volumes lie on one grid, by their whole affines; turned if they do.

A mask saved with its axes in another order, or flipped, is the same mask where
the voxels of both grids are at the same places: then it is turned, exactly.
"""

import nibabel.orientations as nio
import numpy as np

from medjax.data.formats import Volume

_NAMES = {'nifti': 'NIfTI', 'nrrd': 'NRRD', 'metaimage': 'MetaImage'}
# How a first axis was taken, at the end of a note.
ROWS = 'rows, as only so image and mask fit'
SQUARE = 'x, as ITK writes it; a square cannot tell'
_OFF = 0.5  # of the smallest voxel, that places may differ by


def on_grid(path, volume, other_path, other, *, part=False):
  """The volume (*spatial[, …]) with its voxels in the order of another's.

  Raises ValueError unless the grids are the same up to order and direction of
  their axes. part: the volume may be a box cut out of the other's grid, which
  is then filled up with 0. Where one has no place (a picture), only shapes are
  compared, and (x, y) are turned to (row, column), or these to those.
  """
  rank = len(other.affine) - 1
  if len(volume.affine) - 1 != rank:
    raise ValueError(
      f'{path}: has {len(volume.affine) - 1} spatial axes but {other_path} has '
      f'{rank}; they belong to different images'
    )
  mine, theirs = _place(volume), _place(other)
  if mine is None or theirs is None:
    return _same_shape(path, volume, other_path, other)
  array, affine = _turned(volume, mine, theirs, rank)
  shape, wanted = array.shape[:rank], other.array.shape[:rank]
  if part and shape != wanted:
    found = _filled_up(array, affine, theirs, wanted)
    if found is not None:
      return Volume(found, other.affine, volume.modality, volume.meta)
  if shape != wanted:
    raise ValueError(
      f'{path}: has shape {volume.array.shape[:rank]} but {other_path} has '
      f'{wanted}; resample it to that grid'
    )
  moved = _furthest(affine - theirs, shape)
  if moved > _OFF * other.spacing.min():
    moved = f'{moved:.1f}' if moved >= 0.1 else f'{moved:.1g}'
    raise ValueError(
      f'{path}: lies {moved} mm from {other_path} (their affines differ); '
      'resample it to that grid'
    )
  return Volume(array, other.affine, volume.modality, volume.meta)


def _place(volume):
  """Voxel → mm (4, 4), that of a slice included; None where it has none."""
  if volume.affine.shape == (4, 4):
    return volume.affine if volume.meta.get('unit') == 'mm' else None
  return volume.meta.get('affine')


def _same_shape(path, volume, other_path, other):
  rank = len(other.affine) - 1
  wanted = other.array.shape[:rank]
  if volume.x_first != other.x_first:
    volume = _ordered(volume, other, wanted)
  shape = volume.array.shape[:rank]
  if shape != wanted:
    raise ValueError(
      f'{path}: has shape {shape} but {other_path} has {wanted}; resample it '
      'to that grid'
    )
  return volume


def _ordered(volume, other, wanted):
  """A volume of (x, y) beside one of (row, column), or the other way round."""
  form = (volume if volume.x_first else other).meta['format']
  said = f'2-D {_NAMES.get(form, form)}: its first axis is taken as '
  # Arrays of rows are written as NIfTI too, and seen where they are no squares.
  if volume.array.shape[:2] == wanted != wanted[::-1]:
    said += ROWS
  else:
    square = wanted == wanted[::-1]
    said += SQUARE if square else 'x, as ITK writes it'
    volume = volume.swapped()
  meta = {**volume.meta, 'notes': (*volume.meta.get('notes', ()), said)}
  return Volume(volume.array, volume.affine, volume.modality, meta)


def _turned(volume, mine, theirs, rank):
  """The array and its affine with axes ordered and directed as in `theirs`."""
  relative = np.linalg.solve(theirs, mine)
  turn = nio.io_orientation(relative)
  array = volume.array
  straight = np.c_[np.arange(3), np.ones(3)]
  if np.isnan(turn).any() or np.array_equal(turn, straight):
    return array, mine
  if rank == 2:
    if turn[2, 0] != 2:
      return array, mine
    array = array.reshape(*array.shape[:2], 1, *array.shape[2:])
  back = nio.inv_ornt_aff(turn, array.shape[:3])
  array = nio.apply_orientation(array, turn)
  if rank == 2:
    array = array.reshape(*array.shape[:2], *array.shape[3:])
  return np.ascontiguousarray(array), mine @ back


def _furthest(difference, shape):
  """By how many mm two affines put a corner of a grid apart."""
  ends = np.array([*shape, 1])[:3] - 1
  corners = np.array([*np.ndindex(2, 2, 2)]) * ends
  moved = corners @ difference[:3, :3].T + difference[:3, 3]
  return float(np.linalg.norm(moved, axis=1).max())


def _filled_up(array, affine, theirs, wanted):
  """The box in the whole grid; None unless its voxels are voxels of that."""
  relative = np.linalg.solve(theirs, affine)
  start = np.rint(relative[:3, 3]).astype(int)
  exact = np.eye(4)
  exact[:3, 3] = start
  size = max(*array.shape, *wanted)
  if np.abs((relative - exact)[:3] @ [size, size, size, 1]).max() > _OFF:
    return None
  stop = start + array.shape[:3]
  low, high = np.maximum(start, 0), np.minimum(stop, wanted)
  out = np.zeros(wanted, array.dtype)
  if (high > low).all():
    inner = tuple(map(slice, low - start, high - start))
    out[tuple(map(slice, low, high))] = array[inner]
  return out
