"""Cases whose fields are told: by a table, by patterns of paths, or by both.

What a field is told to be is a column of the table, or a text with {names} in
it: names are columns, or what `medjax.data.folder.pattern` reads off the path
of the image. {a,b} are several: the channels of an image, or labels.
"""

import dataclasses
import math
import re

import numpy as np

from medjax.build import closest
from medjax.data import formats
from medjax.data.folder import pattern, tables
from medjax.data.folder.entry import (
  FIELDS,
  Entry,
  name_of,
  split_name,
)
from medjax.data.folder.found import filled, find, join

# Names of a case that a table's other columns cannot take.
_TAKEN = frozenset(('image', 'mask', 'label', 'patient', 'id', 'split'))
_TAKEN |= {'affine', 'spacing', 'index', 'valid'}
_SEVERAL = ('image', 'label')
_TRUTH = {'0': 0, '0.0': 0, 'false': 0, '1': 1, '1.0': 1, 'true': 1}


def from_patterns(root, fields):
  """The entries of a folder without a table."""
  told = _told(fields)
  if not told['image']:
    raise ValueError(
      'data.fields needs image, where the images lie, or a table in data.table'
    )
  for field, texts in told.items():
    for text in texts:
      if not pattern.names(text):
        raise ValueError(
          f'data.fields.{field} {text!r} has no {{name}} in it, and there is '
          'no table whose column it could be'
        )
  _check_names(told, pattern.names(told['image'][0]))
  found = find(root, told['image'])
  if not found:
    raise FileNotFoundError(f'{root / told["image"][0]}: matches no image')
  if told['mask']:  # '{id}.png' matches x_mask.png as well
    (mask,) = told['mask']
    masks = {root / pattern.fill(mask, f.values) for f in found}
    found = [f for f in found if f.images[0] not in masks]
  return [_entry(root, told, f, f.values) for f in found]


def from_table(table, root, fields, *, by_patient_id=False):
  """The entries that the rows of a `Table` give; paths are below `root`.

  A field that is not told is the column of its name; images are in `path` or
  `image`. Without these, a row means all images below the folder called as its
  `patient`, or with `by_patient_id` all DICOM that has it as PatientID.
  """
  told = _told(_defaults(table, fields), columns=True)
  captured = pattern.names(*told['image'])
  _check_names(told, (*table.columns, *told, *captured), table)
  if not any(told[f] for f in ('label', 'mask', 'time')) and (
    'label' not in captured
  ):
    raise ValueError(
      f'{table.path}: needs a column label or mask, or time and event; has '
      f'{", ".join(table.columns)}: say in data.fields which it is'
    )
  columns = {c for texts in told.values() for c in texts}
  others = [c for c in table.columns if f'{{{c}}}' not in columns]
  for column in others:
    if column in _TAKEN or (told['time'] and column in ('time', 'event')):
      raise ValueError(
        f'{table.path}: column {column!r} has the name of something else in a '
        'case; rename it, or say in data.fields what it is'
      )
  rows = [_values(row, told) for row in table.rows]
  entries = []
  for row, values, found, cells in zip(
    table.rows,
    rows,
    join(table, root, told['image'], rows, by_patient_id=by_patient_id),
    tables.clinical(table, others),
    strict=True,
  ):
    for one in found:
      entry = _entry(root, told, one, {**one.values, **values}, row.where)
      extra = {**cells, **_survival(told, values, row.where)}
      entries.append(dataclasses.replace(entry, extra=extra))
  _check_rows(entries)
  return entries


# What is told.


def _told(fields, *, columns=False):
  """{field: (text, …)}: with the {a,b} written out, and {column} for column."""
  told = {}
  for field in FIELDS:
    texts = pattern.expand(fields[field]) if fields.get(field) else ()
    if columns:
      texts = tuple(t if pattern.names(t) else f'{{{t}}}' for t in texts)
    if len(texts) > 1 and field not in _SEVERAL:
      raise ValueError(f'data.fields.{field} must be one, not {texts}')
    told[field] = texts
  return told


def _defaults(table, fields):
  """The columns of a field's own name, where the field is not told."""
  fields = {k: v for k, v in fields.items() if v}
  names = {f: (f,) for f in FIELDS} | {'image': ('path', 'image')}
  for field, candidates in names.items():
    column = next((c for c in candidates if c in table.columns), None)
    if column and field not in fields:
      fields[field] = column
  survival = {'time', 'event'} & set(fields)
  if len(survival) == 1:  # 'time' alone may be of the scan
    (field,) = survival
    if fields[field] != field:
      other = 'time' if field == 'event' else 'event'
      raise ValueError(f'data.fields.{field} needs data.fields.{other} too')
    del fields[field]
  return fields


def _check_names(told, known, table=None):
  for field, texts in told.items():
    for name in pattern.names(*texts):
      if name not in known:
        whose = f'{table.path}: no column' if table else 'image has no'
        raise ValueError(
          f'data.fields.{field}: {whose} {name!r}{closest(name, known)}'
        )


def _values(row, told):
  """A row's cells, and by their names the fields that these give."""
  values = dict(row.cells)
  for field, texts in told.items():
    if field in _SEVERAL or field == 'mask' or not texts:
      continue
    (text,) = texts
    if set(pattern.names(text)) <= set(row.cells):
      values[field] = filled(text, row.cells, row.where)
  return values


# One case.


def _entry(root, told, found, values, where=''):
  """The `Entry` of images, with the fields that `values` fill."""

  def text(field):
    if told[field]:
      return filled(told[field][0], values, where)
    return values.get(field, '')

  split = text('split')
  return Entry(
    id=text('id') or name_of(found.images[0], root),
    images=found.images,
    patient=text('patient'),
    mask=_mask(root, told, values, found.images[0], where),
    label=_label(told, values, where),
    split=split_name(split) or split.lower(),
    where=where,
  )


def _mask(root, told, values, image, where):
  if not told['mask']:
    return None
  text = filled(told['mask'][0], values, where)
  found = [path for path, _ in pattern.find(root, text)]
  place = f'{where}: ' if where else ''
  if not found:
    raise FileNotFoundError(f'{place}no mask {root / text} of {image}')
  if len(found) > 1:
    raise ValueError(
      f'{place}{len(found)} masks {root / text} of {image}; one is needed'
    )
  (mask,) = found
  if mask.is_dir() and not formats.holds_image(mask):
    inside = sorted(p for p in mask.iterdir() if not p.name.startswith('.'))
    mask = inside[0] if len(inside) == 1 else mask
  return mask


def _label(told, values, where):
  """A class, or a tuple of 0 and 1 where several columns are told."""
  texts = told['label']
  if not texts:
    return _index(values['label']) if 'label' in values else None
  cells = [filled(text, values, where) for text in texts]
  if len(cells) == 1:
    return _index(cells[0])
  odd = [i for i, cell in enumerate(cells) if cell.lower() not in _TRUTH]
  if odd:
    raise ValueError(
      f'{where}: {texts[odd[0]]} is {cells[odd[0]]!r}; each of several labels '
      'is 0 or 1'
    )
  return tuple(_TRUTH[cell.lower()] for cell in cells)


def _index(label):
  """'1.0' and '01', as spreadsheets write them, are '1'."""
  whole = re.fullmatch(r'0*(\d+)(\.0*)?', label)
  return whole[1] if whole else label


def _survival(told, values, where):
  """{'time': …, 'event': 0 or 1} where the table has them."""
  if not told['time']:
    return {}
  time = filled(told['time'][0], values, where)
  event = filled(told['event'][0], values, where).lower()
  number = tables.number(time)
  if number is None or number < 0 or math.isnan(number):
    raise ValueError(f'{where}: time is {time!r}, not a number from 0')
  if event not in _TRUTH:
    raise ValueError(
      f'{where}: event is {event!r}; 1 is the event, 0 is censored'
    )
  return {'time': np.float32(number), 'event': np.int32(_TRUTH[event])}


def _check_rows(entries):
  """Refuses an image that two rows are about."""
  seen = {}
  for e in entries:
    other = seen.setdefault(e.images, e)
    if other is not e:
      line = other.where.rpartition(', ')[2]
      raise ValueError(
        f'{e.where}: {e.image} is already in {line}; keep one of the two'
      )
