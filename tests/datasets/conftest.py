import sys

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from medjax.data import builders


@pytest.fixture
def builder_module(tmp_path):
  """builder_module('msd') → the module datasets/msd.py, as it is prepared."""

  def load(name):
    path, config = builders.find(name)
    builders.load(path, config, data_dir=tmp_path)
    return sys.modules[f'medjax_dataset_{path.stem}']

  return load


@pytest.fixture(scope='session')
def write_series():
  """Writes an axial DICOM series into a folder, a file for each slice."""

  def write(
    folder, array, *, patient, modality, spacing=(0.5, 0.5, 2.0), z=None, **more
  ):
    """`array` (column, row, slice) int16; `z` of each slice, or even ones."""
    uid = str(abs(hash((str(folder), patient, modality))))[:12]
    folder.mkdir(parents=True)
    for k in range(array.shape[2]):
      d = Dataset()
      d.file_meta = FileMetaDataset()
      d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
      d.SOPClassUID = '1.2.840.10008.5.1.4.1.1.2'
      d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
      d.SOPInstanceUID = f'1.2.3.{uid}.{k + 1}'
      d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
      d.PatientID, d.Modality = patient, modality
      d.StudyInstanceUID = '1.2.3.1'
      d.SeriesInstanceUID = f'1.2.3.{uid}'
      d.FrameOfReferenceUID = '1.2.3.4'
      d.Rows, d.Columns = array.shape[1], array.shape[0]
      d.SamplesPerPixel, d.PhotometricInterpretation = 1, 'MONOCHROME2'
      d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
      d.PixelRepresentation = 1
      d.RescaleSlope, d.RescaleIntercept = 1, 0
      d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
      place = k * spacing[2] - 10 if z is None else z[k]
      d.ImagePositionPatient = [-20, -30, place]
      d.PixelSpacing = [spacing[1], spacing[0]]
      d.SliceThickness = spacing[2]
      d.PixelData = np.ascontiguousarray(array[..., k].T, np.int16).tobytes()
      for key, value in more.items():
        setattr(d, key, value)
      d.save_as(folder / f'1-{k + 1:03d}.dcm', enforce_file_format=True)
    return d.SeriesInstanceUID

  return write
