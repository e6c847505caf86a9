"""Cases whose fields are told: by a table, by patterns of paths, or by both.

What a field is told to be is a column of the table, or a text with {names} in
it: names are columns, or what `medjax.data.folder.pattern` reads off the path
of the image. {a,b} are several: the channels of an image, labels, or masks of
a structure each. A field of another name than those of `entry.FIELDS` is a
further image.
"""

import dataclasses

from medjax.build import closest
from medjax.data.folder import cells, landmarks, pattern, people, references
from medjax.data.folder.entry import FIELDS, Entry, name_of, split_name
from medjax.data.folder.found import Found, filled, find, join
from medjax.data.folder.places import Places
from medjax.data.folder.tables import PLACES
from medjax.files import composed

# Names of a case that a table's other columns cannot take.
_TAKEN = frozenset(('image', 'mask', 'label', 'patient', 'id', 'split'))
_TAKEN |= {'affine', 'spacing', 'index', 'valid', 'covariates', 'text'}
_SEVERAL = ('image', 'label', 'mask')
# Fields whose columns may be called Path, Label, …; an ID is often a patient's.
_IN_CAPITALS = ('image', 'label', 'mask', 'patient', 'split')


def check(fields):
  """Raises ValueError for a field that is meant to be one of the known."""
  for field in fields:
    if field not in FIELDS and (
      closest(field, FIELDS).startswith('; did') or not field.isidentifier()
    ):
      raise ValueError(f'data.fields has no {field!r}{closest(field, FIELDS)}')
    if field in _TAKEN - set(FIELDS) or field in ('modality',):
      raise ValueError(f'data.fields.{field}: a case has that already')


def from_patterns(root, fields, passed):
  """(entries, notes) of a folder without a table."""
  told = _told(fields)
  if not told['image']:
    raise ValueError(
      'data.fields needs image, where the images lie, or a table in data.table'
    )
  for field, texts in told.items():
    for text in texts:
      if not pattern.names(text) and not (field == 'mask' and len(texts) > 1):
        raise ValueError(
          f'data.fields.{field} {text!r} has no {{name}} in it, and there is '
          'no table whose column it could be'
        )
  _check_names(told, pattern.names(told['image'][0]))
  found = find(root, told['image'], passed)
  if not found:
    raise FileNotFoundError(f'{root / told["image"][0]}: matches no image')
  if told['mask']:  # '{id}.png' matches x_mask.png as well
    own = {_path(f.images[0]): _filled_masks(root, told, f) for f in found}
    masks = {m for image, ms in own.items() for m in ms if m != image}
    found = [f for f in found if _path(f.images[0]) not in masks]
  places = Places(root)
  structures = _structures(fields)
  entries = [
    _entry(places, told, f, f.values, structures=structures) for f in found
  ]
  return entries, _notes(entries, told)


def from_table(
  table, root, fields, *, by_patient_id=False, by_name=True, images=True,
  known=(), unlabelled=False, unread=False, uncertain='',
):  # fmt: skip
  """(entries, notes, names of covariates) of a `Table`; paths are below `root`.

  A field that is not told is the column of its name; images are in `path` or
  `image`. Without these, a row means all images below the folder called as its
  `patient`, or `by_patient_id` all DICOM of it. `by_name`: a column or headers
  may name patients (see `people`). Without `images` a row is a case by itself,
  its covariates by default all that is no field; `known`: those of another
  table. `unlabelled`: no reference is asked for, `unread`: nor is one read.
  """
  covariates = cells.columns_of(table, fields.get('covariates'))
  fields = _defaults(table, fields)
  person = people.column(table, fields, covariates) if by_name else ''
  if not images:  # where these lie, a table of features may tell
    fields = {k: v for k, v in fields.items() if k not in ('image', 'mask')}
  told = _told(fields, columns=table.columns)
  options = dict(uncertain=uncertain, unread=unread)
  options['structures'] = _structures(fields)
  captured = pattern.names(*told['image'])
  _check_names(told, (*table.columns, *told, *captured), table)
  if not unlabelled:
    _check_reference(table, told, captured)
  others, covariates, chosen = _columns(
    table, told, covariates, person,
    choose=not (images or covariates or known), images=images,
  )  # fmt: skip
  if unread:  # an outcome may be there, and in part
    told |= {'label': (), 'time': (), 'event': ()}
  rows = [_values(row, told) for row in table.rows]
  runs = references.are_runs(told['mask'], table)
  measured, names, notes = _measured(table, known, covariates)
  places = Places(root)
  joined = _alone(table)
  if images:
    how = {'by_patient_id': by_patient_id}
    joined = join(table, places, told['image'], rows, **how)
  kept = cells.clinical(table, others)
  entries = []
  for i, (row, found) in enumerate(zip(table.rows, joined, strict=True)):
    extra = kept[i]
    if landmarks.COLUMN in row.cells:
      extra = {**extra, 'landmark': float(row.cells[landmarks.COLUMN])}
    if names:
      extra = {**extra, 'covariates': measured[i]}
    for one in found:
      entry = _entry(
        places, told, one, {**one.values, **rows[i]}, row.where, runs, **options
      )
      survival = cells.survival(told, rows[i], row.where, table)
      extra = {**extra, **entry.extra, **survival}
      entries.append(dataclasses.replace(entry, extra=extra))
  entries = references.joined(entries) if runs else entries
  _check_rows(entries)
  named = people.by_column(entries, person, table) if by_name else (entries, ())
  entries, taken = named
  notes = (*taken, *chosen, *notes, *_notes(entries, told, table, unread))
  return entries, notes, names


def _check_reference(table, told, captured):
  """Raises ValueError where nothing is a reference of the cases."""
  told = any(told[f] for f in ('label', 'mask', 'time'))
  if not told and 'label' not in captured:
    raise ValueError(
      f'{table.path}: needs a column label or mask, or time and event; has '
      f'{", ".join(table.columns)}: say in data.fields which it is'
    )


def _columns(table, told, covariates, person, *, choose, images):
  """(columns that are kept as they are, covariates, notes on the choice)."""
  places = () if images else PLACES
  others = _others(table, told, {*covariates, *places})
  if not choose:
    return others, covariates, ()
  free = [c for c in others if c.lower() not in PLACES and c != person]
  chosen, notes = cells.usable(table, free)
  return [c for c in others if c not in chosen], chosen, notes


def _measured(table, known, covariates):
  """(values (n, f), names, notes) of the covariates of rows."""
  if known:
    return cells.encoded(table, known), tuple(known), ()
  return cells.covariates(table, covariates)


def _alone(table):
  """A case without an image for each row, called by its line."""
  return [[Found((), {})] for _ in table.rows]


# What is told.


def _told(fields, *, columns=()):
  """{field: (text, …)}: with the {a,b} written out, and {column} for column."""
  told = {}
  for field in (*FIELDS, *(f for f in fields if f not in FIELDS)):
    if field == 'covariates':
      continue
    texts = pattern.expand(fields[field]) if fields.get(field) else ()
    if columns:
      texts = tuple(t if pattern.names(t) else f'{{{t}}}' for t in texts)
    if len(texts) > 1 and field not in _SEVERAL:
      raise ValueError(f'data.fields.{field} must be one, not {texts}')
    told[field] = texts
  if not set(_structures(fields)) <= set(columns):  # paths, not columns
    told['mask'] = pattern.expand(fields['mask'])
  return told


def _structures(fields):
  """Names of the structures that masks are told for with {a,b}."""
  names = pattern.choices(fields.get('mask') or '')
  return names if len(names) > 1 else ()


def _further(told):
  """The fields that are further images."""
  return [f for f in told if f not in FIELDS and told[f]]


def _defaults(table, fields):
  """The columns of a field's own name, where the field is not told."""
  fields = {k: v for k, v in fields.items() if v}
  names = {f: (f,) for f in FIELDS if f not in ('covariates', 'text')}
  names |= {'image': ('path', 'image')}
  small = {c.lower(): c for c in table.columns}
  for field, candidates in names.items():
    column = next((c for c in candidates if c in table.columns), None)
    if column is None and field in _IN_CAPITALS:
      column = next((small[c] for c in candidates if c in small), None)
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


def _others(table, told, covariates):
  """The columns that are kept with the case under their own names."""
  texts = [t for texts in told.values() for t in texts]
  whole = {t for t in texts if t.startswith('{')}
  used = set(pattern.names(*texts))
  others = []
  for column in table.columns:
    if f'{{{column}}}' in whole or column in covariates:
      continue
    taken = column in _TAKEN | set(told)
    if taken and column in used:  # it says where, and is no field by itself
      continue
    if column in ('time', 'event'):
      taken = bool(told['time'])
    if taken:
      raise ValueError(
        f'{table.path}: column {column!r} has the name of something else in a '
        'case; rename it, or say in data.fields what it is'
      )
    others.append(column)
  return others


def _values(row, told):
  """A row's cells, and by their names the fields that these give."""
  values = dict(row.cells)
  for field in ('patient', 'id', 'split', 'time', 'event'):
    if told[field]:
      (text,) = told[field]
      if set(pattern.names(text)) <= set(row.cells):
        values[field] = filled(text, row.cells, row.where)
  return values


# One case.


def _entry(
  places, told, found, values, where='', runs=False, structures=(),
  uncertain='', unread=False,
):  # fmt: skip
  """The `Entry` of images, with the fields that `values` fill."""

  def text(field):
    if told[field]:
      return filled(told[field][0], values, where)
    return values.get(field, '')

  image = found.images[0] if found.images else None
  split = text('split')
  others = {}
  for field in _further(told):
    file = references.further(places, told[field][0], values, where)
    if file is not None:
      others[field] = file
  extra = {}
  if told['text'] and not cells.is_missing(told['text'][0], values):
    extra['text'] = text('text')
  masks = ()
  if told['mask'] and not runs:
    masks = references.masks(
      places, told['mask'], values, image, where, apart=bool(structures)
    )
  return Entry(
    id=text('id')
    or (name_of(image, places.root) if image else text('patient'))
    or where.rpartition(', ')[2],
    images=found.images,
    patient=text('patient'),
    masks=masks,
    structures=structures if masks else (),
    runs=(values.get(told['mask'][0][1:-1], ''),) if runs else None,
    label=None if unread else cells.label(told, values, where, uncertain),
    split=split_name(split) or split.lower(),
    where=where,
    others=others,
    extra=extra,
  )


def _filled_masks(root, told, found):
  return [_path(root / pattern.fill(m, found.values)) for m in told['mask']]


def _path(path):
  """A path to compare; files are opened as they are called on disk."""
  return composed(str(path))


def _notes(entries, told, table=None, unread=False):
  """How many cases lack what others have; that all lack it, only `unread`."""
  notes = []
  for field, has in (
    ('label', lambda e: e.label is not None),
    ('mask', lambda e: e.dense),
    *((f, lambda e, f=f: f in e.others) for f in _further(told)),
  ):
    if not told[field] or not entries:
      continue
    count = sum(map(has, entries))
    if not count and table and not unread:
      raise ValueError(f'{table.path}: {field} is empty in every row')
    if not count and not table:
      raise FileNotFoundError(f'data.fields.{field}: matches no file')
    if count < len(entries):
      notes.append(f'{len(entries) - count} of {len(entries)} have no {field}')
  return tuple(notes)


def _check_rows(entries):
  """Refuses an image that two rows are about."""
  seen = {}
  for e in entries:
    other = seen.setdefault(e.images, e) if e.images else e
    if other is not e:
      line = other.where.rpartition(', ')[2]
      raise ValueError(
        f'{e.where}: {e.image} is already in {line}; keep one of the two'
      )
