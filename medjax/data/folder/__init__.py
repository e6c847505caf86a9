"""Your own files as cases, without a builder: `open_folder(path, split)`.

What a folder may look like, looked for in this order; images are files of any
format that medjax.data.formats reads, or folders holding one DICOM series:

    told by `fields`              patterns: where images and masks lie
    cases.csv (.tsv, .parquet)    or table='…': columns path, label and/or mask,
                                  split, patient, id, time and event
    train/ validation/ test/      each of them one of the following
    images/x.nii.gz masks/x.…     also imagesTr/ labelsTr/, images/ labels/
    x.png x_mask.png              also x_seg, x_label
    class_a/x.png class_b/y.png   one directory per class; or
                                  class_a/patient/…/x.png

A mask may be a DICOM SEG or RT structure set: its masks are numbered from 1 in
the order of the file, and may not overlap.

A table without paths names patients: the images of patient P are all that lie
below P/, at any depth. Columns that are no field are kept with the case under
their names: floats if all cells are numbers or missing (NaN), else text.
"""

import dataclasses
import pathlib
import re

from medjax.build import closest
from medjax.data import formats
from medjax.data.folder import checks, layout, pattern, splits, tables
from medjax.data.folder import fields as fields_lib
from medjax.data.folder.cases import FolderCases, read_image
from medjax.data.folder.entry import FIELDS, SPLITS, split_name
from medjax.data.folder.found import Found, channels, find_channels

__all__ = [
  'FolderCases',
  'Found',
  'channels',
  'find_channels',
  'open_folder',
  'open_splits',
  'read_image',
]

FRACTIONS = (0.7, 0.15, 0.15)  # of patients in train, validation, test


def open_folder(path, split, **options):
  """The raw cases of one split of a folder of files, as a `Sequence`.

  Args:
    path: the folder, or a table whose paths are relative to it.
    split: 'train', 'validation', 'test', 'fold0', another name used in the
      table, or several joined by '+'.
    seed: of the assignment of patients to splits; the same in all calls.
    fractions: of patients in train, validation, test. Used where the folder or
      table does not say; a split that it says stays, and a missing validation
      split is taken from train.
    folds: the patients, or those of a stated train split, in as many folds
      instead: fold0, fold1, …
    table: a CSV, TSV or Parquet file; paths in it are relative to `path`.
    where: the rows of the table to take: 'column=value', several with commas.
    fields: {field: text} for image, mask, label, patient, id, split, time and
      event: a column of the table, or a text with {names} of columns or parts
      of the image's path: 'imagesTr/{id}_{0000,0001}.nii.gz' are two channels,
      '{label}/{patient}/{id}.png' a class and a patient. label='{a,b}' are two
      columns of 0 and 1.
    patient: 'dicom', the PatientID in the header as a digest; or a regular
      expression found in the case's id (by default its path without suffix),
      whose first group or whole match is the patient where nothing else says.
      Else every case is its own patient.
    class_names: names of the mask's classes, background first, or the order of
      the labels; default for labels: sorted.
    dense: the classes are those of masks; labels only balance the splits.

  Patients are never shared between splits, and labels are spread evenly as far
  as that allows. Raises FileNotFoundError and ValueError, naming the file.
  """
  root, entries, names = _listed(path, **options)
  checks.check_patients(entries)
  checks.check_copies(entries)
  wanted = [split_name(s) or s for s in split.split('+')]
  _check_wanted(root, wanted, entries, options.get('fractions', FRACTIONS))
  chosen = [e for e in entries if e.split in wanted]
  return FolderCases(root.name, '+'.join(wanted), chosen, names, entries)


def open_splits(path, **options):
  """{split: its raw cases} of all splits that a folder has.

  `options` are those of `open_folder`. For looking at the data: patients and
  images in two splits are not refused here.
  """
  root, entries, names = _listed(path, **options)
  present = {e.split for e in entries}
  order = [*(s for s in SPLITS if s in present), *sorted(present - {*SPLITS})]
  return {
    split: FolderCases(
      root.name,
      split,
      [e for e in entries if e.split == split],
      names,
      entries,
    )
    for split in order
  }


def _listed(
  path,
  *,
  seed=0,
  fractions=FRACTIONS,
  folds=0,
  table='',
  where='',
  fields=None,
  patient='',
  class_names=None,
  dense=False,
):
  """The folder, its entries with their splits, and the class names."""
  root = pathlib.Path(path).expanduser()
  if not root.exists():
    raise FileNotFoundError(f'{root}: no such folder')
  fields = dict(fields or {})
  odd = next((f for f in fields if f not in FIELDS), None)
  if odd is not None:
    raise ValueError(f'data.fields has no {odd!r}{closest(odd, FIELDS)}')
  path = _table(root, table)
  entries = _entries(root, path, where, fields, patient == 'dicom')
  entries = [_with_patient(e, patient) for e in entries]
  checks.check_ids(entries, root)
  names = tuple(class_names or ())
  if not dense:
    names, entries = _classes(
      entries, path or root, fields.get('label'), class_names
    )
  entries = splits.assign(entries, seed=seed, fractions=fractions, folds=folds)
  if dense:  # labels were for the balance
    entries = [dataclasses.replace(e, label=None) for e in entries]
  return root, entries, names


def _entries(root, path, where, fields, by_patient_id):
  if path is not None:
    table = tables.select(tables.read(path), where)
    base = root.parent if root.is_file() else root
    return fields_lib.from_table(
      table, base, fields, by_patient_id=by_patient_id
    )
  if where:
    raise ValueError(f'data.where {where!r} needs a table, in data.table')
  if any(fields.values()):
    return fields_lib.from_patterns(root, fields)
  return layout.entries_in(root)


def _classes(entries, source, columns, given):
  """Names of the labels' classes, and the entries in their order."""
  if any(isinstance(e.label, tuple) for e in entries):
    return checks.label_names(entries, pattern.expand(columns), given)
  return checks.class_names(entries, source, given), entries


def _table(root, name):
  """The path of the table, or None."""
  if name:
    path = pathlib.Path(name).expanduser()
    return path if path.exists() else root / name
  if root.is_file():
    return root
  named = [root / f'cases{suffix}' for suffix in tables.SUFFIXES]
  return next((p for p in named if p.is_file()), None)


def _with_patient(entry, rule):
  if rule == 'dicom':
    found = formats.patient_of(entry.image)
  elif entry.patient:
    found = entry.patient
  elif not rule:
    found = entry.id
  else:
    match = re.search(rule, entry.id)
    if match is None:
      raise ValueError(
        f'{entry.image}: no patient: {rule!r} is not found in {entry.id!r}'
      )
    found = match[1] if match.re.groups else match[0]
  return dataclasses.replace(entry, patient=found)


def _check_wanted(root, wanted, entries, fractions):
  stated = sorted({e.split for e in entries})
  known = (
    stated if 'fold0' in stated else list(dict.fromkeys((*SPLITS, *stated)))
  )
  for name in wanted:
    if name not in known:
      raise ValueError(f'{root}: no split {name!r}{closest(name, known)}')
    if name not in stated:
      patients = len({e.patient for e in entries})
      raise ValueError(
        f'{root}: split {name!r} is empty: {patients} patients and fractions '
        f'{tuple(fractions)}; add files, or raise its fraction'
      )
