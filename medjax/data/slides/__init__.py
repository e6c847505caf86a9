"""Whole slides, which are read region by region: `levels(path)`, `cut(…)`.

A backend has `levels(path)`: a list of `Level`, the finest first.
"""

import pathlib
import shutil

import numpy as np
import PIL.Image

from medjax.data import formats, walk
from medjax.data.slides import dicom, tiff
from medjax.data.slides.level import Level

__all__ = ['Level', 'cut', 'find', 'levels']


def levels(path):
  """The `Level`s of a slide, the finest first.

  Raises ValueError for what is no slide, or one that is not read.
  """
  path = pathlib.Path(path)
  if path.is_dir() or dicom.is_slide(path):
    return dicom.levels(path)
  with path.open('rb') as f:
    if tiff.matches(f.read(4)):
      return tiff.levels(path)
  raise ValueError(
    f'{path}: is no slide that is read (DICOM, or TIFF: '
    f'{", ".join(tiff.SUFFIXES)}); save it as a tiled TIFF'
  )


def find(source):
  """{name: path} of the slides at a file or below a folder.

  Raises ValueError if there is none, or two would get one name.
  """
  source = pathlib.Path(source)
  if not source.exists():
    raise FileNotFoundError(f'{source}: no such file or folder')
  if not source.is_dir():
    return {_name(source): source}
  found, series = {}, set()
  for path in walk.files_below(source):
    if path.suffix.lower() in tiff.SUFFIXES:
      name = str(path.relative_to(source).with_name(_name(path)))
    elif dicom.is_slide(path) and path.parent not in series:
      series.add(path.parent)  # a slide has a folder of its own
      folder = path.parent.relative_to(source)
      name = str(folder) if folder.parts else source.resolve().name
    else:
      continue
    if name in found:
      raise ValueError(
        f'{found[name]} and {path} would both become {name}; rename one, or '
        'cut them into two folders'
      )
    found[name] = path
  if not found:
    raise ValueError(
      f'{source}: holds no slide (DICOM, or {", ".join(tiff.SUFFIXES)})'
    )
  return found


def cut(path, out, *, size, level=None, spacing=None):
  """Writes the tiles of a slide as out/rROW_cCOLUMN.png; returns their number.

  Tiles are `size` pixels wide and high, less at the far borders, and named by
  the place of their first pixel. They are of a `level` (0 is the finest), or of
  a `spacing` in mm: the next finer level is averaged to it. The folder gets its
  name when all are there.

  Raises:
    FileExistsError: if the folder is there already.
    ValueError: for what is no slide, or has no such level or spacing.
  """
  out = pathlib.Path(out)
  if out.exists():
    raise FileExistsError(f'{out} is there already; choose another OUT')
  chosen, factor = _chosen(path, levels(path), level, spacing)
  rows, columns = (
    max(1, int(n / f)) for n, f in zip(chosen.shape, factor, strict=True)
  )
  partial = out.with_name(f'.partial-{out.name}')
  shutil.rmtree(partial, ignore_errors=True)
  places = [
    (row, column)
    for row in range(0, rows, size)
    for column in range(0, columns, size)
  ]
  try:
    for row, column in places:
      box = (row, column, min(size, rows - row), min(size, columns - column))
      tile = _averaged(path, chosen, box, factor)
      name = f'r{row:06d}_c{column:06d}.png'
      formats.write(partial / name, tile, np.eye(3))
  except BaseException:  # others may follow, and the tiles take their room
    shutil.rmtree(partial, ignore_errors=True)
    raise
  partial.rename(out)
  return len(places)


def _chosen(path, found, level, spacing):
  """(the level to read, how many of its pixels make one, by axis)."""
  if spacing is None:
    if not 0 <= (level or 0) < len(found):
      raise ValueError(
        f'{path}: has no level {level}; its {len(found)} are '
        + ', '.join(_said(one) for one in found)
      )
    return found[level or 0], (1.0, 1.0)
  if found[0].spacing is None:
    raise ValueError(
      f'{path}: does not say how large its pixels are; give a level: '
      + ', '.join(f'{k} ({_said(one)})' for k, one in enumerate(found))
    )
  tolerance = 1.02  # of sizes that were rounded
  finer = [one for one in found if max(one.spacing) <= spacing * tolerance]
  if not finer:
    raise ValueError(
      f'{path}: is coarser than {spacing:g} mm: its finest level is '
      + _said(found[0])
    )
  factor = tuple(spacing / s for s in finer[-1].spacing)
  if max(factor) <= tolerance:
    factor = (1.0, 1.0)
  return finer[-1], factor


def _said(level):
  rows, columns = level.shape
  size = f' at {max(level.spacing):.3g} mm' if level.spacing else ''
  return f'{rows} x {columns}{size}'


def _averaged(path, level, box, factor):
  row, column, rows, columns = box
  if factor == (1.0, 1.0):
    return level.region(row, column, rows, columns)
  top, left = (int(n * f) for n, f in zip(box[:2], factor, strict=True))
  high, wide = (
    int(np.ceil(n * f)) for n, f in zip(box[2:], factor, strict=True)
  )
  array = level.region(top, left, high, wide)
  if array.shape[-1] == 1:
    raise ValueError(
      f'{path}: has one channel, which may be a mask: it is not averaged; give '
      'a level instead of a spacing'
    )
  image = PIL.Image.fromarray(array).resize(
    (columns, rows), PIL.Image.Resampling.BOX
  )
  return np.asarray(image)


def _name(path):
  name = path.name[: -len(path.suffix)] if path.suffix else path.name
  return name.removesuffix('.ome')
