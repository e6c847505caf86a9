"""Your own files as cases, without a builder: `open_folder(path, split)`.

What a folder may look like (PNG, JPEG, NIfTI, DICOM), looked for in this order:

    cases.csv                     or csv='…': columns path, label and/or mask,
                                  split, patient
    train/ validation/ test/      each of them one of the following
    images/x.nii.gz masks/x.…     also imagesTr/ labelsTr/, images/ labels/
    x.png x_mask.png              also x_seg, x_label
    class_a/x.png class_b/y.png   one directory per class

Wherever an image x.nii.gz may lie, so may a directory x/ holding one DICOM
series (in class_a/x/, too: files directly in class_a/ are pictures). A mask may
be a DICOM SEG or RT structure set: its masks are numbered from 1 in the order
of the file, and may not overlap.
"""

import csv as csv_module
import dataclasses
import filecmp
import hashlib
import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from medjax.build import closest
from medjax.data import formats
from medjax.data.records import check_case

SPLITS = ('train', 'validation', 'test')
_SPLIT_NAMES = {
  'train': 'train',
  'training': 'train',
  'validation': 'validation',
  'valid': 'validation',
  'val': 'validation',
  'dev': 'validation',
  'test': 'test',
  'testing': 'test',
}
_PAIRS = (
  ('images', 'masks'),
  ('images', 'labels'),
  ('imagesTr', 'labelsTr'),
  ('image', 'mask'),
)
_MASK_STEM = re.compile(r'^(.+)_(mask|seg|label)$')


@dataclasses.dataclass(frozen=True)
class Entry:
  """One case before its files are read; `split` is '' until assigned."""

  id: str
  patient: str
  image: pathlib.Path
  mask: pathlib.Path | None = None
  label: str | None = None
  split: str = ''


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
      self._num_classes = 1 + max(map(_highest_label, self._everything))
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
    volume = formats.read(entry.image)
    case = {
      'id': entry.id,
      'patient': entry.patient,
      'image': volume.array,
      'affine': volume.affine,
    }
    if entry.mask is not None:
      case['mask'] = _mask_on(entry, volume)
    if entry.label is not None:
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


def open_folder(
  path,
  split,
  *,
  seed=0,
  fractions=(0.7, 0.15, 0.15),
  csv=None,
  patient=None,
  class_names=None,
):
  """The raw cases of one split of a folder of files, as a `Sequence`.

  Args:
    path: the folder, or a CSV file whose paths are relative to it.
    split: 'train', 'validation', 'test', another name used in the CSV, or
      several joined by '+'.
    seed: of the assignment of patients to splits; the same in all calls.
    fractions: of patients in train, validation, test. Used where the folder or
      CSV does not say; a split that it says stays, and a missing validation
      split is taken from train.
    csv: a CSV file; paths in it are relative to `path`.
    patient: a regular expression found in the case's id (path without suffix);
      its first group, or the whole match, is the patient. Without it and
      without a CSV column every case is its own patient.
    class_names: names of the mask's classes, background first, or the order of
      the labels; default for labels: sorted.

  Patients are never shared between splits, and labels are spread evenly as far
  as that allows. Raises FileNotFoundError and ValueError, naming the file.
  """
  root = pathlib.Path(path).expanduser()
  if not root.exists():
    raise FileNotFoundError(f'{root}: no such folder')
  entries = _entries(root, csv)
  entries = [_with_patient(e, patient) for e in entries]
  names = _class_names(entries, root, class_names)
  _check(entries, root)
  entries = _assign(entries, seed, fractions)
  _check_patients(entries)
  _check_copies(entries)
  wanted = [_SPLIT_NAMES.get(s, s) for s in split.split('+')]
  known = list(dict.fromkeys([*SPLITS, *sorted({e.split for e in entries})]))
  for name in wanted:
    if name not in known:
      raise ValueError(f'{root}: no split {name!r}{closest(name, known)}')
    if not any(e.split == name for e in entries):
      patients = len({e.patient for e in entries})
      raise ValueError(
        f'{root}: split {name!r} is empty: {patients} patients and fractions '
        f'{tuple(fractions)}; add files, or raise its fraction'
      )
  chosen = [e for e in entries if e.split in wanted]
  return FolderCases(root.name, '+'.join(wanted), chosen, names, entries)


# What lies in the folder.


def _entries(root, csv):
  if csv is not None:
    table = pathlib.Path(csv).expanduser()
    return _from_csv(table if table.exists() else root / csv, root)
  if root.is_file():
    return _from_csv(root, root.parent)
  if (root / 'cases.csv').is_file():
    return _from_csv(root / 'cases.csv', root)
  parts = {
    _SPLIT_NAMES[p.name.lower()]: p
    for p in _folders(root)
    if p.name.lower() in _SPLIT_NAMES
  }
  if not parts:
    return _from_layout(root, root)
  return [
    dataclasses.replace(e, split=split)
    for split, folder in parts.items()
    for e in _from_layout(folder, root)
  ]


def _from_layout(folder, root):
  for images, masks in _PAIRS:
    if (folder / images).is_dir() and (folder / masks).is_dir():
      entries = _from_pairs(
        _files(folder / images), _files(folder / masks), root
      )
      return [
        dataclasses.replace(e, id=_name(folder / e.image.name, root))
        for e in entries
      ]
  for images, masks in _PAIRS:
    if (folder / images).is_dir():
      raise FileNotFoundError(f'{folder / images}: has no {masks}/ beside it')
  files = _files(folder)
  masks = [f for f in files if _MASK_STEM.match(formats.stem(f))]
  if masks:
    return _from_pairs([f for f in files if f not in masks], masks, root)
  entries = [
    _entry(file, root, label=sub.name)
    for sub in _folders(folder)
    for file in _class_files(sub)
  ]
  if not entries:
    raise ValueError(
      f'{folder}: no images found; expected one directory per class, images/ '
      'and masks/, x.png beside x_mask.png, or a cases.csv'
    )
  return entries


def _from_pairs(images, masks, root):
  by_stem = {}
  for mask in masks:
    match = _MASK_STEM.match(formats.stem(mask))
    stem = match[1] if match else formats.stem(mask)
    if stem in by_stem:
      raise ValueError(f'{mask}: second mask for {stem}, after {by_stem[stem]}')
    by_stem[stem] = mask
  entries = []
  for image in images:
    stem = formats.stem(image)
    if stem not in by_stem:
      raise FileNotFoundError(f'{image}: has no mask of the same name')
    entries.append(_entry(image, root, mask=by_stem.pop(stem)))
  if by_stem:
    raise FileNotFoundError(
      f'{next(iter(by_stem.values()))}: mask without an image of the same name'
    )
  return entries


def _from_csv(table, root):
  if not table.is_file():
    raise FileNotFoundError(f'{table}: no such file')
  with table.open(newline='', encoding='utf-8-sig') as f:
    reader = csv_module.DictReader(f)
    columns = reader.fieldnames or []
    rows = [{k: (v or '').strip() for k, v in r.items() if k} for r in reader]
  if 'path' not in columns or not {'label', 'mask'} & set(columns):
    raise ValueError(
      f'{table}: needs columns path and label or mask (and, if you like, '
      f'split, patient), has {", ".join(columns) or "none"}'
    )
  if not rows:
    raise ValueError(f'{table}: has no rows')
  entries = []
  for number, row in enumerate(rows, start=2):
    for column in {'path', 'label', 'mask', 'split'} & set(columns):
      if not row[column]:
        raise ValueError(f'{table}, line {number}: {column} is empty')
    files = {c: root / row[c] for c in ('path', 'mask') if c in columns}
    for file in files.values():
      if not file.exists():
        raise FileNotFoundError(f'{table}, line {number}: no file {file}')
    split = row.get('split', '').lower()
    entry = _entry(
      files['path'],
      root,
      mask=files.get('mask'),
      label=_index(row.get('label')),
      split=_SPLIT_NAMES.get(split, split),
    )
    entries.append(dataclasses.replace(entry, patient=row.get('patient', '')))
  if 'label' in columns:
    _check_indices(table, {e.label for e in entries})
  if 'patient' in columns and not all(e.patient for e in entries):
    line = next(i for i, e in enumerate(entries, start=2) if not e.patient)
    raise ValueError(f'{table}, line {line}: patient is empty')
  return entries


def _index(label):
  """'1.0' and '01', as spreadsheets write them, are '1'."""
  whole = re.fullmatch(r'0*(\d+)(\.0*)?', label or '')
  return whole[1] if whole else label


def _entry(image, root, **fields):
  return Entry(id=_name(image, root), patient='', image=image, **fields)


def _name(image, root):
  """The path below the root, without suffix; a pair's folder is left out."""
  parent = pathlib.PurePath(os.path.relpath(image, root)).parent
  return (parent / formats.stem(image)).as_posix()


def _with_patient(entry, pattern):
  if entry.patient:
    return entry
  if pattern is None:
    return dataclasses.replace(entry, patient=entry.id)
  match = re.search(pattern, entry.id)
  if match is None:
    raise ValueError(
      f'{entry.image}: no patient: {pattern!r} is not found in {entry.id!r}'
    )
  found = match[1] if match.re.groups else match[0]
  return dataclasses.replace(entry, patient=found)


def _files(folder):
  return sorted(
    p
    for p in folder.iterdir()
    if not p.name.startswith('.') and formats.is_image(p)
  )


def _folders(folder):
  return sorted(
    p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.')
  )


def _class_files(folder):
  files = _files(folder)
  if not files:
    raise ValueError(
      f'{folder}: class without images; add some, or remove the directory'
    )
  return files


# Whether it makes sense.


def _class_names(entries, root, given):
  """Names in the order of their indices; () where no case has a label."""
  labels = {e.label for e in entries if e.label is not None}
  if given is not None and labels:
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
  if all(c.isdecimal() for c in labels):
    return tuple(sorted(labels, key=int))
  return tuple(sorted(labels))


def _check_indices(table, labels):
  """Numbers in a CSV are class indices: whole, from 0, without gaps."""
  numbers = {n for n in labels if re.fullmatch(r'[-+]?\d*\.?\d+', n)}
  if not numbers:
    return
  for label in sorted(labels - numbers):
    raise ValueError(
      f'{table}: label {label!r} among integers; use names or integers'
    )
  for label in sorted(numbers):
    if not label.isdecimal():
      raise ValueError(
        f'{table}: label {label!r} is not a class index (0, 1, 2, …)'
      )
  missing = set(range(max(map(int, numbers)) + 1)) - set(map(int, numbers))
  if missing:
    raise ValueError(
      f'{table}: class {min(missing)} has no case; number classes from 0 '
      'without gaps, or give them names'
    )


def _check(entries, root):
  seen = {}
  for e in entries:
    if e.id in seen:
      raise ValueError(f'{root}: case {e.id} occurs twice; keep one')
    seen[e.id] = e


def _check_patients(entries):
  splits = defaultdict(set)
  for e in entries:
    splits[e.patient].add(e.split)
  for name, found in splits.items():
    if len(found) > 1:
      raise ValueError(
        f'patient {name} is in {" and ".join(sorted(found))}; keep all images '
        'of a patient in one split'
      )


def _check_copies(entries):
  """Refuses one image under two splits or two labels."""
  sizes = defaultdict(list)
  for e in entries:
    if e.image.is_dir():  # a DICOM series; its files have ids of their own
      continue
    sizes[e.image.stat().st_size].append(e)
  for group in sizes.values():
    seen = {}
    for e in group if len(group) > 1 else ():
      with e.image.open('rb') as f:
        other = seen.setdefault(f.read(2**20), e)
      fields = [
        f'{field} {getattr(other, field)} and {getattr(e, field)}'
        for field in ('split', 'label')
        if getattr(e, field) != getattr(other, field)
      ]
      if fields and filecmp.cmp(e.image, other.image, shallow=False):
        raise ValueError(
          f'{other.image} and {e.image} are the same image, with {fields[0]}; '
          'keep one'
        )


# Splits.


def _assign(entries, seed, fractions):
  """Gives every entry a split, by patient, labels spread evenly."""
  stated = {e.split for e in entries} - {''}
  if stated and any(not e.split for e in entries):
    odd = next(e for e in entries if not e.split)
    raise ValueError(f'{odd.image}: has no split, though others have')
  fractions = dict(zip(SPLITS, fractions, strict=True))
  if min(fractions.values()) < 0 or sum(fractions.values()) <= 0:
    raise ValueError(f'fractions {tuple(fractions.values())} must be positive')
  if not stated:
    return _divide(entries, seed, fractions)
  if 'train' in stated and 'validation' not in stated:
    shares = {k: fractions[k] for k in ('train', 'validation')}
    train = [e for e in entries if e.split == 'train']
    rest = [e for e in entries if e.split != 'train']
    return _divide(train, seed, shares) + rest
  return entries


def _divide(entries, seed, fractions):
  labels = defaultdict(list)
  for e in entries:
    labels[e.patient].append(e.label or '')
  strata = defaultdict(list)
  for name in sorted(labels):
    strata[Counter(sorted(labels[name])).most_common(1)[0][0]].append(name)
  rng = np.random.default_rng(seed)
  total = sum(fractions.values())
  overall = dict.fromkeys(fractions, 0.0)  # owed to each split so far
  chosen = {}
  for stratum in sorted(strata):
    owed = dict.fromkeys(fractions, 0.0)
    for i in rng.permutation(len(strata[stratum])):
      for s, fraction in fractions.items():
        owed[s] += fraction / total
        overall[s] += fraction / total
      split = max(fractions, key=lambda s: (round(owed[s], 6), overall[s]))
      owed[split] -= 1
      overall[split] -= 1
      chosen[strata[stratum][i]] = split
  return [dataclasses.replace(e, split=chosen[e.patient]) for e in entries]


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
  shape = volume.array.shape[:-1]
  if mask.array.shape != shape:
    raise ValueError(
      f'{entry.mask}: has shape {mask.array.shape} but {entry.image} has '
      f"{shape}; resample the mask to the image's grid"
    )
  both = volume.meta['unit'] == mask.meta['unit'] == 'mm'
  corners = np.array([[*np.zeros(len(shape)), 1], [*shape, 1]]).T
  moved = (volume.affine - mask.affine) @ corners
  if both and np.abs(moved).max() > 0.5 * volume.spacing.min():
    raise ValueError(
      f'{entry.mask}: lies {np.abs(moved).max():.1f} mm from {entry.image} '
      "(their affines differ); resample the mask to the image's grid"
    )
  return mask.array
