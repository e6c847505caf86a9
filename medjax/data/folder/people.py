"""Who the patient is where nobody says: by a column, folders, or DICOM headers.

What is taken is noted; `data.patient` and `data.fields.patient` overrule it.
"""

import collections
import concurrent.futures
import dataclasses
import re

from medjax.data import formats
from medjax.data.folder.class_folders import FOLD, numbered
from medjax.data.folder.entry import IMAGE_FOLDERS, split_name
from medjax.data.folder.tables import MISSING
from medjax.data.formats import dicom
from medjax.files import composed

_COLUMNS = frozenset(('patientid', 'subject', 'subjectid', 'participantid'))
_OTHERS = ('label', 'text', 'split', 'time', 'event')
_MANY = 10  # images; of fewer, half may well be one patient's


def column(table, fields, covariates=()):
  """The column that names patients by its own name, or ''.

  None is looked for where `fields` tell the patient, nor taken of what they
  tell to be something else. Raises ValueError where columns disagree.
  """
  if fields.get('patient') or '{patient}' in (fields.get('image') or ''):
    return ''
  texts = ','.join(fields.get(f) or '' for f in _OTHERS)
  taken = {*re.findall(r'[^{},]+', texts), *covariates}
  found = [
    c
    for c in table.columns
    if re.sub('[_ ]', '', c.lower()) in _COLUMNS and c not in taken
  ]
  if len({_groups(table, c) for c in found}) > 1:
    raise ValueError(
      f'{table.path}: which of the columns {", ".join(found)} is the patient? '
      f"Say data.fields.patient='{found[0]}'"
    )
  return found[0] if found else ''


def _groups(table, name):
  """Which rows a column has the same cell in: of each the first such row."""
  first = {}
  return tuple(
    first.setdefault(row.cells[name], i) for i, row in enumerate(table.rows)
  )


def by_column(entries, name, table):
  """(entries with the patients of a column of their table, notes).

  Where no two cases share a patient, the cases are patients as they are. Where
  there is no such column, headers may tell (see `by_header`).
  """
  if not name:
    return by_header(entries)
  cells = {row.where: row.cells[name] for row in table.rows}
  cells = {k: '' if c.lower() in MISSING else c for k, c in cells.items()}
  counts = collections.Counter(cells[e.where] for e in entries)
  blank = counts.pop('', 0)
  if max(counts.values(), default=0) < 2:
    return entries, ()
  more = f'; {blank} cases have none, and are patients of their own'
  note = f'the column {name} is taken as the patient{more if blank else ""}'
  entries = [dataclasses.replace(e, patient=cells[e.where]) for e in entries]
  return entries, (note,)


def by_folder(entries, root, dense):
  """(entries, notes): images/P003/0.png is of P003.

  So it is where five folders or more below images/ are numbered, as in folders
  of classes; else headers tell (see `by_header`), or a note says that every
  image is a patient of its own.
  """
  folders = [_below_images(e, root) for e in entries]
  counts = collections.Counter(filter(None, folders))
  if (
    max(counts.values(), default=0) > 1
    and numbered(counts)
    and not all(map(FOLD.fullmatch, counts))
  ):
    entries = [
      dataclasses.replace(e, patient=name) if name else e
      for e, name in zip(entries, folders, strict=True)
    ]
    return entries, (
      f'{len(counts)} numbered folders below {_images_of(entries, root)}/ are '
      'taken as patients; else say data.patient',
    )
  entries, notes = by_header(entries)
  return entries, notes or _unnamed(entries, dense)


def by_header(entries):
  """(entries, notes): DICOM images that nobody's name is of, by PatientID.

  They are as they are where no two of them share one. An id that all have, or
  more than half of many, tells nobody apart: some de-identification writes it.
  """
  asked = [e for e in entries if e.images and not e.patient]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:  # shares are slow
    ids = [*pool.map(_id_of, asked)]
  found = {e.id: k for e, k in zip(asked, ids, strict=True) if k}
  counts = collections.Counter(found.values())
  (shared, most), *_ = counts.most_common(1) or [('', 0)]
  notes = []
  if most > 1 and (most == len(found) or most > max(_MANY, len(found) / 2)):
    which = 'all' if most == len(found) else f'{most} of'
    notes.append(
      f'{which} {len(found)} DICOM images have one PatientID: each is taken as '
      "a patient of its own; if they are of one, say data.patient='dicom'"
    )
    found = {k: v for k, v in found.items() if v != shared}
    del counts[shared]
  if len(counts) == len(found):
    return entries, tuple(notes)
  entries = [
    dataclasses.replace(e, patient=found.get(e.id, e.patient)) for e in entries
  ]
  blank = ids.count('')
  more = f'; {blank} have none, and are patients of their own' if blank else ''
  notes.append(
    f'{len(found)} DICOM images are of {len(counts)} patients by their '
    f'PatientID, at most {max(counts.values())} of one{more}; else say '
    "data.patient, as '.+' where each is of its own"
  )
  return entries, tuple(notes)


def _id_of(entry):
  """The patient in the header of DICOM, '' if it has none; None of others."""
  if not _is_dicom(entry.image):
    return None
  try:
    return formats.patient_of(entry.image)
  except ValueError:
    return ''


def _is_dicom(image):
  """Whether an image is DICOM; only files without a suffix are opened."""
  known = formats.suffix(image)
  return known in dicom.SUFFIXES or (not known and formats.is_dicom(image))


def _parts(entry, root):
  return entry.image.relative_to(root).parts[:-1]


def _images_of(entries, root):
  """What the folder of images is called."""
  return next(
    p for e in entries for p in _parts(e, root) if p.lower() in IMAGE_FOLDERS
  )


def _below_images(entry, root):
  """P003 of train/images/P003/0.png, or '' where there is no such folder."""
  if entry.patient or entry.label is not None:
    return ''
  parts = _parts(entry, root)
  start = next(
    (i for i, p in enumerate(parts, 1) if p.lower() in IMAGE_FOLDERS), None
  )
  below = parts[start:] if start else ()
  if below and split_name(below[0]):
    below = below[1:]
  return composed(below[0]) if below else ''


def _unnamed(entries, dense):
  """The note that images of one folder are patients of their own."""
  counts, depths = collections.Counter(), set()
  for e in entries:
    if e.patient or (e.label is not None and not dense):  # a class's folder
      continue
    *folders, _ = e.id.split('/')
    depth = int(bool(folders) and bool(split_name(folders[0])))
    if len(folders) > depth:
      counts[folders[depth]] += 1
      depths.add(depth)
  if len(counts) < 2 or max(counts.values()) < 2 or len(depths) > 1:
    return ()
  rule = '^' + '[^/]+/' * depths.pop() + '([^/]+)/'
  return (
    f'every image is a patient of its own, though {len(counts)} folders hold '
    f'several: where a folder is a patient, say data.patient={rule!r}',
  )
