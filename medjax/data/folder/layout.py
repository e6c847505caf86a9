"""Layouts of a folder that need no telling: classes, pairs, splits."""

import dataclasses

from medjax.data import formats, walk
from medjax.data.folder import class_folders, pairs, patients, references
from medjax.data.folder.entry import Entry, masked, name_of, split_name
from medjax.data.folder.listing import (
  folders_in,
  images_below,
  images_in,
  named_folders,
)

_UNLABELLED = ('unlabelled', 'unlabeled')


def entries_in(root, passed, *, dense=False, partly=False):
  """The cases of a folder whose layout is one of the known.

  `passed` (`walk.Passed`) counts what is left out. `dense`: masks are wanted,
  so in folders of classes x_mask is that of x; else it is no image. `partly`:
  images may be without a mask, and those in unlabelled/ are without reference.
  """
  aside = []
  if partly:
    places = [p for p in folders_in(root) if p.name.lower() in _UNLABELLED]
    images = [i for p in places for i in images_below(p, passed)]
    aside = [Entry(id=name_of(i, root), images=(i,)) for i in images]
  return [*_with_reference(root, passed, dense, partly), *aside]


def has_unlabelled(root):
  """Whether a path is a folder with a folder unlabelled/ in it."""
  return root.is_dir() and any(
    p.name.lower() in _UNLABELLED for p in folders_in(root)
  )


def _with_reference(root, passed, dense, partly):
  # Two folders may be of one split: val and valid, train and Train.
  parts = [
    (split_name(p.name), p)
    for p in folders_in(root, passed)
    if split_name(p.name)
  ]
  if not parts:
    return _layout(root, root, passed, dense, partly=partly)
  beside = [p for p in folders_in(root) if not split_name(p.name)]
  for other in beside:
    if other.name.lower() not in _UNLABELLED and images_below(other):
      passed[f'folder beside those of splits: {other.name}'] += 1
  # DRIVE's mask/ is the field of view: it stands beside the masks of train, and
  # alone where a test set has none.
  ours = [named_folders(p)[1] for split, p in parts if split == 'train']
  other = {p.name.lower() for masks in ours for p in masks[1:]}
  return [
    dataclasses.replace(e, split=split)
    for split, folder in parts
    for e in _layout(
      folder,
      root,
      passed,
      dense,
      test=split == 'test',
      partly=partly,
      other=other,
    )
  ]


def _layout(
  folder, root, passed, dense, *, test=False, partly=False, other=frozenset()
):
  """The cases of a folder; `other`: what is called so holds no masks."""
  images, masks = named_folders(folder)
  masks = [m for m in masks if m.name.lower() not in other]
  if (images or masks) and (one := _one_patient(folder, root)):
    return [one]
  if images:
    return _two_folders(images, masks, root, passed, test, partly)
  files = images_in(folder)
  masks = [f for f in files if masked(f)]
  if any(masked(f)[0] for f in masks) or len(masks) > 1:
    own = [f for f in files if f not in masks]
    found = pairs.by_name(own, masks, partly=partly)
    return [_paired(i, m, i, root) for i, m in found]
  folders = folders_in(folder)
  aside = [f for f in folders if f.name.lower() in _UNLABELLED]
  folders = [f for f in folders if f not in aside]
  if aside and not partly:
    raise ValueError(
      f'{aside[0]}: images without a label are for tasks that learn from them; '
      'take the folder away, or say in data.labelled how many labels to use'
    )
  drawn = [_one_patient(f, root) for f in folders]
  if drawn and all(drawn):
    return drawn
  entries = patients.entries(folder, folders, root, dense)
  if entries is not None:
    images_in(folder, passed)
    return entries
  entries = class_folders.entries(folder, folders, root, passed, dense)
  if not entries:
    images_in(folder, passed)
    loose = f': {len(files)} images lie in it directly' if files else ''
    raise ValueError(
      f'{folder}: no images found{loose}; expected one directory per class, '
      'images/ and masks/, x.png beside x_mask.png, a cases.csv, or '
      f'data.fields that say where they are{passed.unread_kinds()}'
    )
  return entries


def _one_patient(folder, root):
  """The case of image/*.dcm and mask/…: a series, and one file drawn on it."""
  images, masks = named_folders(folder)
  rest = [p for p in folders_in(folder) if p not in masks]
  if masks and not images and len(rest) == 1:  # a series by any name
    images = rest[0]
  if not images or not masks or not formats.is_image(images):
    return None
  below, drawn = walk.listed(masks[0])
  if formats.dicom_images(images) != [images] or len(drawn) != 1 or below:
    return None
  name = name_of(folder, root) if folder != root else root.resolve().name
  return Entry(
    id=name, images=(images,), masks=(drawn[0],), patient=folder.name
  )


def _two_folders(images, masks, root, passed, test, partly):
  """Images in one folder, masks in another, of the same names."""
  here = walk.Passed()
  found = images_in(images, here)
  nested = not found
  if nested:
    found = images_below(images, passed)
  else:
    passed.add(here)
  if not found:
    raise ValueError(
      f'{images}: holds no image of a known format{passed.unread_kinds()}'
    )
  if not masks and test:  # to be predicted on
    return [_paired(i, (), i, root) for i in found]
  if not masks:
    raise FileNotFoundError(
      f'{images}: has no masks/ beside it; call the folder of masks so, or say '
      f'in data.fields where images and masks or labels are{_tables(images)}'
    )
  folder = masks[0]
  if nested:
    others = images_below(folder, masks=True)
  else:  # a series in images/P1/, and what is drawn on it in masks/P1/
    others = [*images_in(folder), *filter(_drawn, folders_in(folder))]
  if not others:
    passed = walk.Passed()
    images_below(folder, passed)
    raise FileNotFoundError(
      f'{folder}: holds no mask that is read{passed.unread_kinds()}; outlines '
      '(COCO, YOLO, LabelMe) become masks with medjax.convert and --images'
    )
  if nested:
    found = pairs.by_path(images, found, folder, others, partly=partly)
  else:
    found = pairs.by_name(found, others, partly=partly)
  entries = []
  for image, own in found:
    own = map(references.inside, own)
    entry = _paired(image, own, image.relative_to(images), root, images.parent)
    first = image.relative_to(images).parts[0] if nested else ''
    entries.append(dataclasses.replace(entry, split=split_name(first)))
  return entries


def _drawn(folder):
  """Whether a folder holds a DICOM SEG or RTSTRUCT and nothing else."""
  file = references.inside(folder)
  return file != folder and formats.is_segmentation(file)


def _tables(images):
  """The tables beside a folder of images, for the end of a message."""
  found = (p for s in ('csv', 'tsv') for p in images.parent.glob(f'*.{s}'))
  names = [p.name for p in sorted(found)]
  return f'; or which table says it: data.table={names[0]}' if names else ''


def _paired(image, masks, place, root, parent=None):
  where = (parent / place) if parent else place
  return Entry(id=name_of(where, root), images=(image,), masks=tuple(masks))
