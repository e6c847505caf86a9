"""Where frames lie, and what makes one series; against SimpleITK."""

import pathlib
import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from medjax.data import formats
from medjax.data.formats import dicom
from medjax.data.formats.dicom import single

sys.path.append(str(pathlib.Path(__file__).parent))
from dicom_files import AXIAL, FRAMES, dataset, enhanced, save, slices

OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]
NM = pydicom.uid.NuclearMedicineImageStorage


def agrees(volume, image):
  """Whether every voxel of SimpleITK's has its place and value here."""
  values = sitk.GetArrayFromImage(image)
  index = np.argwhere(np.ones(values.shape))
  lps = [
    image.TransformIndexToPhysicalPoint([int(v) for v in i[::-1]])
    for i in index
  ]
  mm = np.c_[np.array(lps) * [-1, -1, 1], np.ones(len(lps))]
  at = (np.linalg.inv(volume.affine) @ mm.T)[:3]
  where = np.rint(at).astype(int)
  assert np.abs(at - where).max() < 1e-3
  ours = volume.array[tuple(where)][:, 0]
  return np.array_equal(ours, values[tuple(index.T)])


def nuclear(step, **fields):
  detector = Dataset()
  detector.ImagePositionPatient = [-10, 20, 30]
  detector.ImageOrientationPatient = AXIAL
  d = dataset(FRAMES, sop=NM, modality='NM', SpacingBetweenSlices=step)
  d.ImageType = ['ORIGINAL', 'PRIMARY', 'RECON TOMO', 'EMISSION']
  d.DetectorInformationSequence = [detector]
  d.FrameIncrementPointer, d.SliceVector = 0x00540080, [1, 2, 3, 4]
  for key, value in fields.items():
    setattr(d, key, value)
  return d


def cone_beam(**fields):
  fields = {
    'ImagePositionPatient': [-10, 20, 30],
    'ImageOrientationPatient': AXIAL,
    'SpacingBetweenSlices': 0.3,
    **fields,
  }
  return dataset(FRAMES, **fields)


PLAIN = {
  'cone beam': lambda: cone_beam(),
  'cone beam, oblique': lambda: cone_beam(ImageOrientationPatient=OBLIQUE),
  'cone beam, backwards': lambda: cone_beam(SpacingBetweenSlices=-0.3),
  'nuclear': lambda: nuclear(2.5),
  'nuclear, backwards': lambda: nuclear(-2.5),
}


@pytest.mark.parametrize('name', PLAIN)
def test_plain_frames_agree_with_simpleitk(name, tmp_path):
  path = save(PLAIN[name](), tmp_path / 'a.dcm')
  volume = formats.read(path)
  assert agrees(volume, sitk.ReadImage(str(path)))
  assert volume.meta['unit'] == 'mm'
  assert volume.meta['notes'] == ()
  # The same file in a folder.
  np.testing.assert_array_equal(dicom.read(tmp_path).affine, volume.affine)


def test_slice_vector_numbers_the_slices(tmp_path):
  d = nuclear(2.5, SliceVector=[4, 3, 2, 1])
  volume = formats.read(save(d, tmp_path / 'a.dcm'))
  # Frame 1 is slice 4 at the stated place, the others lie below it.
  np.testing.assert_allclose(volume.affine[:3, 3], [10, -20, 22.5])
  np.testing.assert_array_equal(volume.array[0, 0, :, 0], FRAMES[::-1, 0, 0])


def test_a_lie_of_frames_is_found_before_they_are_made(tmp_path, monkeypatch):
  d = cone_beam(NumberOfFrames=2**20)
  path = save(d, tmp_path / 'a.dcm')
  monkeypatch.setattr(single, 'frames_of', None)
  with pytest.raises(ValueError, match=r'truncated: 192 of 50331648 bytes'):
    formats.read(path)


def test_a_missing_step_is_the_thickness_and_said(tmp_path):
  d = cone_beam(SliceThickness=2)
  del d.SpacingBetweenSlices
  volume = formats.read(save(d, tmp_path / 'a.dcm'))
  np.testing.assert_allclose(volume.spacing, [0.75, 0.5, 2])
  assert (
    'frames taken 2 mm apart, the SliceThickness' in volume.meta['notes'][0]
  )


def test_a_missing_position_is_0_and_said(tmp_path):
  d = cone_beam(ImageOrientationPatient=OBLIQUE)
  del d.ImagePositionPatient
  path = save(d, tmp_path / 'a.dcm')
  volume = formats.read(path)
  assert agrees(volume, sitk.ReadImage(str(path)))
  assert volume.meta['notes'] == (
    'ImagePositionPatient is missing: the first frame is put at 0',
  )


def test_groups_without_places_leave_them_to_the_file(tmp_path):
  d = enhanced(pydicom.uid.EnhancedCTImageStorage, '', '')
  d.ImagePositionPatient, d.ImageOrientationPatient = [-10, 20, 30], OBLIQUE
  d.SpacingBetweenSlices = 0.3
  found = formats.read(save(d, tmp_path / 'a.dcm'))
  want = cone_beam(ImageOrientationPatient=OBLIQUE)
  want = formats.read(save(want, tmp_path / 'b.dcm'))
  np.testing.assert_allclose(found.affine, want.affine)
  np.testing.assert_array_equal(found.array, want.array)


def test_frames_that_are_no_slices_have_no_place(tmp_path):
  region = Dataset()
  region.RegionSpatialFormat = 1
  region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
  region.PhysicalDeltaX, region.PhysicalDeltaY = 0.03, 0.02  # cm
  moments = {
    'gated': nuclear(2.5, SliceVector=[1, 1, 2, 2], TimeSlotVector=[1, 2] * 2),
    'cine': cone_beam(FrameTime=33, FrameIncrementPointer=0x00181063),
    'ultrasound': dataset(
      FRAMES, modality='US', SequenceOfUltrasoundRegions=[region], FrameTime=33
    ),
  }
  del moments['ultrasound'].PixelSpacing
  for name, d in moments.items():
    volume = formats.read(save(d, tmp_path / f'{name}.dcm'))
    assert 'the third axis may be time' in volume.meta['notes'][0]
    size = [0.3, 0.2, 1] if name == 'ultrasound' else [0.75, 0.5, 1]
    np.testing.assert_allclose(volume.spacing, size)
    np.testing.assert_array_equal(volume.array[..., 0].T, FRAMES)
  assert 'SequenceOfUltrasoundRegions' in volume.meta['notes'][1]


def test_pixels_that_are_no_squares_are_said(tmp_path):
  for array in (FRAMES, FRAMES[0]):
    d = dataset(array, modality='US', PixelAspectRatio=[3, 2])
    del d.PixelSpacing
    volume = formats.read(save(d, tmp_path / 'a.dcm'))
    assert volume.meta['unit'] == 'pixel'
    assert 'pixels are 3 high and 2 wide' in volume.meta['notes'][-1]


def test_enhanced_ultrasound_has_its_volumes_frame(tmp_path):
  d = enhanced(
    pydicom.uid.EnhancedUSVolumeStorage,
    'ImagePositionVolume',
    'ImageOrientationVolume',
  )
  volume = formats.read(save(d, tmp_path / 'a.dcm'))
  np.testing.assert_allclose(volume.spacing, [0.75, 0.5, 1.5])
  np.testing.assert_array_equal(volume.array[..., 0].T, FRAMES)
  assert 'how it lies in the patient is unknown' in volume.meta['notes'][0]


def test_tomography_without_places_keeps_its_sizes(tmp_path):
  sop = pydicom.uid.OphthalmicTomographyImageStorage
  for name, step in (('SpacingBetweenSlices', 0.25), ('SliceThickness', 0.1)):
    d = enhanced(sop, '', '', **{name: step})
    volume = formats.read(save(d, tmp_path / 'a.dcm'))
    np.testing.assert_allclose(volume.spacing, [0.75, 0.5, step])
    assert f'taken {step} mm apart' in volume.meta['notes'][0]
    # Axes as SimpleITK has them where directions are unknown.
    assert np.sign(np.diag(volume.affine)).tolist() == [-1, -1, 1, 1]


# What makes a series.


@pytest.mark.parametrize('start', [10, 1.25])  # behind it, between its slices
def test_one_uid_of_two_patients_is_two_series(start, tmp_path):
  slices(tmp_path / 'A')
  slices(tmp_path / 'B', start=start, PatientID='B', StudyInstanceUID='1.2.6')
  with pytest.raises(
    ValueError, match=r'holds 2 series .*1\.2\.3#1.*1\.2\.3#2'
  ):
    formats.read(tmp_path)
  with pytest.raises(ValueError, match=r'several of that uid; say 1\.2\.3#1'):
    dicom.read(tmp_path, series='1.2.3')
  both = dicom.read_series(tmp_path)
  assert [v.array.shape[2] for v in both.values()] == [4, 4]
  second = dicom.read(tmp_path, series='1.2.3#2')
  assert second.affine[2, 3] == start


def test_one_uid_of_two_series_of_a_patient(tmp_path):
  slices(tmp_path / 'A')
  slices(tmp_path / 'B', start=1.25, SeriesNumber=8)
  assert len(dicom.list_series(tmp_path)) == 2


def test_frames_of_reference_are_not_mixed(tmp_path):
  folder = slices(tmp_path / 'a', FrameOfReferenceUID=lambda k: f'1.2.{k // 2}')
  with pytest.raises(ValueError, match=r'a: images of 2 frames of reference'):
    formats.read(folder)


def test_slices_with_a_series_each_are_put_together(tmp_path):
  folder = slices(tmp_path / 'a', SeriesInstanceUID=lambda k: f'1.2.3.{k}')
  volume = formats.read(folder)
  assert agrees(
    volume, sitk.ReadImage([str(p) for p in sorted(folder.iterdir())])
  )
  assert volume.meta['notes'] == (
    '4 series of one slice each are taken as one',
  )
  # Scouts, which lie nowhere near each other, are not.
  for number, change in (
    ('b', {'SeriesNumber': lambda k: k}),
    ('c', {'FrameOfReferenceUID': lambda k: f'1.2.{k}'}),
    ('d', {'PatientID': lambda k: f'{k}'}),
  ):
    other = slices(
      tmp_path / number, SeriesInstanceUID=lambda k: f'1.2.3.{k}', **change
    )
    assert len(dicom.list_series(other)) == 4
  (tmp_path / 'a' / '2.dcm').unlink()  # no volume without it
  assert len(dicom.list_series(tmp_path / 'a')) == 3


@pytest.mark.parametrize('kind', ['MOSAIC', 'VFRAME', 'PRIVATE'])
def test_a_mosaic_is_refused(kind, tmp_path):
  d = dataset(FRAMES[0], ImageType=['ORIGINAL', 'PRIMARY', 'M', kind])
  if kind == 'PRIVATE':  # the type does not say it
    d.add_new((0x0019, 0x0010), 'LO', 'SIEMENS MR HEADER')
    d.add_new((0x0019, 0x100A), 'US', 4)
  d.ImageOrientationPatient, d.ImagePositionPatient = AXIAL, [1, 2, 3]
  path = save(d, tmp_path / 'a' / '1.dcm')
  for where in (path, path.parent):
    with pytest.raises(ValueError, match=r'1\.dcm: is a mosaic, whose slices'):
      formats.read(where)


def test_a_medium_with_a_dicomdir_is_read(tmp_path):
  fields = {
    'PatientName': 'x', 'StudyDate': '20200101', 'StudyTime': '120000',
    'StudyID': '1', 'AccessionNumber': '1',
  }  # fmt: skip
  source = slices(tmp_path / 'a', **fields)
  medium = FileSet()
  for path in source.iterdir():
    medium.add(path)
  medium.write(tmp_path / 'cd')
  volume = formats.read(tmp_path / 'cd')
  np.testing.assert_array_equal(volume.array, formats.read(source).array)
  assert not dicom.is_series_folder(tmp_path / 'cd')
  with pytest.raises(ValueError, match='is a DICOMDIR, which only lists'):
    formats.read(tmp_path / 'cd' / 'DICOMDIR')


def test_links_to_folders_are_followed_once(tmp_path):
  slices(tmp_path / 'real')
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'link').symlink_to(tmp_path / 'real')
  (tmp_path / 'real' / 'back').symlink_to(tmp_path / 'in')
  (series,) = dicom.list_series(tmp_path / 'in')
  assert len(series.files) == 4


def test_a_folder_is_an_image_if_any_of_its_files_is(tmp_path):
  folder = slices(tmp_path / 'a')
  report = dataset(FRAMES[0], modality='SR', PatientID='someone else')
  save(report, folder / '00.dcm')
  assert formats.holds_image(folder)
  assert formats.patient_of(folder) == formats.patient_digest('A')
  alone = save(report, tmp_path / 'b' / '1.dcm').parent
  assert not formats.holds_image(alone)
