"""PET collections: SUV by hand, CT against SimpleITK, masks as drawn."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset

from medjax.data import formats, records
from medjax.prepare import prepare

HALF_LIFE = 6586.2


def tracer(**fields):
  d = Dataset()
  d.RadionuclideTotalDose = 370e6
  d.RadionuclideHalfLife = HALF_LIFE
  d.RadiopharmaceuticalStartTime = '100000'
  for key, value in fields.items():
    setattr(d, key, value)
  return d


ACQUIRED = dict(
  Units='BQML',
  DecayCorrection='START',
  CorrectedImage=['ATTN', 'DECY', 'SCAT'],
  PatientWeight=80,
  SeriesDate='20200101',
  SeriesTime='110000',
  AcquisitionDate='20200101',
  AcquisitionTime='110000',
  RescaleSlope=0.5,
)
SHAPE = (10, 8, 4)


def structure_set(path, patient, on, structures):
  """An RTSTRUCT of squares in the slice at -6 mm: {name: (low, high)} in mm."""
  d = Dataset()
  d.file_meta = FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.SOPClassUID = '1.2.840.10008.5.1.4.1.1.481.3'
  d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
  d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = '1.2.3.5'
  d.Modality, d.PatientID = 'RTSTRUCT', patient
  d.StudyInstanceUID, d.SeriesInstanceUID = '1.2.3.1', f'{on}.7'
  frame, study, series = Dataset(), Dataset(), Dataset()
  series.SeriesInstanceUID = on
  study.RTReferencedSeriesSequence = [series]
  frame.FrameOfReferenceUID = '1.2.3.4'
  frame.RTReferencedStudySequence = [study]
  d.ReferencedFrameOfReferenceSequence = [frame]
  d.StructureSetROISequence, d.ROIContourSequence = [], []
  for number, (name, (low, high)) in enumerate(structures.items(), start=1):
    roi, item, contour = Dataset(), Dataset(), Dataset()
    roi.ROINumber = item.ReferencedROINumber = number
    roi.ROIName = name
    corners = [(low, low), (high, low), (high, high), (low, high)]
    contour.ContourGeometricType = 'CLOSED_PLANAR'
    contour.ContourData = [v for x, y in corners for v in (x, y, -6.0)]
    item.ContourSequence = [contour]
    d.StructureSetROISequence.append(roi)
    d.ROIContourSequence.append(item)
  path.parent.mkdir(parents=True, exist_ok=True)
  d.save_as(path, enforce_file_format=True)


@pytest.fixture
def collection(tmp_path, write_series):
  """Two patients; a/ with CT, structures and a PET that is not corrected."""
  rng = np.random.default_rng(0)
  home = tmp_path / 'collection'
  counts = rng.integers(0, 20000, (2, *SHAPE)).astype(np.int16)
  kind = dict(modality='PT', spacing=(4, 4, 2))
  for i, patient in enumerate(('p1', 'p2')):
    write_series(
      home / patient / 'x' / 'y' / 'pet',
      counts[i],
      patient=patient,
      RadiopharmaceuticalInformationSequence=[tracer()],
      **kind,
      **ACQUIRED,
    )
  raw = {**ACQUIRED, 'CorrectedImage': ['DECY', 'SCAT']}
  write_series(home / 'p1' / 'raw', counts[0], patient='p1', **kind, **raw)
  hu = rng.integers(-1000, 1000, (24, 20, 3)).astype(np.int16)
  uid = write_series(
    home / 'p1' / 'ct',
    hu,
    patient='p1',
    modality='CT',
    spacing=(1.5, 1.5, 3),
  )
  return home, counts, uid


def cases_of(name, home):
  splits = records.info(name, home)['splits']
  return {
    c['patient']: c for c in records.open_split(name, '+'.join(splits), home)
  }


def test_suv_by_hand(collection, tmp_path, capsys):
  home, counts, uid = collection
  # Drawn on the CT: x from -20 in steps of 4 on the PET, y from -30.
  structure_set(
    home / 'p1' / 'rs.dcm', 'p1', uid, {'Node': (-17, -11), 'Lung': (-19, -3)}
  )
  prepare('pet/pet', tmp_path, home)
  out = capsys.readouterr().out
  assert 'raw is left out: not corrected for att' in out
  assert 'of 1 of 2 PET series nothing was drawn' in out
  about = records.info('pet/pet', tmp_path)
  assert about['class_names'] == ('background', 'Lung', 'Node')
  assert about['splits'] == {'fold0': 1, 'unlabelled': 1}
  cases = cases_of('pet/pet', tmp_path)
  # An hour after 370 MBq were given to 80 kg.
  factor = 80e3 / (370e6 * 2 ** (-3600 / HALF_LIFE))
  for i, patient in enumerate(('p1', 'p2')):
    case = cases[patient]
    np.testing.assert_allclose(
      case['image'][..., 0], counts[i] * 0.5 * factor, rtol=1e-6
    )
    assert case['suv_factor'] == pytest.approx(factor)
    assert case['segmented'] == (patient == 'p1')
  want = np.zeros(SHAPE, np.uint8)
  x, y = np.meshgrid(-20 + 4 * np.arange(10), -30 + 4 * np.arange(8))
  for label, (low, high) in enumerate(((-19, -3), (-17, -11)), start=1):
    square = (low < x) & (x < high) & (low < y) & (y < high)
    want[square.T, 2] = label  # the smaller on top
  np.testing.assert_array_equal(cases['p1']['mask'], want)
  assert set(np.unique(want)) == {0, 1, 2}
  assert not cases['p2']['mask'].any()


def test_structures_drawn_on_the_pet_go_first(collection, tmp_path):
  home, _, uid = collection
  pet = pydicom.dcmread(next((home / 'p1' / 'x').rglob('*.dcm')))
  structure_set(home / 'p1' / 'a', 'p1', uid, {'on CT': (-19, -3)})
  structure_set(
    home / 'p1' / 'b', 'p1', pet.SeriesInstanceUID, {'on PET': (-19, -3)}
  )
  prepare('pet/pet', tmp_path, home)
  names = records.info('pet/pet', tmp_path)['class_names']
  assert names == ('background', 'on PET')


@pytest.mark.parametrize(
  ('fields', 'given', 'line'),
  [
    ({'PatientWeight': None}, {}, 'PatientWeight is missing'),
    ({}, {'RadionuclideTotalDose': None}, 'RadionuclideTotalDose is missing'),
    ({}, {'RadiopharmaceuticalStartTime': ''}, 'StartTime is missing'),
    ({'Units': 'CNTS'}, {}, 'Philips scale factors'),
    ({'PatientID': ''}, {}, 'has no PatientID'),
    ({'Modality': 'CT'}, {}, 'holds no PET series'),
  ],
)
def test_what_is_missing_is_named(tmp_path, write_series, fields, given, line):
  more = {
    **ACQUIRED,
    'RadiopharmaceuticalInformationSequence': [tracer(**given)],
    **fields,
  }
  array = np.ones(SHAPE, np.int16)
  write_series(tmp_path / 'a', array, patient='p', modality='PT', **more)
  with pytest.raises((ValueError, FileNotFoundError), match=line) as e:
    prepare('pet/pet', tmp_path / 'data', tmp_path / 'a')
  assert '\n' not in str(e.value)


def test_without_files_or_ct(collection, tmp_path):
  home, _, _ = collection
  with pytest.raises(FileNotFoundError, match='--manual_dir=FOLDER'):
    prepare('pet/pet', tmp_path)
  with pytest.raises(ValueError, match='p2/x/y/pet: no CT shares the frame'):
    prepare('pet/pet_ct', tmp_path, home)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(FileNotFoundError, match='empty: holds no DICOM files'):
    prepare('pet/pet', tmp_path, tmp_path / 'empty')


def test_real_pet_and_ct(shared_data, tmp_path):
  home = shared_data('dicom_sts025')
  prepare('pet/pet_ct', tmp_path, home)
  case = cases_of('pet/pet_ct', tmp_path)['STS_025']
  suv, hu = np.moveaxis(case['image'], -1, 0)
  pet = formats.read(home / 'PET' / 'image')
  np.testing.assert_allclose(case['affine'], pet.affine)
  # Its values are SUV already; the sarcoma takes up more than the thigh.
  np.testing.assert_array_equal(suv, pet.array[..., 0])
  drawn = case['mask'] > 0
  assert 0.1 < suv[~drawn].mean() < 0.5
  assert 2 < suv[drawn].mean() < suv.max() < 10
  masks = formats.read_segmentation(home / 'PET' / 'mask' / 'RS.dcm', pet)
  assert records.info('pet/pet_ct', tmp_path)['class_names'][1:] == (*masks,)
  np.testing.assert_array_equal(drawn, masks['GTV_Mass_PET'])

  def itk(name):
    reader = sitk.ImageSeriesReader()
    folder = str(home / name / 'image')
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    return sitk.Cast(reader.Execute(), sitk.sitkFloat32)

  theirs = sitk.Resample(
    itk('CT'), itk('PET'), sitk.Transform(), sitk.sitkLinear, -1024.0
  )
  np.testing.assert_allclose(hu.T, sitk.GetArrayFromImage(theirs), atol=1e-3)


def test_air_lies_beyond_the_ct(collection, tmp_path):
  home, _, _ = collection
  for path in (home / 'p2').rglob('*.dcm'):
    path.unlink()
  prepare('pet/pet_ct', tmp_path, home)
  hu = cases_of('pet/pet_ct', tmp_path)['p1']['image'][..., 1]
  assert (hu[-1] < -1023).all()  # 16 mm to the CT's last column
  assert (hu[:4, :4] > -1001).all()
