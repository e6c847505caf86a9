"""One image file, of one frame or of several: `read_file(path)`."""

import dataclasses

import numpy as np
from pydicom.uid import OphthalmicTomographyImageStorage

from medjax.data.formats.dicom import assemble, header, pixels
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.frames import (
  frame_count,
  frames_of,
  pixel_size,
  size_of,
)
from medjax.data.formats.dicom.multiframe import axis_of
from medjax.data.formats.dicom.pet import suv_factor
from medjax.data.formats.dicom.stack import plane, stack
from medjax.data.formats.volume import Volume


def read_file(path, *, voi, suv):
  """The `Volume` of a file: a picture, or a volume of several frames."""
  dataset = header.load(path)
  modality = header.modality_of(dataset)
  if modality in ('SEG', 'RTSTRUCT'):
    raise DicomError(
      f'{path}: is a {modality}, whose place is that of another image; read '
      'it with read_segmentation(path, reference)'
    )
  if header.is_directory(dataset):
    raise DicomError(
      f'{path}: is a DICOMDIR, which only lists images; give its folder'
    )
  if modality in header.NOT_IMAGES or size_of(dataset, path) is None:
    raise DicomError(
      f'{path}: holds no image (modality {modality or "unknown"}); give the '
      'image it belongs to'
    )
  if 'TotalPixelMatrixRows' in dataset:
    raise DicomError(
      f'{path}: is a whole slide, in tiles; cut it: medjax convert SLIDE TILES '
      '--tile=512'
    )
  if frame_count(dataset, path) > 1:
    return _read_frames(dataset, path, suv=suv)
  return _read_picture(dataset, path, voi=voi, suv=suv)


def _read_picture(dataset, path, *, voi, suv):
  """One frame: (row, column, C)."""
  (frame,) = frames_of(dataset, path)
  array, window = pixels.picture(
    dataset, path, slope=frame.slope, intercept=frame.intercept, voi=voi
  )
  if suv:
    array = (array * suv_factor(dataset, path)).astype(np.float32)
  spacing, source = pixel_size(dataset, path)
  spacing = frame.spacing or spacing
  notes = [*frame.notes, *assemble.palette_notes(dataset, path)]
  if pixels.inverted(dataset) and array.shape[-1] == 1:
    notes.append('MONOCHROME1: values are turned so that high is bright')
  if source.startswith('ImagerPixelSpacing') and '/' not in source:
    notes.append('spacing is that at the detector, not in the patient')
  if not spacing:
    notes += _not_square(dataset, path)
  meta = assemble.meta(dataset, 'mm' if spacing else 'pixel', window, notes)
  if source:
    meta['spacing_from'] = source
  if frame.position and frame.orientation and frame.spacing:
    with parsing(path):
      meta['affine'] = plane(frame)
  affine = np.diag([*(spacing or (1.0, 1.0)), 1.0])
  return Volume(array, affine, header.modality_of(dataset), meta)


def _read_frames(dataset, path, *, suv):
  """A multi-frame file: (column, row, frame, C)."""
  pixels.check(dataset, path)  # before so many frames as it says are made
  frames = frames_of(dataset, path)
  if any(f.position for f in frames):
    ordered, affine, notes = stack(frames, path)
    unit = 'mm'
  else:
    ordered, affine, unit, notes = _unplaced(dataset, frames, path)
  array = pixels.stored(dataset, path)
  if len(array) != len(frames):
    raise DicomError(
      f'{path}: holds {len(array)} frames but describes {len(frames)}; copy '
      'it again'
    )
  if frames[0].table:
    array = pixels.through_table(array, dataset, path)
  array, more = assemble.voxels(
    (array[f.index] for f in ordered),
    ordered,
    array.shape,
    pixels.stored_dtype(dataset, path) if array.shape[-1] == 1 else array.dtype,
  )
  if suv:
    array = (array * suv_factor(dataset, path)).astype(np.float32)
  window = pixels.window_of(dataset, path)
  notes = (*notes, *more, *assemble.remarks(dataset, path))
  meta = assemble.meta(dataset, unit, window, notes)
  return Volume(array, affine, header.modality_of(dataset), meta)


def _unplaced(dataset, frames, path):
  """Frames, affine, unit and notes where no frame has a place."""
  source = 'PixelSpacing'
  if frames[0].spacing is None:
    spacing, source = pixel_size(dataset, path)
    frames = [dataclasses.replace(f, spacing=spacing) for f in frames]
  sections = dataset.get('SOPClassUID') == OphthalmicTomographyImageStorage
  affine, notes = axis_of(frames, sections=sections)
  if frames[0].spacing is None:
    notes += _not_square(dataset, path)
    return frames, affine, 'pixel', notes
  if source != 'PixelSpacing':
    notes.append(f'pixel spacing from {source}')
  return frames, affine, 'mm', notes


def _not_square(dataset, path):
  """A note where pixels of unknown size are known to be no squares."""
  ratio = header.numbers(dataset, 'PixelAspectRatio', 2, path)
  if ratio is None or ratio[0] == ratio[1]:
    return []
  return [
    f'pixels are {ratio[0]:g} high and {ratio[1]:g} wide (PixelAspectRatio): '
    'taken as squares'
  ]
