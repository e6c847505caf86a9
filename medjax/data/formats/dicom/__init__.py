"""DICOM images: `read(path) → Volume` for a file or the folder of a series.

A folder, or a multi-frame file with positions, becomes a volume with axes
(column, row, slice), as ITK and NIfTI count them; slices are sorted by position
along their normal. A file of one frame becomes a picture with axes (row,
column), as PNG does; where the frame lies is in `meta['affine']`.

What is refused, with one ValueError: damaged or absent pixels, several series,
mixed sizes, orientations or pixel spacings, two images at one place, missing or
unevenly spaced slices, images without a place. What is applied and said in
`meta['notes']`: rescaling that varies, gantry tilt, rounded positions, copies
of a file, MONOCHROME1.

`meta` holds codes and numbers of the acquisition, and nothing that identifies:
no name, id, date, age, sex, free text or UID (see header.facts).
"""

import collections
import dataclasses
import filecmp
import os
import pathlib

import numpy as np

from medjax.data.formats.dicom import header, pixels
from medjax.data.formats.dicom.frames import (
  TAGS,
  frame_count,
  frames_of,
  pixel_size,
  size_of,
)
from medjax.data.formats.dicom.header import (
  NOT_IMAGES,
  SUFFIXES,
  DicomError,
  matches,
)
from medjax.data.formats.dicom.pet import suv_factor
from medjax.data.formats.dicom.rtstruct import read_rtstruct
from medjax.data.formats.dicom.segmentation import read_seg
from medjax.data.formats.dicom.stack import plane, stack
from medjax.data.formats.volume import Volume

__all__ = [
  'SUFFIXES',
  'NoImagesError',
  'Series',
  'is_segmentation',
  'is_series_folder',
  'list_series',
  'matches',
  'read',
  'read_segmentation',
  'read_series',
  'suv_factor',
]


class NoImagesError(DicomError):
  """A folder without any DICOM image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
  """The image files of one SeriesInstanceUID below a folder."""

  uid: str
  modality: str
  number: str
  files: tuple[pathlib.Path, ...]
  headers: tuple = dataclasses.field(repr=False)

  @property
  def placed(self):
    """Whether its files say where in the patient they lie."""
    return any(
      'ImagePositionPatient' in d or 'PerFrameFunctionalGroupsSequence' in d
      for d in self.headers
    )

  def __str__(self):
    size = size_of(self.headers[0], self.files[0])
    return (
      f'{self.modality or "?"} {len(self.files)} files {size[1]}x{size[0]} '
      f'{self.uid}'
    )


def is_series_folder(path):
  """Whether a folder itself (not its subfolders) holds a DICOM file.

  By suffix, else by the first bytes of its first few files.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return False
  names = sorted(p for p in path.iterdir() if not p.name.startswith('.'))
  if any(p.name.lower().endswith(SUFFIXES) and p.is_file() for p in names):
    return True
  return any(_is_dicom(p) for p in names[:16])


@header.quiet()
def list_series(folder, *, damaged=None):
  """The image series below a folder, in order of series number.

  Files that are not DICOM are passed over, as are DICOM objects that are no
  images (structure sets, segmentations, reports). A damaged DICOM file is a
  ValueError, since its slice would be missing; with a dict `damaged`, it goes
  there with its line instead.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  groups = collections.defaultdict(list)
  others, seen = collections.Counter(), 0
  for path in _files(folder):
    seen += 1
    if not _is_dicom(path):
      continue
    try:
      dataset = header.load(path, pixels=False, tags=list(TAGS))
    except DicomError as e:
      if damaged is None:
        raise
      damaged[path] = str(e)
      continue
    if dataset.get('SOPClassUID') == '1.2.840.10008.1.3.10':  # a DICOMDIR
      continue
    modality = header.modality_of(dataset)
    if modality in NOT_IMAGES or size_of(dataset, path) is None:
      others[modality or 'unknown'] += 1
      continue
    groups[str(dataset.get('SeriesInstanceUID') or '')].append((path, dataset))
  if not groups:
    found = ', '.join(f'{n} {k}' for k, n in others.items())
    raise NoImagesError(
      f'{folder}: no DICOM images among {seen} files'
      + (f' (but {found})' if found else '')
    )
  series = [
    Series(
      uid=uid,
      modality=header.modality_of(members[0][1]),
      number=str(members[0][1].get('SeriesNumber') or ''),
      files=tuple(p for p, _ in members),
      headers=tuple(d for _, d in members),
    )
    for uid, members in groups.items()
  ]
  return sorted(series, key=lambda s: (_order(s.number), s.uid))


@header.quiet()
def read_series(folder, *, voi=False, suv=False):
  """{series uid: Volume} of all image series below a folder."""
  return {
    s.uid: _read_series(s, folder, voi=voi, suv=suv and s.modality == 'PT')
    for s in list_series(folder)
  }


@header.quiet()
def read(path, *, series=None, voi=False, suv=False):
  """Reads a file, or the one series in a folder; `series`: its uid.

  Args:
    path: a DICOM file, or a folder (looked through with its subfolders).
    series: which series of the folder, by uid.
    voi: pictures: apply the VOI look-up table or window.
    suv: PET: values as body-weight SUV (see `suv_factor`).

  Values are rescaled (Hounsfield units, Bq/mL, …); integers stay integers
  where slope and intercept are whole. Raises ValueError, FileNotFoundError.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return _read_file(path, voi=voi, suv=suv)
  found = list_series(path)
  if series is not None:
    chosen = [s for s in found if s.uid == series]
    if not chosen:
      raise DicomError(f'{path}: has no series {series}')
  elif len(found) > 1:
    listed = '; '.join(map(str, found[:8]))
    more = f'; and {len(found) - 8} more' if len(found) > 8 else ''
    raise DicomError(
      f'{path}: holds {len(found)} series ({listed}{more}); give the folder '
      'of one, or read(path, series=uid)'
    )
  else:
    chosen = found
  return _read_series(chosen[0], path, voi=voi, suv=suv)


def is_segmentation(path):
  """Whether a file is a DICOM SEG or RT structure set."""
  path = pathlib.Path(path)
  if not _is_dicom(path):
    return False
  dataset = header.load(path, pixels=False, tags=['SOPClassUID', 'Modality'])
  return header.modality_of(dataset) in ('SEG', 'RTSTRUCT')


@header.quiet()
def read_segmentation(path, reference, *, threshold=0.5):
  """Reads a DICOM SEG or RT structure set onto the grid of an image.

  Args:
    path: the file, or a folder holding that one file.
    reference: the `Volume` whose grid is wanted.
    threshold: of a fractional SEG, as a fraction of its largest value.

  Returns {name: mask (*spatial,) bool}; masks may overlap (see `label_map`).
  Raises ValueError if it belongs to another frame of reference, where both
  state theirs, or does not touch the reference.
  """
  path = _single(pathlib.Path(path))
  dataset = header.load(path)
  modality = header.modality_of(dataset)
  if modality not in ('SEG', 'RTSTRUCT'):
    raise DicomError(
      f'{path}: is no DICOM SEG or RTSTRUCT (modality {modality or "unknown"})'
    )
  theirs = reference.meta.get('frame_of_reference')
  with header.parsing(path):
    mine = header.digest(_frame_of_reference(dataset))
  if mine and theirs and mine != theirs:
    raise DicomError(
      f'{path}: lies in another frame of reference than the image; give the '
      'image it was drawn on, or register them'
    )
  if modality == 'RTSTRUCT':
    return read_rtstruct(dataset, path, reference)
  return read_seg(dataset, path, reference, threshold=threshold)


# One file.


def _read_file(path, *, voi, suv):
  dataset = header.load(path)
  modality = header.modality_of(dataset)
  if modality in ('SEG', 'RTSTRUCT'):
    raise DicomError(
      f'{path}: is a {modality}, whose place is that of another image; read '
      'it with read_segmentation(path, reference)'
    )
  if modality in NOT_IMAGES or size_of(dataset, path) is None:
    raise DicomError(
      f'{path}: holds no image (modality {modality or "unknown"}); give the '
      'image it belongs to'
    )
  if 'TotalPixelMatrixRows' in dataset:
    raise DicomError(
      f'{path}: is a tiled whole-slide image, which is not supported; export '
      'a region as PNG'
    )
  if frame_count(dataset, path) > 1:
    return _read_frames(dataset, path, suv=suv)
  return _read_picture(dataset, path, voi=voi, suv=suv)


def _read_picture(dataset, path, *, voi, suv):
  """One frame: (row, column, C)."""
  (frame,) = frames_of(dataset, path)
  array, window = pixels.picture(dataset, path, voi=voi)
  if suv:
    array = (array * suv_factor(dataset, path)).astype(np.float32)
  spacing, source = pixel_size(dataset, path)
  spacing = frame.spacing or spacing
  meta = _meta(dataset, 'mm' if spacing else 'pixel')
  if window:
    meta['window'] = window
  if source:
    meta['spacing_from'] = source
  if frame.position and frame.orientation and frame.spacing:
    with header.parsing(path):
      meta['affine'] = plane(frame)
  notes = []
  if pixels.inverted(dataset) and array.shape[-1] == 1:
    notes.append('MONOCHROME1: values are turned so that high is bright')
  if source.startswith('ImagerPixelSpacing') and '/' not in source:
    notes.append('spacing is that at the detector, not in the patient')
  meta['notes'] = tuple(notes)
  affine = np.diag([*(spacing or (1.0, 1.0)), 1.0])
  return Volume(array, affine, header.modality_of(dataset), meta)


def _read_frames(dataset, path, *, suv):
  """A multi-frame file: (column, row, frame, C)."""
  frames = frames_of(dataset, path)
  placed = any(f.position for f in frames)
  if placed:
    ordered, affine, notes = stack(frames, path)
    unit = 'mm'
  else:
    ordered, affine, unit = frames, np.eye(4), 'pixel'
    notes = ['frames have no place: the third axis may be time']
  array = pixels.stored(dataset, path)
  if len(array) != len(frames):
    raise DicomError(
      f'{path}: holds {len(array)} frames but describes {len(frames)}; copy '
      'it again'
    )
  array, more = _values(
    ((array[f.index], f) for f in ordered),
    ordered,
    array.shape,
    pixels.stored_dtype(dataset, path) if array.shape[-1] == 1 else array.dtype,
  )
  if suv:
    array = (array * suv_factor(dataset, path)).astype(np.float32)
  meta = _meta(dataset, unit)
  window = pixels.window_of(dataset, path)
  if window:
    meta['window'] = window
  meta['notes'] = (*notes, *more, *_shown_inverted(dataset))
  return Volume(array, affine, header.modality_of(dataset), meta)


# One series.


def _read_series(series, where, *, voi, suv):
  files, headers, copies = _without_copies(series)
  counts = [frame_count(d, p) for p, d in zip(files, headers, strict=True)]
  if len(files) == 1:
    alone = counts[0] > 1 or not headers[0].get('ImagePositionPatient')
    if alone:
      return _read_file(files[0], voi=voi, suv=suv)
  if max(counts) > 1:
    raise DicomError(
      f'{where}: {len(files)} files, some of several frames, in one series; '
      'read them one by one'
    )
  frames = [
    frame
    for path, dataset in zip(files, headers, strict=True)
    for frame in frames_of(dataset, path)
  ]
  ordered, affine, notes = stack(frames, where)
  kinds = {
    pixels.stored_dtype(d, p) for p, d in zip(files, headers, strict=True)
  }
  samples = {int(d.get('SamplesPerPixel') or 1) for d in headers}
  if len(samples) > 1:
    raise DicomError(f'{where}: grey and colour in one series; separate them')
  rows, columns = ordered[0].size
  shape = (len(ordered), rows, columns, samples.pop())
  datasets = {}

  def planes():
    for frame in ordered:
      dataset = header.load(frame.path)
      datasets.setdefault('first', dataset)
      plane = pixels.stored(dataset, frame.path)[0]
      if plane.shape != shape[1:]:
        raise DicomError(
          f'{frame.path}: has {plane.shape[-1]} channels, others '
          f'{shape[-1]}; separate them'
        )
      yield plane, frame

  array, more = _values(planes(), ordered, shape, np.result_type(*kinds))
  dataset = datasets['first']
  if suv:
    factor = suv_factor(dataset, ordered[0].path)
    array = (array * factor).astype(np.float32)
  meta = _meta(dataset, 'mm')
  window = pixels.window_of(dataset, ordered[0].path)
  if window:
    meta['window'] = window
  meta['notes'] = (*notes, *more, *copies, *_shown_inverted(dataset))
  return Volume(array, affine, series.modality, meta)


def _values(planes, frames, shape, stored):
  """Rescaled planes as (column, row, slice, C), and notes.

  Filled slice by slice, so that only one decoded slice is held beside it.
  """
  slopes = [f.slope for f in frames]
  intercepts = [f.intercept for f in frames]
  dtype = pixels.rescaled_dtype(stored, slopes, intercepts)
  array = None
  for k, (values, frame) in enumerate(planes):
    if array is None:  # after the first is decoded: a header may lie
      array = np.empty(shape, dtype)
    array[k] = pixels.rescale(values, frame.slope, frame.intercept, dtype)
  notes = []
  if len(set(zip(slopes, intercepts, strict=True))) > 1:
    spread = [
      f'{name} {min(values):g} to {max(values):g}'
      for name, values in (('slope', slopes), ('intercept', intercepts))
      if min(values) < max(values)
    ]
    notes.append(f'rescaled slice by slice: {", ".join(spread)}')
  return pixels.shrink(array).transpose(2, 1, 0, 3), notes


def _without_copies(series):
  """Drops files that are byte for byte another of the series."""
  kept, notes = {}, 0
  for path, dataset in zip(series.files, series.headers, strict=True):
    uid = str(dataset.get('SOPInstanceUID') or path)
    if uid in kept and filecmp.cmp(path, kept[uid][0], shallow=False):
      notes += 1
      continue
    key = uid if uid not in kept else f'{uid} {path}'
    kept[key] = (path, dataset)
  files, headers = zip(*kept.values(), strict=True)
  return files, headers, [f'{notes} copies of files left out'] if notes else []


def _single(path):
  if not path.is_dir():
    return path
  files = [p for p in _files(path) if _is_dicom(p)]
  if len(files) != 1:
    raise DicomError(
      f'{path}: holds {len(files)} DICOM files; name the segmentation itself'
    )
  return files[0]


def _frame_of_reference(dataset):
  """Of a SEG its own element, of a structure set that of what it refers to."""
  for item in dataset.get('ReferencedFrameOfReferenceSequence') or ():
    if item.get('FrameOfReferenceUID'):
      return item.FrameOfReferenceUID
  return dataset.get('FrameOfReferenceUID')


def _shown_inverted(dataset):
  if pixels.inverted(dataset):
    return ['MONOCHROME1: values are as stored; low is bright']
  return []


def _meta(dataset, unit):
  return {'format': 'dicom', 'unit': unit, **header.facts(dataset)}


def _files(folder):
  """Regular files below a folder, sorted; hidden ones are left out."""
  for parent, folders, names in os.walk(folder):
    folders[:] = sorted(f for f in folders if not f.startswith('.'))
    for name in sorted(names):
      path = pathlib.Path(parent, name)
      if not name.startswith('.') and path.is_file():
        yield path


def _is_dicom(path):
  if not path.is_file() or path.name.startswith('.'):
    return False
  if path.name.lower().endswith(SUFFIXES):
    return True
  with path.open('rb') as f:
    return matches(f.read(132))


def _order(number):
  return (0, int(number)) if number.isdecimal() else (1, 0)
