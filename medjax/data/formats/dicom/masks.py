"""Segmentations and structure sets on the grid of an image."""

import pathlib

from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, parsing, quiet
from medjax.data.formats.dicom.find import files_below, is_dicom
from medjax.data.formats.dicom.rtstruct import read_rtstruct
from medjax.data.formats.dicom.segmentation import read_seg


def is_segmentation(path):
  """Whether a file is a DICOM SEG or RT structure set."""
  path = pathlib.Path(path)
  if not is_dicom(path):
    return False
  dataset = header.load(path, pixels=False, tags=['SOPClassUID', 'Modality'])
  return header.modality_of(dataset) in ('SEG', 'RTSTRUCT')


@quiet()
def read_segmentation(path, reference, *, threshold=0.5):
  """Reads a DICOM SEG or RT structure set onto the grid of an image.

  Args:
    path: the file, or a folder holding that one file.
    reference: the `Volume` whose grid is wanted.
    threshold: of a fractional SEG, as a fraction of its largest value.

  Returns `Segments`: {name: mask (*spatial,) bool}, which may overlap, with
  the coded meanings of the names and notes (see `read_labels`).
  Raises ValueError if it belongs to another frame of reference, where both
  state theirs, or does not touch the reference.
  """
  path = single(path)
  dataset = header.load(path)
  modality = header.modality_of(dataset)
  if modality not in ('SEG', 'RTSTRUCT'):
    raise DicomError(
      f'{path}: is no DICOM SEG or RTSTRUCT (modality {modality or "unknown"})'
    )
  theirs = reference.meta.get('frame_of_reference')
  with parsing(path):
    mine = header.digest(_frame_of_reference(dataset))
  if mine and theirs and mine != theirs:
    raise DicomError(
      f'{path}: lies in another frame of reference than the image; give the '
      'image it was drawn on, or register them'
    )
  if modality == 'RTSTRUCT':
    return read_rtstruct(dataset, path, reference)
  return read_seg(dataset, path, reference, threshold=threshold)


def single(path):
  """A file, or the one DICOM file in a folder."""
  path = pathlib.Path(path)
  if not path.is_dir():
    return path
  files = [p for p in files_below(path) if is_dicom(p)]
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
