"""The entries of a folder as they stand there, or as a table has them."""

import dataclasses
import functools
import pathlib

from medjax.data import formats, walk
from medjax.data.folder import fields as fields_lib
from medjax.data.folder import (
  landmarks,
  layout,
  listing,
  nnunet,
  patients,
  people,
  tables,
)
from medjax.data.folder.cases import About
from medjax.data.folder.entry import Entry, name_of, split_name
from medjax.files import composed


def table_of(root, name):
  """The path of the table, or None."""
  if name:
    path = pathlib.Path(name).expanduser()
    return path if path.exists() else root / name
  if root.is_file():
    return root
  named = [root / f'cases{suffix}' for suffix in tables.SUFFIXES]
  return next((p for p in named if p.is_file()), None)


def read(
  root, table, fields, passed, *, patient, dense, folds, partly, uncertain,
  where='', join=None, unlabelled=False, unread=False, images=True,
  covariates=(), landmark=(),
):  # fmt: skip
  """(entries, About) of a table, or of a folder without one.

  `patient`, the rule of `data.patient`: without one it is told by columns and
  folders that are called as patients are, or by headers.
  """
  if table is not None:
    return _from_table(
      table,
      root,
      where,
      join or {},
      landmark,
      fields,
      by_patient_id=patient == 'dicom',
      by_name=not patient,
      images=images,
      known=tuple(covariates),
      uncertain=uncertain,
      unlabelled=unlabelled,
      unread=unread,
    )
  if not images:
    raise ValueError(
      f'{root}: a model of covariates needs a table: a cases.csv, or data.table'
    )
  if landmark:
    raise ValueError(f'{root}: data.landmark needs a table of visits')
  if where:
    raise ValueError(f'data.where {where!r} needs a table, in data.table')
  named, about = people.by_header, About()
  if any(fields.values()):
    entries, notes = fields_lib.from_patterns(root, fields, passed)
    about = About(notes=notes)
  elif unlabelled:
    entries = _bare(root, passed)
  elif nnunet.is_task(root):
    entries, about = _from_task(root, passed, folds, partly)
  else:
    entries = layout.entries_in(root, passed, dense=dense, partly=partly)
    about = About(notes=_exported(entries) + patients.unlike(entries, dense))
    named = functools.partial(people.by_folder, root=root, dense=dense)
  entries, notes = (entries, ()) if patient else named(entries)
  return entries, dataclasses.replace(about, notes=(*about.notes, *notes))


def _from_table(path, root, where, join, landmark, fields, **options):
  """The entries of a table, of visits with a `landmark`, and what is known."""
  table, said = tables.select(tables.read(path), where), ()
  if join.get('table'):
    other = tables.read(table_of(root, join['table']))
    table, said = tables.joined(table, other, join.get('on', ''))
  if landmark:
    unread = options['unread']
    table = landmarks.stacked(table, landmark, fields, unread=unread)
    fields = landmarks.without_visit(fields)
  place = root.parent if root.is_file() else root
  entries, notes, names = fields_lib.from_table(table, place, fields, **options)
  said = (*said, *(() if where else _unlisted(entries, table.path)))
  return entries, About(notes=(*said, *notes), covariate_names=names)


def _unlisted(entries, table):
  """A note of how many images beside those of a table are in no row of it.

  Where a case is one picture or volume: else they may be channels or masks.
  """
  if any(len(e.images) != 1 or e.dense or e.others for e in entries):
    return ()
  folders = {e.image.parent for e in entries}
  files = (f for place in folders for f in walk.listed(place)[1])
  rest = listing.unmasked([f for f in files if formats.is_image(f)])
  known = {composed(str(e.image)) for e in entries}
  count = sum(composed(str(f)) not in known for f in rest)
  note = f'{count} images beside those of {table.name} are in no row of it'
  return (note,) if count else ()


def _from_task(root, passed, folds, partly):
  """(entries, About) of a folder of nnU-Net or the Decathlon."""
  task, entries, notes = nnunet.read(root, passed, partly=partly)
  entries, more = nnunet.with_splits(entries, folds)
  known = dataclasses.asdict(task)
  return entries, About(notes=(*notes, *more), **known)


def _exported(entries):
  """A note of patients who have DICOM and another format, a case each."""
  kinds = {}
  for e in entries:
    if e.patient:
      dicom = formats.suffix(e.image) in ('', *listing.DICOM)
      kinds.setdefault((e.label, e.patient), set()).add(dicom)
  count = sum(len(own) > 1 for own in kinds.values())
  note = (
    f'{count} patients have DICOM and files of another format, a case each: '
    'if one was made of the other, keep one'
  )
  return (note,) if count else ()


def _bare(root, passed):
  """Images alone, at any depth; folders called train, test, … are splits."""
  entries = []
  for image in listing.images_below(root, passed):
    first = split_name(image.relative_to(root).parts[0])
    entries.append(Entry(id=name_of(image, root), images=(image,), split=first))
  if not entries:
    raise ValueError(f'{root}: holds no image of a known format')
  return entries
