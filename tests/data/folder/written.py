"""Files that tests of folders write."""

import numpy as np
import PIL.Image
import pydicom
from pydicom.uid import EnhancedSRStorage, RTStructureSetStorage

NO_IMAGES = {EnhancedSRStorage: 'SR', RTStructureSetStorage: 'RTSTRUCT'}


def picture(path, value=None):
  """A PNG of its own, or of one value."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng([*path.as_posix().encode()])
  array = rng.integers(0, 255, (6, 5), np.uint8)
  if value is not None:
    array = np.full((6, 5), value, np.uint8)
  PIL.Image.fromarray(array).save(path)


def dicom(path, kind, *, position=None, uid=None, patient='x'):
  """A picture, a slice at a `position` of a series, or what is no image."""
  path.parent.mkdir(parents=True, exist_ok=True)
  d = pydicom.Dataset()
  d.file_meta = pydicom.dataset.FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = kind
  d.SOPInstanceUID = pydicom.uid.generate_uid()
  d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
  d.SeriesInstanceUID = uid or pydicom.uid.generate_uid()
  d.PatientID = patient
  if kind in NO_IMAGES:
    d.Modality = NO_IMAGES[kind]
  else:
    d.Modality = 'DX' if position is None else 'CT'
    d.Rows, d.Columns, d.SamplesPerPixel = 4, 5, 1
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.PhotometricInterpretation = 'MONOCHROME2'
    d.PixelData = np.full(20, len(str(path)), np.uint16).tobytes()
    if position is not None:
      d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
      d.ImagePositionPatient, d.PixelSpacing = [0, 0, position], [1, 1]
  d.save_as(path, enforce_file_format=True)
