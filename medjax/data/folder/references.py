"""The files, or run lengths, that are the reference of a case."""

import dataclasses
import re

from medjax.data import formats, walk
from medjax.data.folder import pattern
from medjax.data.folder.tables import MISSING

_RUNS = re.compile(r'\d+ \d+( \d+ \d+)*')
_NONE = ('-1', '')  # no structure, as Kaggle writes it


def masks(places, texts, values, image, where, *, apart):
  """The masks of a case; () where its cell in the table is empty.

  apart: each text is a structure of its own, in one file.
  """
  names = pattern.names(*texts)
  if where and any(values.get(n, '').lower() in MISSING for n in names):
    return ()
  found = []
  for text in texts:
    own = _of(places, pattern.fill(text, values), image, where)
    if apart and len(own) > 1:
      raise ValueError(f'{own[1]}: second file of a structure after {own[0]}')
    found += own
  return tuple(found)


def _of(places, text, image, where):
  """The files of one mask: one, or several that are numbered."""
  found = [path for path, _ in pattern.find(places.root, text)]
  if not found:  # beside the image, as in P001/ct.nii.gz, P001/masks/liver
    found = [path for path, _ in pattern.find(image.parent, text)]
  place = f'{where}: ' if where else ''
  if not found and where:
    try:
      found = places.every(text, where)
    except FileNotFoundError:
      found = []
  if not found:
    raise FileNotFoundError(f'{place}no mask {places.root / text} of {image}')
  if len({re.sub(r'[ _\-]?\d+$', '', formats.stem(p)) for p in found}) > 1:
    raise ValueError(
      f'{place}{len(found)} masks {places.root / text} of {image}; one is '
      'needed, or x_mask_1, x_mask_2, …'
    )
  return [inside(p) for p in found]


def inside(mask):
  """The file of a folder that holds nothing else: a SEG, an RTSTRUCT."""
  if not mask.is_dir() or formats.holds_image(mask):
    return mask
  folders, files = walk.listed(mask)
  return files[0] if len(files) == 1 and not folders else mask


def further(places, text, values, where):
  """The file of a further image, or None where there is none."""
  names = pattern.names(text)
  if where and any(values.get(n, '').lower() in MISSING for n in names):
    return None
  filled = pattern.fill(text, values)
  found = [path for path, _ in pattern.find(places.root, filled)]
  if (
    not found and where and filled == ''.join(values.get(n, '') for n in names)
  ):
    return places.find(filled, where)  # a cell names it, so it must be there
  if len(found) > 1:
    raise ValueError(
      f'{places.root / filled}: {len(found)} files for one further image'
    )
  return found[0] if found else None


def are_runs(texts, table):
  """Whether a table's masks are run lengths: '5 3 12 4', '-1' for none."""
  if len(texts) != 1 or not re.fullmatch(r'\{[^{}]+\}', texts[0]):
    return False
  column = texts[0][1:-1]
  if column not in table.columns:
    return False
  found = [row.cells[column] for row in table.rows]
  return any(map(_RUNS.fullmatch, found)) and all(
    c in _NONE or c.lower() in MISSING or _RUNS.fullmatch(c) for c in found
  )


def joined(entries):
  """Rows of one image become one case with all of its runs."""
  by_images = {}
  for e in entries:
    first = by_images.get(e.images)
    if first is None:
      by_images[e.images] = e
    else:
      by_images[e.images] = dataclasses.replace(first, runs=first.runs + e.runs)
  return list(by_images.values())
