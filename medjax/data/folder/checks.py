"""Whether cases make sense together: classes, ids, patients, copies."""

import collections
import dataclasses
import functools
import hashlib
import re

from medjax.build import closest
from medjax.data import formats, walk
from medjax.files import composed, digest_of

_HEAD = 2**20  # bytes in which files of one size mostly differ
_ASIDE = 'test', 'unlabelled'  # splits whose images may be without a mask


def class_names(entries, root, given):
  """Names in the order of their indices; () where no case has a label."""
  labels = {e.label for e in entries if e.label is not None}
  _check_case(root, labels)
  if given is not None and labels:
    for name in given:
      if not isinstance(name, str):
        raise ValueError(
          f'task.class_names: {name!r} is a number, and labels are texts; '
          f'write {str(name)!r}'
        )
    given = tuple(map(composed, given))
    odd = sorted(labels - set(given))
    if odd:
      raise ValueError(
        f'{root}: label {odd[0]!r} is no class{closest(odd[0], given)}'
      )
    empty = [c for c in given if c not in labels]
    if empty:
      raise ValueError(f'{root}: class {empty[0]!r} has no case')
  if given is not None or not labels:
    return tuple(given or ())
  if any(e.where for e in entries):  # directories 1/ and 2/ are names
    _check_indices(root, labels)
  if all(c.isdecimal() for c in labels):
    return tuple(sorted(labels, key=int))
  return tuple(sorted(labels))


def check_masks(entries):
  """Refuses images without a mask among others, but of splits set aside."""
  bare = [e for e in entries if not e.dense and e.split not in _ASIDE]
  if bare:
    raise ValueError(
      f'{bare[0].image}: has no mask, nor have {len(bare) - 1} others of '
      f'{len(entries)} images: take it away, draw one (empty where there is '
      'nothing), or say in data.labelled how many masks to use'
    )


def label_names(entries, columns, given):
  """Entries and names of labels that are several 0 and 1: one per column."""
  names = tuple(given or columns)
  if sorted(names) != sorted(columns):
    raise ValueError(
      f'the classes are the columns {", ".join(columns)}, not '
      f'{", ".join(names)}'
    )
  order = [columns.index(name) for name in names]
  return names, [
    e
    if e.label is None
    else dataclasses.replace(e, label=tuple(e.label[i] for i in order))
    for e in entries
  ]


def _check_case(path, labels):
  """Refuses Benign and benign, which somebody meant to be one."""
  seen = {}
  for label in sorted(labels):
    other = seen.setdefault(label.casefold(), label)
    if other != label:
      raise ValueError(
        f'{path}: labels {other!r} and {label!r} differ only in capitals; '
        'write one of them'
      )


def _check_indices(path, labels):
  """Numbers are class indices: whole, from 0, without gaps."""
  numbers = {n for n in labels if re.fullmatch(r'[-+]?\d*\.?\d+', n)}
  if not numbers:
    return
  for label in sorted(labels - numbers):
    raise ValueError(
      f'{path}: label {label!r} among integers; use names or integers'
    )
  for label in sorted(numbers):
    if not label.isdecimal():
      raise ValueError(
        f'{path}: label {label!r} is not a class index (0, 1, 2, …)'
      )
  missing = set(range(max(map(int, numbers)) + 1)) - set(map(int, numbers))
  if missing:
    raise ValueError(
      f'{path}: class {min(missing)} has no case; number classes from 0 '
      'without gaps, or say that these are names: '
      f'task.class_names={tuple(sorted(numbers, key=int))}'
    )


def check_ids(entries, root):
  """Refuses two cases of one id."""
  seen = {}
  for e in entries:
    other = seen.setdefault(e.id, e)
    if other is not e:
      files = '' if e.where else f' ({other.image.name} and {e.image.name})'
      raise ValueError(
        f'{e.where or root}: case {e.id} occurs twice{files}; keep one'
      )


def without_links(entries, passed):
  """The entries without those whose files are another's, under other names.

  Two labels, splits or masks of one file are left for `check_copies`.
  """
  kept, seen = [], set()
  for e in entries:
    files = tuple(map(_inode, (*e.images, *e.masks)))
    key = (files, e.label, e.split)
    if None not in files and not e.where and key in seen:
      passed[walk.COPIES] += 1
      continue
    seen.add(key)
    kept.append(e)
  return kept


def _inode(path):
  """What a file is, whatever its names; None where this cannot be told."""
  status = path.stat()
  return (status.st_dev, status.st_ino) if status.st_ino else None


def colour(entries):
  """(whether grey pictures are to become colour, notes), by the headers.

  Grey beside colour would be found in the midst of training; grey repeated to
  three channels is the same picture. Of 8 bits beside 16 a note tells.
  """
  counts, depths = collections.Counter(), collections.Counter()
  for e in entries:
    if len(e.images) == 1 and e.image.suffix.lower() in _PICTURES:
      channels, bits = _form(e.image) or (None, None)
      counts[channels] += 1
      depths[bits] += 1
  notes = []
  if deep := depths[8] and depths[16]:
    notes.append(
      f'{deep} pictures are of 16 bits, {depths[8]} of 8: bring them to one '
      "range in data.preprocess, as {'name': 'zscore'} does"
    )
  mixed = bool(counts[1] and counts[3])
  if mixed:
    notes.append(
      f'{counts[1]} pictures are grey, {counts[3]} in colour: grey is taken '
      'as colour, of three equal channels'
    )
  return mixed, tuple(notes)


@functools.lru_cache(2**17)
def _form(path):
  return formats.picture_form(path)


_PICTURES = (
  '.png', '.jpg', '.jpeg', '.bmp', '.gif', '.webp', '.jp2', '.tif', '.tiff',
)  # fmt: skip


def check_spelling(entries):
  """Refuses patients p1 and P1; names the cases, not the patients."""
  seen = {}
  for e in entries:
    if e.patient == composed(e.id):  # nobody named it
      continue
    other = seen.setdefault(e.patient.casefold(), e)
    if other.patient != e.patient:
      raise ValueError(
        f'the patients of cases {other.id} and {e.id} differ only in '
        'capitals; write one of them'
      )


def check_patients(entries):
  """Refuses a patient in two splits; names the cases, not the patient."""
  seen = {}
  for e in entries:
    other = seen.setdefault(e.patient, e)
    if other.split != e.split:
      raise ValueError(
        f'cases {other.id} and {e.id} are of one patient, but in '
        f'{other.split} and {e.split}; keep all images of a patient in one '
        'split, or say in data.patient who is who'
      )


def check_copies(entries):
  """Refuses one image under two splits or two labels."""
  # Of a DICOM series, a folder, the files have ids of their own.
  found = [e for e in entries if e.images and not e.image.is_dir()]
  for alike in _alike(found, lambda e: e.image.stat().st_size):
    for begun in _alike(alike, lambda e: _head(e.image)):
      # Whole files are read only where a copy would be refused.
      if len({(e.split, e.label) for e in begun}) > 1:
        for first, *others in _alike(begun, lambda e: digest_of(e.image)):
          for other in others:
            _check_copy(first, other)


def _alike(entries, key):
  """Lists of the entries, two or more, of which a key says the same."""
  groups = collections.defaultdict(list)
  for e in entries:
    groups[key(e)].append(e)
  return [group for group in groups.values() if len(group) > 1]


def _head(path):
  """A digest of a file's first bytes."""
  with path.open('rb') as f:
    return hashlib.sha256(f.read(_HEAD)).digest()


def _check_copy(first, other):
  for field in ('split', 'label'):
    values = getattr(first, field), getattr(other, field)
    if values[0] != values[1]:
      raise ValueError(
        f'{first.image} and {other.image} are the same image, with {field} '
        f'{values[0]} and {values[1]}; keep one'
      )
