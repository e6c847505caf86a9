"""Folders of classes, a/1.png and b/2.png, and those that only look like it."""

import dataclasses
import re

from medjax import files
from medjax.data import formats
from medjax.data.folder import pairs
from medjax.data.folder.entry import MASK_FOLDERS, Entry, name_of, split_name
from medjax.data.folder.listing import (
  folders_in,
  images_below,
  named_folders,
  unmasked,
)

FEW, _MANY = 5, 20  # numbered folders that look like patients
# What the folders of masks that others named have in their names.
_MASK_WORDS = re.compile('mask|ground.?truth|segm|annotation|label', re.I)
FOLD = re.compile(r'(fold|split)[-_ ]?\d+', re.I)
_PATIENT = re.compile(r'(patient|subject|case)[-_ ]?\d+', re.I)


def entries(folder, folders, root, passed, dense):
  """The cases of a folder whose `folders` are classes.

  dense: x_mask beside x, or in masks/ beside images/, is the mask of x, and
  five folders with numbers are of patients; else it is no image. Raises
  ValueError where the folders are no classes.
  """
  found = {f: _class(f, root, passed, dense) for f in folders}
  if found:
    _check_below(folder, found)
    _check_pairs(folder, found)
    if not dense:
      _check_patients(folder, found)
  if dense and numbered([f.name for f in found]):  # slices of a patient each
    return [
      dataclasses.replace(e, patient=place.name, label=None)
      for place, own in found.items()
      for e in own
    ]
  return [e for own in found.values() for e in own]


def numbered(names):
  """Whether folders look like patients: five or more, each with a number."""
  return len(names) >= FEW and all(re.search(r'\d', name) for name in names)


def _class(folder, root, passed, dense):
  place, _ = named_folders(folder)
  theirs = [f for f in folders_in(folder) if _of_masks(f)] if place else []
  if not theirs:
    place = folder
  every = images_below(place, passed, masks=True)
  images = unmasked(every)
  if not images:
    raise ValueError(
      f'{folder}: class without images; add some, or remove the directory'
      f'{passed.unread_kinds()}'
    )
  masks = _masks(place, images, every, theirs) if dense else {}
  return [
    Entry(
      id=name_of(image, root),
      images=(image,),
      masks=masks.get(image, ()),
      label=files.as_utf8(files.composed(folder.name)),
      patient=_patient(image, place),
    )
    for image in images
  ]


def _of_masks(folder):
  name = folder.name.lower()
  return name in MASK_FOLDERS or bool(_MASK_WORDS.search(name))


def _patient(image, place):
  """class/x.png says nothing of the patient; class/patient/x.png does."""
  below = image.relative_to(place).parts
  return files.composed(below[0]) if len(below) > 1 else ''


def _masks(place, images, every, folders):
  """{image: its masks}, beside it or in the one folder of masks."""
  if len(folders) > 1:
    names = ', '.join(f.name for f in folders)
    raise ValueError(
      f'{place.parent}: has several folders of masks ({names}): say which in '
      "data.fields, as image='{label}/"
      f"{place.name}/{{id}}{formats.suffix(images[0])}' and mask='{{label}}/"
      f"{folders[0].name}/{{id}}{formats.suffix(images[0])}'"
    )
  if folders:
    others = images_below(folders[0], masks=True)
    return dict(pairs.by_path(place, images, folders[0], others))
  own = [f for f in every if f not in set(images)]
  return dict(pairs.by_name(images, own, beside=True)) if own else {}


# What only looks like classes.


def _check_below(folder, found):
  """Refuses patient/class/x.png and class/train/x.png."""
  below = {place: {e.patient for e in own} for place, own in found.items()}
  names = set().union(*below.values())
  if '' in names:
    return
  first = next(iter(found.values()))[0].image
  parts = first.relative_to(folder).parts
  rest = '/'.join(('*',) * (len(parts) - 3))
  end = f'{rest}{"/" if rest else ""}{{id}}{formats.suffix(first)}'
  if all(split_name(n) for n in names):
    raise ValueError(
      f'{folder}: each class has folders {", ".join(sorted(names))}: say '
      f"data.fields.image='{{label}}/{{split}}/{end}'"
    )
  common = all(2 * len(own) > len(names) for own in below.values())
  if len(found) >= FEW and 1 < len(names) < len(found) and common:
    raise ValueError(
      f'{folder}: {len(found)} folders that all have folders '
      f'{", ".join(sorted(names))}, which look like patients with classes '
      f"below: say data.fields.image='{{patient}}/{{label}}/{end}'"
    )


def _check_pairs(folder, found):
  """Refuses Input/x.png and GroundTruth/x_segmentation.png."""
  drawn = [f for f in found if _of_masks(f)]
  own = [f for f in found if f not in drawn]
  if len(drawn) != 1 or len(own) != 1:
    return
  stems = {formats.stem(e.image) for e in found[own[0]]}
  theirs = {
    _begun(formats.stem(e.image), stems): e.image for e in found[drawn[0]]
  }
  theirs.pop('', None)
  if len(theirs) * 2 > len(stems):
    image, (stem, mask) = found[own[0]][0].image, next(iter(theirs.items()))
    text = mask.relative_to(folder).parent.as_posix()
    raise ValueError(
      f'{own[0].name} and {drawn[0].name} of {folder} have files of the same '
      'names, as images and their masks have: say data.fields.image='
      f"'{image.relative_to(folder).parent.as_posix()}/{{id}}"
      f"{formats.suffix(image)}' and data.fields.mask='{text}/{{id}}"
      f"{mask.name.removeprefix(stem)}'"
    )


def _begun(name, stems):
  """The longest of `stems` that a mask's name is, or begins with; or ''."""
  while name not in stems and name:
    name = re.sub(r'[A-Za-z0-9]+$|[^A-Za-z0-9]+$', '', name)
  return name


def _check_patients(folder, found):
  """Refuses folders that are numbered like patients, or like folds."""
  alike = {re.sub(r'\d+', '#', place.name) for place in found}
  single = all(len(own) == 1 for own in found.values())
  numbered = len(alike) == 1 and '#' in next(iter(alike))
  many = numbered and len(found) >= (FEW if single else _MANY)
  if all(FOLD.fullmatch(place.name) for place in found):
    raise ValueError(
      f'{folder}: {", ".join(p.name for p in found)} look like folds, not '
      "classes: say data.fields.image, as '{split}/{label}/{id}.png'"
    )
  if many or all(_PATIENT.fullmatch(p.name) for p in found):
    first = next(iter(found.values()))[0].image
    of = 'of one image each, which look' if single else 'that look'
    raise ValueError(
      f'{folder}: {len(found)} folders {of} like '
      'patients, not classes; say what is what in a cases.csv, or '
      f"data.fields.image='{{patient}}/{first.name}' and data.fields.label"
    )
