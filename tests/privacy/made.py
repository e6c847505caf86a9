"""Data sets to de-identify: pydicom's own, and pictures of arrays."""

import pathlib
import warnings

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import FileMetaDataset

TEST_FILES = pathlib.Path(pydicom.__file__).parent / 'data/test_files'


def read(name):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return pydicom.dcmread(TEST_FILES / name, force=True)


def picture(array, *, kind='1.2.840.10008.5.1.4.1.1.7', photometric=None):
  """A data set with the pixels of an array (h, w), (h, w, 3) or (n, h, w)."""
  ds = pydicom.Dataset()
  ds.file_meta = FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  ds.SOPClassUID, ds.SOPInstanceUID = kind, '1.2.3.4.5'
  ds.StudyInstanceUID, ds.SeriesInstanceUID = '1.2.3.4.6', '1.2.3.4.7'
  ds.PatientName, ds.PatientID = 'Zebrowski^Ophelia', 'QMR884177'
  ds.Modality = 'OT'
  color = array.shape[-1] == 3
  ds.SamplesPerPixel = 3 if color else 1
  ds.PhotometricInterpretation = photometric or (
    'RGB' if color else 'MONOCHROME2'
  )
  if color:
    ds.PlanarConfiguration = 0
  *frames, rows, columns = array.shape[:-1] if color else array.shape
  ds.Rows, ds.Columns = rows, columns
  if frames:
    ds.NumberOfFrames = frames[0]
  ds.BitsAllocated = ds.BitsStored = array.dtype.itemsize * 8
  ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
  ds.PixelData = np.ascontiguousarray(array).tobytes()
  return ds
