"""Your own files as cases, without a builder: `open_folder(path, split)`.

What a folder may look like, looked for in this order; images are files of any
format that medjax.data.formats reads, or folders holding one DICOM series:

    told by `fields`              patterns: where images and masks lie
    cases.csv (.tsv, .parquet)    or table='…': columns path, label and/or mask,
                                  split, patient, id, time and event
    imagesTr/ and dataset.json    nnU-Net's and the Decathlon's, as they lie
    train/ validation/ test/      each of them one of the following
    images/x.nii.gz masks/x.…     also imagesTr/ labelsTr/, image/ label/, img/
                                  gt/ and their like, in capitals too
    x.png x_mask.png              also x_seg, x_label, and x_mask_1, x_mask_2
    P001/image.nii.gz, mask.…     a folder for each patient; BIDS
    P001/ct.nii.gz, P001/segmentations/liver.nii.gz, spleen.nii.gz, …
                                  the same, with a mask for each structure
    image/*.dcm mask/x.dcm        a DICOM series, and what was drawn on it; or
                                  P001/image/*.dcm P001/mask/x.dcm
    class_a/x.png class_b/y.png   one directory per class; or
                                  class_a/patient/…/x.png

A mask may be a DICOM SEG, an RT structure set or a .seg.nrrd: its structures
are classes by their names, and may not overlap.

A table without paths names patients: the images of patient P are all that lie
below P/, at any depth. Columns that are no field are kept with the case under
their names: floats if all cells are numbers or missing (NaN), else text. A cell
of label or mask may be empty: that case lacks it.

What was assumed, and what was left out, is in the `notes` of the cases.
"""

import dataclasses
import pathlib
import re

from medjax.build import closest
from medjax.data import duplicates, formats, walk
from medjax.data.folder import (
  checks,
  classes,
  hashing,
  masks,
  reading,
  splits,
)
from medjax.data.folder import fields as fields_lib
from medjax.data.folder.cases import About, FolderCases, read_image
from medjax.data.folder.cells import UNCERTAIN
from medjax.data.folder.entry import SPLITS, split_name
from medjax.data.folder.found import (
  Found,
  channels,
  find_channels,
  find_in_folders,
  find_numbered,
)
from medjax.data.folder.layout import has_unlabelled
from medjax.files import composed

__all__ = [
  'About',
  'FolderCases',
  'Found',
  'channels',
  'find_channels',
  'find_in_folders',
  'find_numbered',
  'has_unlabelled',
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
    join: {'table', 'on'}: a further table, and the column by which its rows
      join those of the first (`tables.joined`).
    fields: {field: text} for image, mask, label, patient, id, split, time,
      event and text: a column of the table, or a text with {names} of columns
      or parts of the image's path: 'imagesTr/{id}_{0000,0001}.nii.gz' are two
      channels, '{label}/{patient}/{id}.png' a class and a patient.
      label='{a,b}' are two columns of 0 and 1; mask='masks/{liver,spleen}.nii'
      are two classes with a file each. covariates: columns, a list or 'a, b':
      case['covariates'] (f,) float32, NaN where missing. A field of any other
      name is a further image on its own grid: case['prior'] (*spatial, C),
      case['prior_affine'], case['prior_spacing']; absent where there is none.
    patient: 'dicom', the PatientID in the header as a digest; or a regular
      expression found in the case's id (by default its path without suffix),
      whose first group that matched, or whole match, is the patient where
      nothing else says. Without it a column patient_id or its like names
      patients, and so do numbered folders below images/, or the PatientID of
      DICOM images (see `people`); else every case is its own patient.
    class_names: names of the mask's classes, background first, or the order of
      the labels; default for labels: sorted. Structures that files name are
      numbered by these names, by default by the union of the files' names.
    dense: the classes are those of masks; labels only balance the splits.
    ignore: the value of masks that is no class, besides dataset.json's.
    mask_values: {stored: class}, where masks hold other values than classes.
    uncertain: what -1 means among several labels: 'zero', 'one', 'ignore' (the
      label is -1) or 'class' (a label 'x uncertain' for each x); empty cells
      are then 0. By default both are refused.
    unlabelled: cases need no reference, and a folder of images alone is read.
    unread: of a table no label, and no time and event, is read.
    partly: some cases may have no reference: cells that are empty, images
      without a mask, those of a folder unlabelled/. They are of train, unless
      a table or a case of their patient says otherwise.
    images: whether cases have any; without, a row of a table is a case, and its
      covariates are by default all columns that are no other field.
    covariates: by the names that a run's facts have: a table of other cases
      gives the columns that its model knows.
    landmark: times (see `landmarks`) at which a patient's visits so far are a
      case each, of a table with a row per visit.
    group: 'duplicates': copies of an image, nearly or exactly, and their
      patients stay in one split; every image is read for it.
    hash_ids: a file whose bytes are a salt: ids and patients become digests of
      16 digits, the same for the same salt.

  Patients are never shared between splits, and labels are spread evenly as far
  as that allows. Raises FileNotFoundError and ValueError, naming the file.
  """
  root, entries, about = _listed(path, **options)
  checks.check_patients(entries)
  checks.check_copies(entries)
  wanted = [split_name(s) or s for s in split.split('+')]
  _check_wanted(root, wanted, entries, options.get('fractions', FRACTIONS))
  chosen = [e for e in entries if e.split in wanted]
  return FolderCases(root.name, '+'.join(wanted), chosen, about, entries)


def open_splits(path, **options):
  """{split: its raw cases} of all splits that a folder has.

  `options` are those of `open_folder`. For looking at the data: patients and
  images in two splits are not refused here.
  """
  root, entries, about = _listed(path, **options)
  present = {e.split for e in entries}
  order = [*(s for s in SPLITS if s in present), *sorted(present - {*SPLITS})]
  return {
    split: FolderCases(
      root.name,
      split,
      [e for e in entries if e.split == split],
      about,
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
  fields=None,
  patient='',
  class_names=None,
  dense=False,
  ignore=None,
  mask_values=None,
  uncertain='',
  partly=False,
  group='',
  hash_ids='',
  **options,
):
  """The folder, its entries with their splits, and what is known of them."""
  root = pathlib.Path(path).expanduser()
  if not root.exists():
    raise FileNotFoundError(f'{root}: no such folder')
  fields = _checked(fields, uncertain, patient)
  passed = walk.Passed()
  path = reading.table_of(root, table)
  options |= dict(dense=dense, folds=folds, partly=partly, uncertain=uncertain)
  entries, about = reading.read(
    root, path, fields, passed, patient=patient, **options
  )
  entries = _called(entries, root, passed, patient)
  entries, grouped = _grouped(entries, group)
  entries, joined = masks.as_one_class(entries, class_names)
  colour, notes = checks.colour(entries)
  about = dataclasses.replace(
    about,
    colour=colour,
    ignore=about.ignore if ignore is None else int(ignore),
    mask_values=_values(mask_values),
    notes=(*about.notes, *notes, *passed.lines(), *grouped, *joined),
  )
  if dense:
    about = _dense(root, entries, about, class_names)
    if not partly:
      checks.check_masks(entries)
  else:
    stated = fields.get('label'), class_names, uncertain
    entries, about = classes.labelled(entries, about, path or root, *stated)
  has = lambda e: e.dense if dense else e.label is not None
  entries = splits.assigned(
    entries, has if partly and not folds else None,
    seed=seed, fractions=fractions, folds=folds,
  )  # fmt: skip
  if dense:  # labels were for the balance
    entries = [dataclasses.replace(e, label=None) for e in entries]
  if hash_ids:
    entries = hashing.hashed(entries, hash_ids)
  return root, entries, about


def _checked(fields, uncertain, patient):
  """The fields; raises ValueError for what no folder can be asked."""
  try:
    re.compile(patient)
  except re.error as e:
    raise ValueError(
      f'data.patient={patient!r} is no regular expression ({e}); mend it, as '
      r"in 'P\d+', or say 'dicom'"
    ) from None
  if uncertain not in UNCERTAIN:
    raise ValueError(
      f'data.uncertain={uncertain!r}{closest(uncertain, UNCERTAIN[1:])}'
    )
  fields = dict(fields or {})
  fields_lib.check(fields)
  return fields


def _called(entries, root, passed, patient):
  """Entries with their patients, each under a name of its own."""
  entries = [_with_patient(e, patient) for e in entries]
  checks.check_ids(entries, root)
  checks.check_spelling(entries)
  return checks.without_links(entries, passed)


def _grouped(entries, group):
  """Entries of which those that belong together have one patient, and notes.

  Of 'duplicates' are images that are copies of each other, nearly or exactly,
  and all images of their patients: no split parts them.
  """
  if group not in ('', 'duplicates'):
    raise ValueError(f"data.group is 'duplicates' or empty, not {group!r}")
  if not group:
    return entries, ()
  images = (read_image(e.images).array for e in entries)
  names = duplicates.groups(images, [e.patient for e in entries])
  changed = sum(n != e.patient for n, e in zip(names, entries, strict=True))
  entries = [
    dataclasses.replace(e, patient=n)
    for n, e in zip(names, entries, strict=True)
  ]
  note = f'{changed} images joined the patient of an image like them'
  return entries, (note,) if changed else ()


def _dense(root, entries, about, given):
  """What is known of the classes of masks."""
  if not any(e.dense for e in entries):
    raise ValueError(
      f'{root}: no masks found among {len(entries)} cases; expected images/ '
      'and masks/, x.png beside x_mask.png, a column mask, or data.fields.mask'
    )
  if given:
    return masks.given(entries, about, given)
  return about if about.class_names else masks.named(entries, about)


def _values(given):
  """{stored: class} as pairs of numbers, in order."""
  try:
    return tuple(sorted((int(k), int(v)) for k, v in dict(given or {}).items()))
  except (ValueError, TypeError):
    raise ValueError(
      f'data.mask_values={given}: needs {{stored value: class}}, whole '
      'numbers, as {255: 1}'
    ) from None


def _with_patient(entry, rule):
  if rule == 'dicom':
    found = formats.patient_of(entry.image)
  elif entry.patient:
    found = entry.patient
  elif not rule:
    found = entry.id
  else:
    match = re.search(rule, composed(entry.id))
    # Of '(P\d+)|(Q\d+)' only one group is there.
    groups = [g for g in match.groups() if g is not None] if match else []
    found = (groups or [match[0]])[0] if match else ''
    if not found:
      raise ValueError(
        f'{entry.where or entry.image}: no patient: {rule!r} is not found in '
        f'{entry.id!r}'
      )
  return dataclasses.replace(entry, patient=composed(found))


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
      how = (
        f' and fractions {tuple(fractions)}; add files, or raise its fraction'
      )
      if any(e.where or e.split == 'unlabelled' for e in entries) or (
        stated != ['train', 'validation']
      ):
        how = f', all in {" or ".join(stated)}; '
        how += f"add some of {name}, or set data.splits.{name}='{stated[-1]}'"
      raise ValueError(
        f'{root}: split {name!r} is empty: {patients} patients{how}'
      )
