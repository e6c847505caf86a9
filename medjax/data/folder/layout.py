"""Layouts of a folder that need no telling: classes, pairs, splits."""

import dataclasses
import re

from medjax.data import formats
from medjax.data.folder.entry import (
  MASK_STEM,
  Entry,
  folders_in,
  images_below,
  images_in,
  name_of,
  split_name,
)

_PAIRS = (
  ('images', 'masks'),
  ('images', 'labels'),
  ('imagesTr', 'labelsTr'),
  ('image', 'mask'),
)
_CHANNEL_STEM = re.compile(r'^(.+)_(\d{4})$')


def entries_in(root):
  """The cases of a folder whose layout is one of the known."""
  parts = {
    split_name(p.name): p for p in folders_in(root) if split_name(p.name)
  }
  if not parts:
    return _layout(root, root)
  return [
    dataclasses.replace(e, split=split)
    for split, folder in parts.items()
    for e in _layout(folder, root)
  ]


def _layout(folder, root):
  for images, masks in _PAIRS:
    if (folder / images).is_dir() and (folder / masks).is_dir():
      pairs = _pairs(images_in(folder / images), images_in(folder / masks))
      return [
        Entry(id=name_of(folder / i.name, root), images=(i,), mask=m)
        for i, m in pairs
      ]
  for images, masks in _PAIRS:
    if (folder / images).is_dir():
      raise FileNotFoundError(f'{folder / images}: has no {masks}/ beside it')
  files = images_in(folder)
  masks = [f for f in files if MASK_STEM.match(formats.stem(f))]
  if masks:
    pairs = _pairs([f for f in files if f not in masks], masks)
    return [Entry(id=name_of(i, root), images=(i,), mask=m) for i, m in pairs]
  entries = [e for sub in folders_in(folder) for e in _class(sub, root)]
  if not entries:
    raise ValueError(
      f'{folder}: no images found; expected one directory per class, images/ '
      'and masks/, x.png beside x_mask.png, a cases.csv, or data.fields that '
      'say where they are'
    )
  return entries


def _class(folder, root):
  images = images_below(folder)
  if not images:
    raise ValueError(
      f'{folder}: class without images; add some, or remove the directory'
    )
  entries = []
  for image in images:
    below = image.relative_to(folder).parts
    # class/x.png says nothing of the patient; class/patient/x.png does.
    patient = below[0] if len(below) > 1 else ''
    entries.append(
      Entry(
        id=name_of(image, root),
        images=(image,),
        label=folder.name,
        patient=patient,
      )
    )
  return entries


def _pairs(images, masks):
  """[(image, mask)] by name."""
  by_stem = {}
  for mask in masks:
    match = MASK_STEM.match(formats.stem(mask))
    stem = match[1] if match else formats.stem(mask)
    if stem in by_stem:
      raise ValueError(f'{mask}: second mask for {stem}, after {by_stem[stem]}')
    by_stem[stem] = mask
  pairs = []
  for image in images:
    stem = formats.stem(image)
    if stem not in by_stem:
      channel = _CHANNEL_STEM.match(stem)
      hint = ''
      if channel and channel[1] in by_stem:
        hint = (
          f'; if each channel is a file, say data.fields.image='
          f"'{image.parent.name}/{{id}}_{{0000,0001}}{formats.suffix(image)}'"
          ' with your channels, and data.fields.mask'
        )
      raise FileNotFoundError(f'{image}: has no mask of the same name{hint}')
    pairs.append((image, by_stem.pop(stem)))
  if by_stem:
    raise FileNotFoundError(
      f'{next(iter(by_stem.values()))}: mask without an image of the same name'
    )
  return pairs
