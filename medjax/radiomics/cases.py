"""Which images and masks belong together, and reading them: `find`, `read`."""

import dataclasses
import pathlib

import numpy as np

from medjax.data import formats
from medjax.data.folder import listing, tables
from medjax.data.folder.entry import masked
from medjax.data.folder.grids import on_grid

# Columns of a table that tell where a case is; the rest is carried along.
_IMAGE, _MASK, _ID = ('path', 'image'), ('mask',), ('id',)


@dataclasses.dataclass(frozen=True)
class Case:
  """An image and its mask, before they are read.

  id: unique. organs: a label map of organs, or None. extra: cells of the table
  that told of it. problem: why it cannot be read, as was found beforehand.
  """

  id: str
  image: pathlib.Path
  mask: pathlib.Path | None = None
  organs: pathlib.Path | None = None
  extra: dict = dataclasses.field(default_factory=dict)
  problem: str = ''


def find(images, masks=None, organs=None):
  """The `Case`s of images and masks: two files, two folders, or a table alone.

  Files of two folders belong together by their names without suffix and words
  like '_mask', and by the sub-folders they are in. A table has columns path or
  image, mask, and by choice id and organs; its paths are relative to its
  folder. organs: a file or folder of label maps, found as masks are. Raises
  FileNotFoundError and ValueError for places that hold nothing of that kind.
  """
  images = pathlib.Path(images)
  if not images.exists():
    raise FileNotFoundError(f'{images}: no such file or folder')
  if masks is None:
    if images.suffix.lower() not in tables.SUFFIXES:
      raise ValueError(
        f'{images}: give masks too, or a table with columns image and mask'
      )
    return _of_table(images)
  masks = pathlib.Path(masks)
  if not masks.exists():
    raise FileNotFoundError(f'{masks}: no such file or folder')
  if not images.is_dir() or formats.is_image(images):
    beside = pathlib.Path(organs) if organs else None
    return [Case(formats.stem(images), images, _single(masks), beside)]
  found = listing.images_below(images)
  if not found:
    raise ValueError(f'{images}: holds no image; known: {formats.SUFFIXES}')
  names = _named(masks)
  others = _named(pathlib.Path(organs)) if organs else {}
  cases = []
  for path in found:
    name = _name(path, images)
    mask, problem = names.get(name), ''
    if mask is None:
      problem = f'{path}: has no mask of the same name in {masks}'
    elif organs and name not in others:
      problem = f'{path}: has no label map of organs of its name in {organs}'
    cases.append(Case(name, path, mask, others.get(name), problem=problem))
  if all(case.mask is None for case in cases):
    raise ValueError(
      f'{masks}: none of its {len(names)} masks is called as an image of '
      f'{images}, as {found[0].name} is'
    )
  return cases


def _single(place):
  """The one file of a folder that holds a DICOM SEG or RTSTRUCT alone."""
  if not place.is_dir() or (
    formats.is_image(place) and formats.holds_image(place)
  ):
    return place
  files = sorted(p for p in place.iterdir() if p.is_file() and p.name[0] != '.')
  if len(files) != 1:
    raise ValueError(
      f'{place}: holds {len(files)} files; give that of the mask'
    )
  return files[0]


def _named(folder):
  """{name: path} of the masks in a folder, or of one file."""
  if not folder.is_dir():
    raise ValueError(
      f'{folder}: is a file; images of a folder need one of masks'
    )
  found = {}
  paths = listing.images_below(folder, masks=True)
  known = {p for p in paths}
  # DICOM that is no image: structure sets and segmentations.
  paths += [
    p for p in sorted(folder.rglob('*'))
    if p.is_file() and p not in known and p.suffix.lower() in ('.dcm', '')
    and p.name[0] != '.' and formats.is_segmentation(p)
  ]  # fmt: skip
  for path in paths:
    name = _name(path, folder)
    if name in found:
      raise ValueError(f'{path}: second mask of {name}, after {found[name]}')
    found[name] = path
  if not found:
    raise ValueError(f'{folder}: holds no mask; known: {formats.SUFFIXES}')
  return found


def _name(path, root):
  word = masked(path)
  stem = word[0] if word and word[0] else formats.stem(path)
  return (path.relative_to(root).parent / stem).as_posix()


def _of_table(path):
  table = tables.read(path)
  image = next((c for c in _IMAGE if c in table.columns), None)
  if image is None or 'mask' not in table.columns:
    raise ValueError(
      f'{path}: needs columns image and mask; has {", ".join(table.columns)}'
    )
  cases, seen = [], set()
  for row in table.rows:
    cells = dict(row.cells)
    place, mask = cells.pop(image), cells.pop('mask')
    organs = cells.pop('organs', '')
    name = cells.pop('id', '') or formats.stem(place)
    if name in seen:
      raise ValueError(f'{row.where}: second case {name}; give a column id')
    seen.add(name)
    problem = '' if place and mask else f'{row.where}: lacks an image or a mask'
    root = path.parent
    cases.append(
      Case(
        name, root / place, root / mask, root / organs if organs else None,
        cells, problem,
      )
    )  # fmt: skip
  return cases


@dataclasses.dataclass(frozen=True)
class Read:
  """A case as read: arrays (x, y, z), the mask of each region by its name."""

  image: np.ndarray
  masks: dict
  spacing: np.ndarray | None
  affine: np.ndarray
  organs: np.ndarray | None = None
  organ_names: dict = dataclasses.field(default_factory=dict)


def read(case, labels=(), spacing=None):
  """Reads a case; `labels` are the regions to take, all of the mask by default.

  A region is called by its label, or its name in DICOM and Slicer's files.
  spacing: (3,) mm, where the image does not say. Raises ValueError and OSError
  of one line that names the file.
  """
  if case.problem:
    raise ValueError(case.problem)
  volume = formats.read(case.image)
  rank = len(volume.affine) - 1
  if rank != 3:
    raise ValueError(
      f'{case.image}: is a picture of {rank} axes; features need a volume'
    )
  if volume.array.shape[-1] != 1:
    raise ValueError(
      f'{case.image}: has {volume.array.shape[-1]} channels; give one'
    )
  size = volume.spacing if volume.meta.get('unit', 'mm') == 'mm' else spacing
  if size is None:
    raise ValueError(
      f'{case.image}: has no voxel size; say --spacing=x,y,z in mm'
    )
  masks = _masks(case.mask, case.image, volume)
  for label in labels:
    if label not in masks:
      known = ', '.join(map(str, masks)) or 'none'
      raise ValueError(f'{case.mask}: has no label {label}; has {known}')
  if not masks:
    raise ValueError(f'{case.mask}: the mask is empty')
  masks = {k: v for k, v in masks.items() if not labels or k in labels}
  organs, names = None, {}
  if case.organs is not None:
    found = _labels(case.organs, case.image, volume)
    organs, names = found.array, found.meta.get('segments') or {}
  return Read(
    volume.array[..., 0], masks, np.asarray(size), volume.affine, organs, names
  )


def _masks(path, image, volume):
  """{name: (x, y, z) bool} of all that a file of masks holds."""
  if formats.is_segmentation(path):
    return dict(formats.read_segmentation(path, volume))
  found = _labels(path, image, volume)
  known = found.meta.get('segments') or {}
  values = [int(v) for v in np.unique(found.array) if v]
  names = formats.told_apart(
    {v: str(known.get(v, v)) for v in values}, 'segment'
  )
  return {names[v]: found.array == v for v in values}


def _labels(path, image, volume):
  """The label map of a file, on the grid of the image."""
  if formats.is_segmentation(path):
    return formats.read_labels(path, volume)
  found = formats.read_mask(path)
  try:
    return on_grid(path, found, image, volume)
  except ValueError as e:
    shown = [
      np.array2string(a[:3], precision=4, separator=', ').replace('\n', '')
      for a in (found.affine, volume.affine)
    ]
    raise ValueError(f'{e}; affines {shown[0]} and {shown[1]}') from None
