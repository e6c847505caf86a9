"""The cases of one split, read from their files when asked for."""

import hashlib
from collections.abc import Sequence

import numpy as np

from medjax.data import formats
from medjax.data.formats import Volume
from medjax.data.records import check_case


class FolderCases(Sequence):
  """The raw cases of one split of a folder, read when asked for.

  Attributes: `name`, `split`, `class_names` (of labels; () for masks unless
  given), `num_classes` (background included; for masks without names, found by
  reading every mask once), `entries`.
  """

  def __init__(self, name, split, entries, class_names, everything):
    self.name = name
    self.split = split
    self.entries = entries
    self.class_names = class_names
    self._everything = everything
    self._num_classes = len(class_names) or None
    self._index = {c: i for i, c in enumerate(class_names)}

  @property
  def num_classes(self):
    """How many classes, background included."""
    if self._num_classes is None:
      masks = [e for e in self._everything if e.mask is not None]
      self._num_classes = 1 + max(map(_highest_label, masks), default=0)
    return self._num_classes

  def __len__(self):
    return len(self.entries)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(len(self))[index]]
    return self._read(self.entries[index])

  def __repr__(self):
    ids = ''.join(f'{e.id}|{e.label}\n' for e in self.entries)
    digest = hashlib.sha256(ids.encode()).hexdigest()[:8]
    return f'FolderCases({self.split!r}, n={len(self)}, {digest})'

  def _read(self, entry):
    volume = read_image(entry.images)
    case = {
      **entry.extra,
      'id': entry.id,
      'patient': entry.patient,
      'image': volume.array,
      'affine': volume.affine,
    }
    if entry.mask is not None:
      case['mask'] = _mask_on(entry, volume)
    if isinstance(entry.label, tuple):
      case['label'] = np.array(entry.label, np.uint8)
    elif entry.label is not None:
      case['label'] = np.int32(self._index[entry.label])
    case = check_case(case)
    if 'mask' in case and self.class_names and entry.label is None:
      highest = case['mask'].max()
      if highest >= len(self.class_names):
        raise ValueError(
          f'{entry.mask}: holds label {highest}, but there are '
          f'{len(self.class_names)} classes ({", ".join(self.class_names)})'
        )
    return case


def read_image(paths):
  """The `Volume` of files of which each gives a channel, or several.

  Raises ValueError if they lie on different grids.
  """
  first, *others = (formats.read(path) for path in paths)
  if not others:
    return first
  for path, volume in zip(paths[1:], others, strict=True):
    check_grid(path, volume, paths[0], first)
  array = np.concatenate([v.array for v in (first, *others)], -1)
  return Volume(array, first.affine, first.modality, first.meta)


def check_grid(path, volume, other_path, other):
  """Raises ValueError unless two volumes' voxels are at the same places."""
  shape, wanted = (v.array.shape[: len(v.affine) - 1] for v in (volume, other))
  if shape != wanted:
    raise ValueError(
      f'{path}: has shape {shape} but {other_path} has {wanted}; resample it '
      'to that grid'
    )
  both = volume.meta['unit'] == other.meta['unit'] == 'mm'
  corners = np.array([[*np.zeros(len(shape)), 1], [*shape, 1]]).T
  moved = np.abs((other.affine - volume.affine) @ corners).max()
  if both and moved > 0.5 * other.spacing.min():
    raise ValueError(
      f'{path}: lies {moved:.1f} mm from {other_path} (their affines differ); '
      'resample it to that grid'
    )


def _highest_label(entry):
  if formats.is_segmentation(entry.mask):
    return int(_mask_on(entry, formats.read(entry.image)).max())
  return int(formats.read_mask(entry.mask).array.max())


def _mask_on(entry, volume):
  """The entry's label map, on the same grid as the image."""
  if formats.is_segmentation(entry.mask):
    masks = formats.read_segmentation(entry.mask, volume)
    try:
      return formats.label_map(masks)[0]
    except ValueError as e:
      raise ValueError(f'{entry.mask}: {e}') from None
  mask = formats.read_mask(entry.mask)
  check_grid(entry.mask, mask, entry.image, volume)
  return mask.array
