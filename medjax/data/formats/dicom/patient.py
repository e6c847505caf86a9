"""Whose DICOM it is, without keeping who that is; and whether it is an image.

Of a folder the first file speaks for all.
"""

import pathlib

from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.frames import size_of
from medjax.data.formats.dicom.header import digest

__all__ = ['digest', 'holds_image', 'patient_of']


def holds_image(path):
  """Whether a DICOM file, or a folder's first, is an image by its header."""
  file = _first(pathlib.Path(path))
  tags = ['SOPClassUID', 'Modality', 'Rows', 'Columns']
  dataset = header.load(file, pixels=False, tags=tags)
  modality = header.modality_of(dataset)
  return modality not in header.NOT_IMAGES and bool(size_of(dataset, file))


def patient_of(path):
  """A `digest` of the PatientID of a file, or of the first in a folder.

  The id itself is not kept. The digest is no secret: who has a list of ids can
  compute theirs and compare, which is what it is for.
  """
  file = _first(pathlib.Path(path))
  dataset = header.load(file, pixels=False, tags=['SOPClassUID', 'PatientID'])
  with parsing(file):
    found = digest(dataset.get('PatientID'))
  if not found:
    raise DicomError(
      f'{file}: has no PatientID; say who the patient is in a table'
    )
  return found


def _first(path):
  if not path.is_dir():
    return path
  for file in sorted(path.iterdir()):
    if file.name.startswith('.') or not file.is_file():
      continue
    if file.name.lower().endswith(header.SUFFIXES):
      return file
    with file.open('rb') as f:
      if header.matches(f.read(132)):
        return file
  raise DicomError(f'{path}: holds no DICOM file')
