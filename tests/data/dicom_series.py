"""A DICOM series that tests write, of a patient who must never be named."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

NAME = 'DOE^JANE'


def dataset(array, **fields):
  """One MR image (rows, columns[, 3]) whose patient must never be seen."""
  d = Dataset()
  d.file_meta = FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = (
    pydicom.uid.MRImageStorage
  )
  d.SOPInstanceUID = pydicom.uid.generate_uid()
  d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
  d.PatientName, d.PatientID, d.PatientBirthDate = NAME, '4711', '19500101'
  d.SeriesDescription, d.ProtocolName = f'brain of {NAME}', NAME
  d.SeriesInstanceUID, d.FrameOfReferenceUID = '1.2.3', '1.2.4'
  d.Modality, d.SeriesNumber = 'MR', 7
  d.Rows, d.Columns = array.shape[:2]
  d.SamplesPerPixel = 3 if array.ndim == 3 else 1
  d.PhotometricInterpretation = 'RGB' if array.ndim == 3 else 'MONOCHROME2'
  if array.ndim == 3:
    d.PlanarConfiguration = 0
  bits = array.dtype.itemsize * 8
  d.BitsAllocated, d.BitsStored, d.HighBit = bits, bits, bits - 1
  d.PixelRepresentation = int(array.dtype.kind == 'i')
  d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
  d.PixelSpacing = [0.5, 0.75]
  d.SliceThickness = 2
  d.PixelData = array.tobytes()
  for key, value in fields.items():
    if value is None:
      del d[key]
    else:
      setattr(d, key, value)
  return d


def save(d, path):
  path.parent.mkdir(parents=True, exist_ok=True)
  d.save_as(path, enforce_file_format=True)
  return path


def series(folder, positions, **fields):
  """A series with one slice at each position; slice k holds 100 k + …"""
  rng = np.random.default_rng(0)
  for k, position in enumerate(positions):
    array = (100 * k + rng.integers(0, 50, (4, 6))).astype(np.int16)
    own = {n: f(k) if callable(f) else f for n, f in fields.items()}
    d = dataset(array, ImagePositionPatient=list(position), **own)
    # Names and numbers run against the positions.
    d.InstanceNumber = k + 1
    save(d, folder / f'{90 - k}.dcm')
  return folder


def line(positions, step=(0, 0, 2.5)):
  return [
    tuple(np.array([10.0, 20, 30]) + k * np.array(step)) for k in positions
  ]
