"""DICOM images: series, multi-frame files, X-rays; against SimpleITK."""

import pathlib
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from medjax.data import formats
from medjax.data.formats import dicom

sys.path.append(str(pathlib.Path(__file__).parent))
from dicom_series import dataset, line, save, series

SERIES = (
  'dicom_sts025/PET/image',
  'dicom_sts025/CT/image',
  'dicom_sts025/MR_T1/image',
  'dicom_breast_dce/image_dce_pe1',
)


def itk(folder):
  reader = sitk.ImageSeriesReader()
  reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
  return reader.Execute()


def geometry_error(volume, image):
  """Largest distance in mm between a voxel's place here and in SimpleITK."""
  n = np.array(image.GetSize()) - 1
  fractions = np.array(np.meshgrid(*[[0, 0.4, 1]] * 3)).reshape(3, -1).T
  worst = 0.0
  for index in np.rint(fractions * n).astype(int):
    theirs = image.TransformIndexToPhysicalPoint([int(i) for i in index])
    ours = (volume.affine @ [*index, 1])[:3] * [-1, -1, 1]
    worst = max(worst, np.linalg.norm(ours - theirs))
  return worst


@pytest.mark.parametrize('name', SERIES)
def test_real_series_agree_with_simpleitk_and_nibabel(
  name, shared_data, tmp_path
):
  top, _, rest = name.partition('/')
  folder = shared_data(top) / rest
  volume, image = formats.read(folder), itk(folder)
  values = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
  assert volume.array.shape == (*image.GetSize(), 1)
  np.testing.assert_allclose(volume.array[..., 0], values, atol=1e-4)
  assert geometry_error(volume, image) < 1e-3
  assert volume.meta['unit'] == 'mm'
  formats.write(tmp_path / 'a.nii.gz', volume.array[..., 0], volume.affine)
  again = nib.load(tmp_path / 'a.nii.gz')
  np.testing.assert_allclose(again.affine, volume.affine, atol=1e-3)
  np.testing.assert_array_equal(again.get_fdata(), volume.array[..., 0])
  back = sitk.ReadImage(str(tmp_path / 'a.nii.gz'))
  assert geometry_error(volume, back) < 1e-3


def test_rescaling_of_each_slice_is_applied_and_said(shared_data):
  pet = formats.read(shared_data('dicom_sts025') / 'PET' / 'image')
  assert pet.modality == 'PT'
  assert pet.array.dtype == np.float32
  assert 'rescaled slice by slice' in pet.meta['notes'][0]


def test_slices_are_sorted_by_position(tmp_path):
  rng = np.random.default_rng(1)
  order = rng.permutation(5)
  volume = formats.read(series(tmp_path / 'a', line(order)))
  means = volume.array.mean((0, 1, 3))
  np.testing.assert_array_equal(means // 100, np.argsort(order))
  assert volume.array.shape == (6, 4, 5, 1)
  np.testing.assert_allclose(volume.spacing, [0.75, 0.5, 2.5])
  np.testing.assert_allclose(volume.affine[:3, 3], [-10, -20, 30])
  assert geometry_error(volume, itk(tmp_path / 'a')) < 1e-3


def test_oblique_series(tmp_path):
  rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
  along, down = rotation[0], rotation[1]
  normal = np.cross(along, down)
  folder = series(
    tmp_path / 'a',
    line(range(4), 1.25 * normal),
    ImageOrientationPatient=[*along, *down],
  )
  volume = formats.read(folder)
  assert geometry_error(volume, itk(folder)) < 1e-3
  assert volume.meta['notes'] == ()


def test_gantry_tilt_is_kept_as_shear_and_said(tmp_path):
  positions = line(range(4), (0, 0.5, 2.0))
  volume = formats.read(series(tmp_path / 'a', positions))
  np.testing.assert_allclose(volume.affine[:3, 2], [0, -0.5, 2])
  assert volume.meta['notes'] == (
    'gantry tilt of 14.0°: the affine is sheared',
  )


def test_rounded_positions_are_said(tmp_path):
  positions = line([0, 1.01, 2, 3])
  volume = formats.read(series(tmp_path / 'a', positions))
  assert 'mm off an even grid' in volume.meta['notes'][0]


def test_whole_slopes_keep_integers(tmp_path):
  folder = series(
    tmp_path / 'a', line(range(3)), RescaleSlope=2, RescaleIntercept=-1024
  )
  volume = formats.read(folder)
  assert volume.array.dtype == np.int16
  np.testing.assert_array_equal(
    volume.array[..., 0], sitk.GetArrayFromImage(itk(folder)).T
  )
  folder = series(tmp_path / 'b', line(range(3)), RescaleSlope=0.5)
  assert formats.read(folder).array.dtype == np.float32


def test_meta_and_errors_never_name_the_patient(tmp_path, capfd):
  folder = series(tmp_path / 'a', line(range(3)), EchoTime=12.5)
  for path in folder.iterdir():
    path.write_bytes(path.read_bytes().replace(b'12.5', b'JANE'))
  volume = formats.read(folder)
  said = repr(volume.meta) + repr(volume.modality)
  series(tmp_path / 'b', line(range(3)), PixelSpacing=None)
  path = save(
    dataset(np.zeros((4, 6), np.int16), RescaleSlope=12.5),
    tmp_path / 'c' / '1.dcm',
  )
  path.write_bytes(path.read_bytes().replace(b'12.5', b'JANE'))
  for bad in (tmp_path / 'b', path):
    with pytest.raises(ValueError, match=r'.') as e:
      formats.read(bad)
    said += str(e.value)
  said += ''.join(capfd.readouterr())
  for secret in ('DOE', 'JANE', '4711', '1950', 'brain', '1.2.3', '1.2.4'):
    assert secret not in said


def test_several_series_are_listed_and_can_be_chosen(tmp_path):
  series(tmp_path / 'a', line(range(3)))
  series(tmp_path / 'b', line(range(2)), SeriesInstanceUID='1.2.9')
  (tmp_path / 'notes.txt').write_text('not an image')
  with pytest.raises(ValueError, match=r'holds 2 series .*1\.2\.3; MR 2 fil'):
    formats.read(tmp_path)
  chosen = dicom.read(tmp_path, series='1.2.9')
  assert chosen.array.shape[2] == 2
  both = dicom.read_series(tmp_path)
  assert {k: v.array.shape[2] for k, v in both.items()} == {
    '1.2.3': 3,
    '1.2.9': 2,
  }
  with pytest.raises(ValueError, match=r'has no series 4'):
    dicom.read(tmp_path, series='4')


def test_real_study_lists_its_series(shared_data):
  found = dicom.list_series(shared_data('dicom_sts025'))
  assert {s.modality: len(s.files) for s in found} == {
    'PT': 47,
    'CT': 47,
    'MR': 25,
  }


def test_copies_of_a_file_count_once(tmp_path):
  folder = series(tmp_path / 'a', line(range(3)))
  (folder / 'copy.dcm').write_bytes((folder / '90.dcm').read_bytes())
  volume = formats.read(folder)
  assert volume.array.shape[2] == 3
  assert volume.meta['notes'] == ('1 copies of files left out',)


# Pictures.


def test_monochrome1_is_turned_with_its_window(tmp_path):
  stored = np.arange(24, dtype=np.uint16).reshape(4, 6)
  d = dataset(
    stored,
    Modality='DX',
    PhotometricInterpretation='MONOCHROME1',
    BitsStored=12,
    HighBit=11,
    WindowCenter=100,
    WindowWidth=200,
    PixelSpacing=None,
    ImagerPixelSpacing=[0.2, 0.1],
    EstimatedRadiographicMagnificationFactor=2,
  )
  path = save(d, tmp_path / 'a.dcm')
  volume = formats.read(path)
  np.testing.assert_array_equal(volume.array[..., 0], 4095 - stored)
  assert volume.meta['window'] == (3895, 4095)
  np.testing.assert_allclose(volume.spacing, [0.1, 0.05])
  assert 'magnification' in volume.meta['spacing_from']
  assert 'MONOCHROME1' in volume.meta['notes'][0]
  shown = dicom.read(path, voi=True).array[..., 0]
  assert shown.dtype == np.float32
  # 12 stored bits through the window 0 to 200, then turned.
  want = 4095 - np.clip((stored - 99.5) / 199 + 0.5, 0, 1) * 4095
  np.testing.assert_allclose(shown, want, atol=0.01)
  # A CT's numbers mean the same however they are to be shown.
  d.Modality = 'CT'
  same = formats.read(save(d, tmp_path / 'b.dcm'))
  np.testing.assert_array_equal(same.array[..., 0], stored)


def test_voi_window_agrees_with_its_definition(tmp_path):
  stored = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
  d = dataset(stored, Modality='CR', WindowCenter=100, WindowWidth=100)
  shown = dicom.read(save(d, tmp_path / 'a.dcm'), voi=True).array[..., 0]
  # PS3.3 C.11.2.1.2.1: linear, to the range of 8 stored bits.
  want = np.clip((stored - 99.5) / 99 + 0.5, 0, 1) * 255
  np.testing.assert_allclose(shown, want, atol=1e-3)


def test_one_slice_is_a_picture_that_knows_its_place(shared_data):
  folder = shared_data('dicom_sts025') / 'CT' / 'image'
  volume = formats.read(folder)
  path = sorted(folder.iterdir())[5]
  one = formats.read(path)
  assert one.array.shape == (138, 149, 1)
  at = np.linalg.inv(volume.affine) @ one.meta['affine'] @ [3, 4, 0, 1]
  np.testing.assert_allclose(at[:2], [4, 3], atol=1e-3)
  k = round(at[2])
  np.testing.assert_array_equal(one.array[..., 0], volume.array[:, :, k, 0].T)


def test_colour(tmp_path):
  rgb = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
  volume = formats.read(save(dataset(rgb), tmp_path / 'a.dcm'))
  np.testing.assert_array_equal(volume.array, rgb)
  if not get_testdata_file('SC_rgb_jpeg_dcmtk.dcm', download=False):
    pytest.skip('pydicom-data is not installed')
  for name in ('SC_ybr_full_uncompressed.dcm', 'SC_rgb_jpeg_dcmtk.dcm'):
    path = get_testdata_file(name, download=False)
    like = formats.read(get_testdata_file('SC_rgb.dcm', download=False))
    ours = formats.read(path).array.astype(int)
    assert np.abs(ours - like.array).max() <= 8  # lossy
  palette = get_testdata_file('OT-PAL-8-face.dcm', download=False)
  if palette:
    assert formats.read(palette).array.shape == (480, 640, 3)


# Multi-frame files.


def enhanced(positions, slopes):
  d = dataset(np.zeros((4, 6), np.uint16))
  frames = np.stack(
    [np.full((4, 6), 100 * k, np.uint16) for k in range(len(positions))]
  )
  d.NumberOfFrames, d.PixelData = len(frames), frames.tobytes()
  del d.PixelSpacing, d.ImageOrientationPatient
  shared, measures, plane = Dataset(), Dataset(), Dataset()
  measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2
  plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
  shared.PixelMeasuresSequence = [measures]
  shared.PlaneOrientationSequence = [plane]
  d.SharedFunctionalGroupsSequence = [shared]
  groups = []
  for position, slope in zip(positions, slopes, strict=True):
    group, at, value = Dataset(), Dataset(), Dataset()
    at.ImagePositionPatient = list(position)
    value.RescaleSlope, value.RescaleIntercept = slope, -1
    group.PlanePositionSequence = [at]
    group.PixelValueTransformationSequence = [value]
    groups.append(group)
  d.PerFrameFunctionalGroupsSequence = groups
  return d


def test_multi_frame_file_is_sorted_and_rescaled_by_frame(tmp_path):
  order = [2, 0, 1]
  d = enhanced(line(order), [1, 2, 0.5])
  volume = formats.read(save(d, tmp_path / 'a.dcm'))
  assert volume.array.shape == (6, 4, 3, 1)
  np.testing.assert_allclose(volume.array[0, 0, :, 0], [199, 99, -1])
  np.testing.assert_allclose(volume.spacing, [0.75, 0.5, 2.5])
  np.testing.assert_allclose(volume.affine[:3, 3], [-10, -20, 30])
  # The same file alone in a folder.
  np.testing.assert_array_equal(dicom.read(tmp_path).array, volume.array)


def test_real_multi_frame_ct_agrees_with_highdicom():
  hd = pytest.importorskip('highdicom')
  path = get_testdata_file('eCT_Supplemental.dcm', download=False)
  if not path:
    pytest.skip('pydicom-data is not installed')
  volume, theirs = formats.read(path), hd.imread(path).get_volume()
  array = np.asarray(theirs.array)
  index = np.array([[0, 3, 5], [1, 500, 7], [0, 9, 300]])
  mm = theirs.affine @ np.c_[index, np.ones(3)].T
  ours = np.linalg.inv(volume.affine) @ np.diag([-1, -1, 1, 1]) @ mm
  where = np.rint(ours[:3]).astype(int)
  np.testing.assert_allclose(ours[:3], where, atol=1e-3)
  np.testing.assert_array_equal(
    volume.array[tuple(where)][:, 0], array[tuple(index.T)]
  )


def test_frames_without_a_place(tmp_path):
  d = enhanced(line(range(3)), [1, 1, 1])
  del d.PerFrameFunctionalGroupsSequence
  volume = formats.read(save(d, tmp_path / 'a.dcm'))
  assert volume.array.shape == (6, 4, 3, 1)
  assert volume.meta['unit'] == 'pixel'
  assert volume.meta['notes'][0].startswith('frames have no place')
