"""The cases of one split, read from their files when asked for."""

import contextlib
import dataclasses
import functools
import hashlib
import threading
from collections.abc import Sequence

import numpy as np

from medjax.data import formats
from medjax.data.case import check_case
from medjax.data.folder import grids, masks
from medjax.data.formats import Volume

_ONCE = threading.Lock()  # of threads that read at once one looks at all masks


@dataclasses.dataclass(frozen=True)
class About:
  """What is known of a folder's cases before any is read.

  class_names: of labels, or of masks (background first, or one for each
    region); () if unknown. num_labels: of masks, background included, without
    `ignore`; None: by the highest label there is.
  regions, region_order, ignore, channel_names, normalisation: see nnunet.Task.
  covariate_names: of a case's `covariates`. mask_values: {stored: class}.
  colour: grey pictures become three channels, as others of the set have.
  notes: what was assumed and what was left out, a line each.
  """

  class_names: tuple[str, ...] = ()
  num_labels: int | None = None
  regions: tuple[tuple[int, ...], ...] = ()
  region_order: tuple[int, ...] = ()
  ignore: int | None = None
  channel_names: tuple[str, ...] = ()
  normalisation: tuple[str, ...] = ()
  covariate_names: tuple[str, ...] = ()
  mask_values: tuple[tuple[int, int], ...] = ()
  colour: bool = False
  notes: tuple[str, ...] = ()


class FolderCases(Sequence):
  """The raw cases of one split of a folder, read when asked for.

  Attributes: `name`, `split`, `entries`, those of `About`, `num_classes`
  (background included; for masks without names, found by reading every mask
  once), and `notes`: those of `About` and of the files read so far.
  """

  def __init__(self, name, split, entries, about, everything):
    self.name = name
    self.split = split
    self.entries = entries
    self.about = about
    self._everything = everything
    self._num_classes = about.num_labels or len(about.class_names) or None
    self._index = {c: i for i, c in enumerate(about.class_names)}
    self._labelled = any(e.label is not None for e in everything)
    self._palette = {}  # {index: (colour, file)} of the masks read so far
    self._bright = {}  # {grey that is class 1: file}
    self._said = {}  # {kind of note: (ids, the first note)}

  def __getattr__(self, name):
    about = self.__dict__.get('about')
    if about is None or name not in about.__dataclass_fields__:
      raise AttributeError(f'FolderCases has no {name!r}')
    return getattr(about, name)

  @property
  def num_classes(self):
    """How many classes, background included."""
    if self._num_classes is None:
      highest = [self._highest(e) for e in self._everything if e.dense]
      self._num_classes = 1 + max(highest, default=0)
    return self._num_classes

  @property
  def notes(self):
    """What was assumed and what was left out, a line each."""
    if self.entries and not self._said:
      with contextlib.suppress(ValueError, OSError):  # raised where it is read
        self._read(self.entries[0])
    said = (
      f'{len(ids)} files, as {ids[0]}: {note}'
      for ids, note in ((list(i), n) for i, n in self._said.values())
    )
    return (*self.about.notes, *said)

  def _say(self, where, notes):
    for note in notes:
      ids, _ = self._said.setdefault(note.rpartition(': ')[2], ({}, note))
      ids[where] = True

  def __len__(self):
    return len(self.entries)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(len(self))[index]]
    return self._read(self.entries[index])

  def __repr__(self):
    ids = ''.join(f'{e.id}|{e.label}\n' for e in self.entries)
    digest = hashlib.sha256(ids.encode('utf-8', 'surrogateescape'))
    short = digest.hexdigest()[:8]
    return f'FolderCases({self.split!r}, n={len(self)}, {short})'

  def _read(self, entry):
    if not entry.images:
      case = {**entry.extra, 'id': entry.id, 'patient': entry.patient}
      return check_case(self._labelled_case(case, entry))
    volume = read_image(entry.images)
    self._say(entry.id, volume.meta.get('notes', ()))
    array = volume.array
    if self.about.colour and array.shape[-1] == 1:
      array = np.repeat(array, 3, -1)
    case = {
      **entry.extra,
      'id': entry.id,
      'patient': entry.patient,
      'image': array,
      'affine': volume.affine,
    }
    for field, path in entry.others.items():
      other = formats.read(path)
      case[field] = other.array
      case[f'{field}_affine'] = other.affine
      case[f'{field}_spacing'] = other.spacing
    if entry.dense:
      case['mask'] = self._mask(entry, volume)
    return check_case(self._labelled_case(case, entry))

  def _labelled_case(self, case, entry):
    """The case with its label, if it has one."""
    if isinstance(entry.label, tuple):
      # One type for all cases of a run: -1 is a label that is ignored.
      case['label'] = np.array(entry.label, np.int8)
    elif entry.label is not None:
      case['label'] = np.int32(self._index[entry.label])
    return case

  def _mask(self, entry, volume):
    """The label map, whose labels are those of the classes."""
    about = self.about
    names = self._reading.names
    mask, notes, meta = masks.read(entry, volume, self._reading)
    self._say(entry.id, notes)
    if any(n.endswith(grids.SQUARE) for n in notes):
      with _ONCE:
        other = self._of_rows
      if other:
        raise ValueError(
          f'{entry.mask}: is square, so whether rows or columns come first '
          f'cannot be seen, and in {other} rows do, which ITK does not write: '
          'save these masks as PNG, or with their two axes swapped'
        )
    self._check_alike(entry.mask, meta)
    count = about.num_labels or len(names)
    if count:
      kept = mask if about.ignore is None else mask[mask != about.ignore]
      highest = kept.max(initial=0)
      if highest >= count:
        shown = f' ({", ".join(names)})' if names else ''
        raise ValueError(
          f'{entry.mask}: holds label {highest}, but there are {count} '
          f'classes{shown}; other values are told by data.mask_values or '
          'data.ignore'
        )
    return mask

  @functools.cached_property
  def _reading(self):
    about = self.about
    names = () if self._labelled or about.regions else about.class_names
    return masks.Reading(
      names, about.ignore, about.mask_values, about.num_labels
    )

  @functools.cached_property
  def _of_rows(self):
    """A mask of the whole set that fits with rows first alone, or None."""
    for e in self._everything:
      with contextlib.suppress(ValueError, OSError):  # raised where it is read
        if not e.masks or len({*formats.read(e.mask).array.shape[:2]}) == 1:
          continue
        _, notes, _ = masks.read(e, read_image(e.images), self._reading)
        if any(n.endswith(grids.ROWS) for n in notes):
          return e.mask
    return None

  def _highest(self, entry):
    """The highest label of a case's reference."""
    about = self.about
    if entry.runs is not None or entry.structures or len(entry.masks) > 1:
      return max(1, len(entry.structures))
    if formats.is_segmentation(entry.mask):
      return len(formats.segment_names(entry.mask))
    values = about.mask_values
    mask = formats.read_mask(entry.mask, ignore=about.ignore, values=values)
    self._say(entry.id, mask.meta.get('notes', ()))
    self._check_alike(entry.mask, mask.meta)
    kept = mask.array
    if about.ignore is not None:
      kept = kept[kept != about.ignore]
    return int(kept.max(initial=0))

  def _check_alike(self, path, meta):
    """Refuses masks in which a label stands for another colour or grey."""
    if bright := meta.get('bright'):
      self._bright.setdefault(bright, path)
      known = list(self._bright)  # threads read at once
      low, high = min(known), max(known)
      if formats.labels.unlike(low, high):
        raise ValueError(
          f'{self._bright[high]}: holds the grey {high}, {self._bright[low]} '
          f'{low}: say which classes they are, as in '
          f'data.mask_values={{{low}: 1, {high}: 2}}'
        )
    for index, colour in (meta.get('palette') or {}).items():
      first, other = self._palette.setdefault(index, (colour, path))
      if first != colour:
        raise ValueError(
          f'{path}: index {index} of its palette is {colour}, in {other} '
          f'{first}: the indices are no classes; save class indices'
        )


def read_image(paths):
  """The `Volume` of files of which each gives a channel, or several.

  Raises ValueError if they lie on different grids; what is merely turned is
  turned to the grid of the first.
  """
  first, *others = (formats.read(path) for path in paths)
  if not others:
    return first
  turned = [
    grids.on_grid(path, volume, paths[0], first)
    for path, volume in zip(paths[1:], others, strict=True)
  ]
  array = np.concatenate([v.array for v in (first, *turned)], -1)
  notes = [n for v in (first, *turned) for n in v.meta.get('notes', ())]
  meta = {**first.meta, 'notes': tuple(dict.fromkeys(notes))}
  return Volume(
    array, first.affine, first.modality, meta if notes else first.meta
  )
