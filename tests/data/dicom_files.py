"""DICOM files that tests write."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset

FRAMES = np.arange(4 * 4 * 6, dtype=np.int16).reshape(4, 4, 6)
AXIAL = [1, 0, 0, 0, 1, 0]
CT = pydicom.uid.CTImageStorage


def dataset(array, *, sop=CT, modality='CT', **fields):
  """An image of grey pixels ([frames,] rows, columns)."""
  d = Dataset()
  d.file_meta = pydicom.dataset.FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = sop
  d.SOPInstanceUID = pydicom.uid.generate_uid()
  d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
  d.SeriesInstanceUID, d.StudyInstanceUID = '1.2.3', '1.2.5'
  d.FrameOfReferenceUID, d.PatientID = '1.2.4', 'A'
  d.Modality, d.SeriesNumber, d.InstanceNumber = modality, 7, 1
  d.Rows, d.Columns = array.shape[-2:]
  if array.ndim == 3:
    d.NumberOfFrames = len(array)
  d.SamplesPerPixel, d.PhotometricInterpretation = 1, 'MONOCHROME2'
  bits = array.dtype.itemsize * 8
  d.BitsAllocated, d.BitsStored, d.HighBit = bits, bits, bits - 1
  d.PixelRepresentation = int(array.dtype.kind == 'i')
  d.PixelSpacing = [0.5, 0.75]
  d.add_new('PixelData', 'OW' if bits > 8 else 'OB', array.tobytes())
  for key, value in fields.items():
    setattr(d, key, value)
  return d


def save(d, path):
  path.parent.mkdir(parents=True, exist_ok=True)
  d.save_as(path, enforce_file_format=True)
  return path


def slices(folder, count=4, step=2.5, start=0.0, **fields):
  """A series of axial slices."""
  for k in range(count):
    own = {n: f(k) if callable(f) else f for n, f in fields.items()}
    d = dataset(
      FRAMES[k],
      ImageOrientationPatient=AXIAL,
      ImagePositionPatient=[-10, 20, start + k * step],
      SliceThickness=2,
      **own,
    )
    d.InstanceNumber = k + 1
    save(d, folder / f'{k}.dcm')
  return folder


def enhanced(sop, place, orientation, **measures):
  """A file of functional groups; `place`, `orientation`: their keywords."""
  d = dataset(FRAMES, sop=sop, modality='US')
  del d.PixelSpacing
  shared, sizes, plane = Dataset(), Dataset(), Dataset()
  sizes.PixelSpacing = [0.5, 0.75]
  for key, value in measures.items():
    setattr(sizes, key, value)
  shared.PixelMeasuresSequence = [sizes]
  if orientation:
    setattr(plane, orientation, AXIAL)
    keyword = orientation.replace('ImageOrientation', 'PlaneOrientation')
    setattr(shared, f'{keyword.removesuffix("Patient")}Sequence', [plane])
  d.SharedFunctionalGroupsSequence = [shared]
  d.PerFrameFunctionalGroupsSequence = []
  for k in range(len(FRAMES)):
    group, at = Dataset(), Dataset()
    if place:
      setattr(at, place, [1, 2, 1.5 * k])
      keyword = place.replace('ImagePosition', 'PlanePosition')
      setattr(group, f'{keyword.removesuffix("Patient")}Sequence', [at])
    d.PerFrameFunctionalGroupsSequence.append(group)
  return d
