"""Whose DICOM it is, without keeping who that is; and whether it is an image.

Of a folder its first image speaks for all.
"""

import functools
import pathlib
import typing

from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.find import is_dicom
from medjax.data.formats.dicom.frames import frame_count, size_of
from medjax.data.formats.dicom.header import digest

__all__ = ['Seen', 'about', 'digest', 'holds_image', 'patient_of', 'seen']


class Seen(typing.NamedTuple):
  """What is asked of every file of a folder.

  slice: whether it is an image of one frame with a place. patient: the digest
  of its PatientID, or ''.
  """

  image: bool
  slice: bool
  patient: str


def seen(file):
  """`Seen` of a DICOM file, whose header is read once, whoever asks."""
  about = file.stat()
  return _read_once(file, about.st_size, about.st_mtime_ns)


def holds_image(path):
  """Whether a DICOM file, or any file of a folder, is an image by its header.

  Structure sets, reports and a DICOMDIR may lie before the images.
  """
  return any(map(_is_image, _files(pathlib.Path(path))))


def patient_of(path):
  """A `digest` of the PatientID of a file, or of a folder's first image.

  The id itself is not kept. The digest is no secret: who has a list of ids can
  compute theirs and compare, which is what it is for.
  """
  path = pathlib.Path(path)
  file = next(filter(_is_image, _files(path)), None) or next(_files(path))
  found = seen(file).patient
  if not found:
    raise DicomError(
      f'{file}: has no PatientID; say who the patient is in a table'
    )
  return found


def about(path):
  """{'sex', 'age', 'site', 'scanner'} that a header says, texts as they stand.

  The age is PatientAge, or from birth and study date whole years; the site the
  institution's name, the scanner its maker and model. What it does not say is
  left out.
  """
  path = pathlib.Path(path)
  file = next(filter(_is_image, _files(path)), None) or next(_files(path))
  tags = [
    'SOPClassUID', 'Rows', 'PatientSex', 'PatientAge', 'PatientBirthDate',
    'StudyDate', 'InstitutionName', 'Manufacturer', 'ManufacturerModelName',
  ]  # fmt: skip
  dataset = header.load(file, pixels=False, tags=tags)
  with parsing(file):
    text = lambda name: str(dataset.get(name) or '').strip()
    scanner = f'{text("Manufacturer")} {text("ManufacturerModelName")}'.strip()
    born, studied = text('PatientBirthDate'), text('StudyDate')
    age = text('PatientAge')
    known = len(born) == len(studied) == 8 and (born + studied).isdigit()
    if known and not age:
      age = str((int(studied) - int(born)) // 10_000)
    found = {
      'sex': text('PatientSex'),
      'age': age,
      'site': text('InstitutionName'),
      'scanner': scanner,
    }
  return {name: value for name, value in found.items() if value}


def _is_image(file):
  return seen(file).image


@functools.lru_cache(2**17)
def _read_once(file, size, changed):
  del size, changed  # of another file under this name
  tags = [
    'SOPClassUID', 'Modality', 'Rows', 'Columns', 'NumberOfFrames',
    'ImagePositionPatient', 'PatientID',
  ]  # fmt: skip
  dataset = header.load(file, pixels=False, tags=tags)
  modality = header.modality_of(dataset)
  image = modality not in header.NOT_IMAGES and bool(size_of(dataset, file))
  placed = image and 'ImagePositionPatient' in dataset
  with parsing(file):
    person = digest(dataset.get('PatientID'))
  return Seen(image, placed and frame_count(dataset, file) == 1, person)


def _files(path):
  """A file, or the DICOM files of a folder itself, in order."""
  if not path.is_dir():
    yield path
    return
  found = False
  for file in sorted(path.iterdir()):
    if is_dicom(file):
      found = True
      yield file
  if not found:
    raise DicomError(f'{path}: holds no DICOM file')
