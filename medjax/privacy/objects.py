"""DICOM objects read as they are and written anew: `read(path)`, `write`.

What is written has nothing of the file but what is given: the preamble is
zeros, the file meta group is made, and the file ends where the data set does.
"""

import io
import warnings

import pydicom
import pydicom.errors
from pydicom import uid
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite

from medjax import __version__, files

_IMPLEMENTATION = '2.25.328460173946402873462093481720394872310'
_DICOMDIR = '1.2.840.10008.1.3.10'
_LARGEST = 2**31  # bytes of a file; more is no slice and no report


class RefusedError(ValueError):
  """Why a file is not given away; says nothing about the patient."""


def read(path, *, pixels=True):
  """The data set of a file; `RefusedError` for what is no readable object."""
  size = path.stat().st_size
  if size > _LARGEST:
    raise RefusedError('larger than 2 GiB')
  if not size:
    raise RefusedError('empty file')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    try:
      dataset = _parsed(path, pixels)
    except (OSError, MemoryError):
      raise
    except Exception:  # pydicom raises whatever its parsers do
      raise RefusedError('not readable as DICOM') from None
    meta = getattr(dataset, 'file_meta', {})
    if meta.get('MediaStorageSOPClassUID') == _DICOMDIR:
      raise RefusedError('a DICOMDIR, which names other files: make a new one')
    for keyword in ('SOPClassUID', 'SOPInstanceUID'):
      try:
        found = dataset.get(keyword)
      except Exception:
        found = None
      if not isinstance(found, str) or not found:
        raise RefusedError(f'no DICOM object: it has no {keyword}')
  return dataset


def _parsed(path, pixels):
  try:
    dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
  except pydicom.errors.InvalidDicomError:
    dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
  if dataset.original_encoding == (None, None):
    raise RefusedError('no DICOM object')
  return dataset


def syntax_of(dataset):
  """The transfer syntax; of a file that does not say it, by its encoding."""
  try:
    said = dataset.file_meta.get('TransferSyntaxUID')
  except AttributeError:
    said = None
  implicit, little = dataset.original_encoding
  if not said or said.is_private:
    if said:
      raise RefusedError('a private transfer syntax')
    if implicit:
      return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
  if not said.is_transfer_syntax:
    raise RefusedError('an unknown transfer syntax')
  if not said.is_compressed and said.is_implicit_VR != implicit:
    return uid.ImplicitVRLittleEndian if implicit else said
  return said


def encoded(dataset, syntax):
  """The bytes of a file that holds a data set and nothing else."""
  meta = FileMetaDataset()
  meta.MediaStorageSOPClassUID = dataset.SOPClassUID
  meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
  meta.TransferSyntaxUID = syntax
  meta.ImplementationClassUID = _IMPLEMENTATION
  meta.ImplementationVersionName = f'MEDJAX {__version__}'[:16]
  dataset.file_meta = meta
  dataset.preamble = bytes(128)
  buffer = io.BytesIO()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    dcmwrite(buffer, dataset, enforce_file_format=True)
  return buffer.getvalue()


def write(path, data):
  """Puts the bytes of a file in place, whole."""
  with files.replacing(path, 'wb') as f:
    f.write(data)
