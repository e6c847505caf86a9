"""Segmentations and structure sets on the grid of an image."""

import dataclasses
import pathlib

from medjax.data import walk
from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, parsing, quiet
from medjax.data.formats.dicom.find import is_dicom, is_directory
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
  the coded meanings of the names and notes (see `read_labels`). Structures of
  another frame of reference than the image's are left out, which is noted.
  Raises ValueError if all are of another, where both state theirs, or if none
  touches the reference.
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
    mine = _frames_of_reference(dataset)
  if mine and theirs and theirs not in mine:
    raise DicomError(
      f'{path}: lies in another frame of reference than the image; give the '
      'image it was drawn on, or register them'
    )
  volume = _as_volume(reference) if _is_placed(dataset) else reference
  if modality == 'RTSTRUCT':
    found = read_rtstruct(dataset, path, volume, frame=theirs)
  else:
    found = read_seg(dataset, path, volume, threshold=threshold)
  if volume is not reference:
    for name, mask in found.items():
      if mask.ndim == 3:
        found[name] = mask[:, :, 0].T
  return found


def _is_placed(dataset):
  """Whether contours, or the frames of a SEG, say where they lie."""
  frames = list(dataset.get('PerFrameFunctionalGroupsSequence') or ())
  shared = list(dataset.get('SharedFunctionalGroupsSequence') or ())
  return not frames or any(
    'PlanePositionSequence' in groups for groups in (*frames[:1], *shared)
  )


def _as_volume(reference):
  """A single slice that knows its place, (row, column), as a volume of one."""
  place = reference.meta.get('affine')
  if reference.array.ndim != 3 or place is None:
    return reference
  if reference.meta.get('format') != 'dicom':
    return reference
  array = reference.array.swapaxes(0, 1)[:, :, None]
  return dataclasses.replace(
    reference, array=array, affine=place[:, [1, 0, 2, 3]]
  )


def single(path):
  """A file, or the one DICOM file in a folder."""
  path = pathlib.Path(path)
  if not path.is_dir():
    return path
  files = [
    p for p in walk.files_below(path) if is_dicom(p) and not is_directory(p)
  ]
  if len(files) != 1:
    raise DicomError(
      f'{path}: holds {len(files)} DICOM files; name the segmentation itself'
    )
  return files[0]


def _frames_of_reference(dataset):
  """Digests of those of a structure set, or of a SEG's own, where stated."""
  items = list(dataset.get('ReferencedFrameOfReferenceSequence') or ())
  found = {header.digest(i.get('FrameOfReferenceUID')) for i in items} - {''}
  return found or {header.digest(dataset.get('FrameOfReferenceUID'))} - {''}
