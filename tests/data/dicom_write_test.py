"""DICOM SEG of sources with poor headers: what is repeated, what is named."""

import pathlib
import sys

import numpy as np
import pydicom
import pytest

from medjax.data import formats

sys.path.append(str(pathlib.Path(__file__).parent))
from dicom_files import FRAMES, dataset, save, slices

hd = pytest.importorskip('highdicom')
TYPE_2 = (
  'PatientName', 'PatientBirthDate', 'PatientSex', 'StudyID', 'StudyDate',
  'StudyTime', 'AccessionNumber', 'ReferringPhysicianName',
)  # fmt: skip
PRIVATE = {
  'PatientComments': 'a comment', 'InstitutionName': 'a hospital',
  'InstitutionAddress': 'a street', 'StationName': 'a station',
  'OperatorsName': 'an operator', 'PatientAddress': 'a home',
  'AdditionalPatientHistory': 'a history', 'StudyDescription': 'a study',
  'PatientAge': '070Y', 'PatientWeight': 70, 'Occupation': 'a job',
  'ImageComments': 'an image', 'DeviceSerialNumber': '4711',
}  # fmt: skip


def written(source, path):
  volume = formats.read(source)
  labels = np.zeros(volume.array.shape[:-1], np.uint8)
  labels[1, 2] = 1
  formats.write_segmentation(path, labels, source, class_names=('b', 'liver'))
  found = formats.read_segmentation(path, volume)['liver']
  np.testing.assert_array_equal(found, labels)
  return pydicom.dcmread(path)


def test_absent_type_2_elements_are_empty(tmp_path):
  source = slices(tmp_path / 'a')
  assert not any(k in pydicom.dcmread(source / '0.dcm') for k in TYPE_2)
  d = written(source, tmp_path / 'seg.dcm')
  for keyword in TYPE_2:
    assert keyword in d
    assert not d.get(keyword)
  assert d.PatientID == 'A'
  assert d.StudyInstanceUID == '1.2.5'
  assert hd.seg.segread(tmp_path / 'seg.dcm').number_of_segments == 1


def test_no_more_than_the_standard_demands_is_repeated(tmp_path):
  fields = {'PatientName': 'DOE^JANE', 'PatientSex': 'F', 'StudyID': '9'}
  source = slices(tmp_path / 'a', **fields, **PRIVATE)
  d = written(source, tmp_path / 'seg.dcm')
  assert d.PatientName == 'DOE^JANE'
  assert (d.PatientSex, d.StudyID) == ('F', '9')
  repeated = [k for k, value in PRIVATE.items() if d.get(k) == value]
  assert not repeated


@pytest.mark.parametrize(
  'field',
  [{'PatientSex': 'X'}, {'PatientBirthDate': ''}, {'SeriesNumber': None},
   {'SliceThickness': None}, {'PatientID': ''}],
)  # fmt: skip
def test_odd_values_do_not_hinder(field, tmp_path):
  written(slices(tmp_path / 'a'), tmp_path / 'whole.dcm')
  source = slices(tmp_path / 'b')
  for path in source.iterdir():
    d = pydicom.dcmread(path)
    for keyword, value in field.items():
      d[keyword] = pydicom.DataElement(
        keyword, pydicom.datadict.dictionary_VR(keyword), value
      )
    d.save_as(path)
  written(source, tmp_path / 'seg.dcm')


def test_what_is_missing_of_type_1_is_named(tmp_path):
  for keyword in ('StudyInstanceUID', 'FrameOfReferenceUID'):
    source = slices(tmp_path / keyword)
    for path in source.iterdir():
      d = pydicom.dcmread(path)
      del d[keyword]
      d.save_as(path)
    with pytest.raises(ValueError, match=f'headers lack {keyword}, without'):
      written(source, tmp_path / 'seg.dcm')
  source = slices(tmp_path / 'each', SeriesInstanceUID=lambda k: f'1.2.3.{k}')
  with pytest.raises(ValueError, match='each slice is a series of its own'):
    written(source, tmp_path / 'seg.dcm')
  source = save(dataset(FRAMES, FrameTime=33), tmp_path / 'cine.dcm')
  with pytest.raises(ValueError, match=r'cine\.dcm: its frames have no place'):
    written(source, tmp_path / 'seg.dcm')
  assert not (tmp_path / 'seg.dcm').exists()


def test_a_tilted_source_and_its_seg_agree(tmp_path):
  t = np.radians(20)
  iop = [1, 0, 0, 0, np.cos(t), -np.sin(t)]
  source = slices(tmp_path / 'a')
  for path in source.iterdir():
    d = pydicom.dcmread(path)
    d.ImageOrientationPatient = [float(v) for v in iop]
    d.save_as(path)
  written(source, tmp_path / 'seg.dcm')


@pytest.mark.parametrize('step', [0.3, -2.5])
def test_frames_without_groups_can_be_referred_to(step, tmp_path):
  frames = dataset(
    FRAMES,
    ImageOrientationPatient=[0.8, 0.6, 0, 0, 0, -1],
    ImagePositionPatient=[1, 2, 3],
    SpacingBetweenSlices=step,
  )
  source = save(frames, tmp_path / 'frames.dcm')
  d = written(source, tmp_path / 'seg.dcm')
  (series,) = d.ReferencedSeriesSequence
  (image,) = series.ReferencedInstanceSequence
  assert image.ReferencedSOPInstanceUID == frames.SOPInstanceUID
  theirs = hd.seg.segread(tmp_path / 'seg.dcm').get_volume()
  assert int(np.sum(theirs.array)) == 4
