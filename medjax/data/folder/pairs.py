"""Which mask belongs to which image, by the names of files."""

import collections
import os
import re

from medjax.data import formats
from medjax.data.folder.entry import masked
from medjax.files import composed

_CHANNEL = re.compile(r'^(.+)_(\d{4})$')


def by_name(images, masks, *, beside=False, partly=False):
  """[(image, its masks)]: x and x, x_mask or x_mask_1, x_mask_2, ….

  Names may also differ in what all images share and what all masks share:
  21_training and 21_manual1. `beside`: a mask lies in its image's folder, and
  there need not be one; `partly`: an image may have none, (). Raises
  FileNotFoundError where one has no other.
  """

  def key(path, stem):
    stem = composed(stem)
    return (path.parent, stem) if beside else stem

  keys = [key(image, formats.stem(image)) for image in images]
  known = set(keys)
  by_stem = collections.defaultdict(list)
  for mask in masks:
    found = masked(mask)
    stem = found[0] if found and found[0] else formats.stem(mask)
    bare = key(mask, re.sub(r'[_\- ]\d+$', '', stem))
    whole = key(mask, stem)
    numbered = whole not in known and bare in known  # x_1 and x_2 of x
    by_stem[bare if numbered else whole].append(mask)
  _check_twice(images, keys)
  if not beside and not known & set(by_stem):
    keys, by_stem = _without_shared(images, masks) or (keys, by_stem)
  pairs = []
  for image, k in zip(images, keys, strict=True):
    own = by_stem.pop(k, [])
    if not own and beside:
      continue
    if not own and partly:
      pairs.append((image, ()))
      continue
    if not own:
      raise FileNotFoundError(
        f'{image}: has no mask of the same name{_hint(image, by_stem)}'
      )
    pairs.append((image, _joined(own)))
  if by_stem:
    (mask, *_) = next(iter(by_stem.values()))
    raise FileNotFoundError(f'{mask}: mask without an image of the same name')
  return pairs


def by_path(images, found, masks, others, *, partly=False):
  """[(image, its masks)] of two trees with the same folders."""
  pairs = []
  by_folder = collections.defaultdict(lambda: ([], []))
  for root, files, side in ((images, found, 0), (masks, others, 1)):
    for file in files:
      below = composed(os.path.relpath(file.parent, root))
      by_folder[below][side].append(file)
  for own, theirs in by_folder.values():
    pairs += by_name(own, theirs, partly=partly)
  return pairs


def _check_twice(images, keys):
  seen = {}
  for image, key in zip(images, keys, strict=True):
    other = seen.setdefault(key, image)
    if other is not image:
      raise ValueError(
        f'{other} and {image} have one name, so whose the mask is cannot be '
        'told; keep one'
      )


def _joined(masks):
  """The masks of one image, if they are numbered parts of one."""
  if len(masks) > 1:
    words = {masked(m)[1] if masked(m) else '' for m in masks}
    endings = {formats.suffix(m) for m in masks}
    if len(words) > 1 or len(endings) > 1:
      first, second = sorted(masks)[:2]
      raise ValueError(
        f'{second}: second mask for {formats.stem(first).rsplit("_", 1)[0]}, '
        f'after {first}; keep one, or number them: x_mask_1, x_mask_2'
      )
  return tuple(sorted(masks))


def _without_shared(images, masks):
  """Keys of names without what all images, and all masks, have in common."""
  if not images or not masks:
    return None
  stems, others = (
    [formats.stem(f) for f in files] for files in (images, masks)
  )
  keys, theirs = _varying(stems), _varying(others)
  same = set(keys) == set(theirs) and '' not in keys
  if not same or len(set(keys)) < len(keys) or len(set(theirs)) < len(theirs):
    return None
  return keys, {k: [m] for k, m in zip(theirs, masks, strict=True)}


def _varying(stems):
  """What is left of each name; a number is never cut in two."""
  start = re.sub(r'\d+$', '', _start(stems))
  rest = [s[len(start) :] for s in stems]
  end = _start([s[::-1] for s in rest])[::-1]
  end = re.sub(r'^\d+', '', end)
  return [s[: len(s) - len(end)] for s in rest]


def _start(texts):
  """What texts begin with in common."""
  low, high = min(texts), max(texts)
  length = next(
    (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b),
    min(len(low), len(high)),
  )
  return low[:length]


def _hint(image, by_stem):
  """How to mend it: of what looks like a channel of nnU-Net's to tell that."""
  channel = _CHANNEL.match(formats.stem(image))
  if not channel or channel[1] not in by_stem:
    return '; draw it, or say in data.labelled how many masks to use'
  return (
    '; if each channel is a file, say data.fields.image='
    f"'{image.parent.name}/{{id}}_{{0000,0001}}{formats.suffix(image)}'"
    ' with your channels, and data.fields.mask'
  )
