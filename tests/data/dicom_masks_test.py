"""DICOM SEG and RTSTRUCT on image grids, against other implementations."""

import dataclasses
import pathlib
import shutil
import sys

import matplotlib.path
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from medjax.data import formats
from medjax.data.formats import dicom
from medjax.data.formats.dicom import rtstruct
from medjax.data.formats.volume import Volume

LPS = np.diag([-1.0, -1, 1, 1])


@pytest.fixture(scope='module')
def breast(shared_data):
  return formats.read(shared_data('dicom_breast_dce') / 'image_dce_pe1')


@pytest.fixture
def small_ct(tmp_path):
  """The three neighbouring slices on which the small CT SEGs were drawn."""
  home = pathlib.Path(get_testdata_file('CT_small.dcm', download=False)).parent
  folder = home / 'dicomdirtests' / '77654033' / 'CT2'
  chosen = tmp_path / 'ct'
  chosen.mkdir()
  for file in folder.iterdir():
    if pydicom.dcmread(file).ImagePositionPatient[2] > 100:
      shutil.copy(file, chosen)
  return chosen


def test_seg_lies_on_the_slices_it_states(breast, shared_data):
  path = shared_data('dicom_breast_dce') / 'mask' / '1-1.dcm'
  masks = formats.read_segmentation(path, breast)
  assert list(masks) == ['Breast']
  seg = pydicom.dcmread(path)
  back = np.linalg.inv(LPS @ breast.affine)
  want = np.zeros(breast.array.shape[:3], bool)
  for frame, groups in zip(
    seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True
  ):
    place = groups.PlanePositionSequence[0].ImagePositionPatient
    at = (back @ [*place, 1])[:3]
    np.testing.assert_allclose(at, np.rint(at), atol=1e-3)
    want[..., round(at[2])] = frame.T >= 127.5
  assert want.sum() == 82527
  np.testing.assert_array_equal(masks['Breast'], want)


def test_seg_follows_a_flipped_reference(breast, shared_data):
  path = shared_data('dicom_breast_dce') / 'mask'  # the folder of one file
  want = formats.read_segmentation(path, breast)['Breast']
  flip = np.diag([-1.0, 1, -1, 1])
  flip[0, 3], flip[2, 3] = np.array(want.shape)[[0, 2]] - 1
  turned = dataclasses.replace(
    breast,
    array=breast.array[::-1, :, ::-1].transpose(2, 0, 1, 3),
    affine=(breast.affine @ flip)[:, [2, 0, 1, 3]],
  )
  got = formats.read_segmentation(path, turned)['Breast']
  np.testing.assert_array_equal(got, want[::-1, :, ::-1].transpose(2, 0, 1))


def test_seg_on_a_finer_grid_keeps_its_volume(breast, shared_data):
  path = shared_data('dicom_breast_dce') / 'mask'
  want = formats.read_segmentation(path, breast)['Breast'][..., ::1]
  scale = np.diag([2.0, 2.0, 0.5, 1])
  shape = (128, 128, 120, 1)
  other = Volume(np.zeros(shape), breast.affine @ scale, '', {})
  got = formats.read_segmentation(path, other)['Breast']
  ratio = got.sum() * abs(np.linalg.det(scale)) / want.sum()
  assert ratio == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
  'name', ['binary', 'binary_fractional', 'binary_overlap', 'true_fractional']
)
def test_seg_agrees_with_highdicom(name, small_ct, shared_data):
  hd = pytest.importorskip('highdicom')
  volume = formats.read(small_ct)
  assert volume.array.shape == (16, 16, 3, 1)
  path = shared_data('dicom_highdicom') / f'seg_image_ct_{name}.dcm'
  masks = formats.read_segmentation(path, volume)
  source = hd.get_volume_from_series(
    [pydicom.dcmread(p) for p in small_ct.iterdir()]
  )
  theirs = hd.seg.segread(path).get_volume(combine_segments=False)
  theirs = theirs.match_geometry(source)
  array = np.asarray(theirs.array)
  assert array.shape[-1] == len(masks)
  for k, mask in enumerate(masks.values()):
    index = np.argwhere(array[..., k] >= 0.5)
    mm = theirs.affine @ np.c_[index, np.ones(len(index))].T
    ours = (np.linalg.inv(volume.affine) @ LPS @ mm)[:3]
    want = np.zeros(mask.shape, bool)
    at = np.rint(ours).astype(int)
    at = at[:, (at[2] >= 0) & (at[2] < 3)]  # one frame lies 200 mm away
    want[tuple(at)] = True
    assert want.any()
    np.testing.assert_array_equal(mask, want)
  if name == 'binary_overlap':
    with pytest.raises(ValueError, match=r'overlap; keep them apart'):
      formats.label_map(masks)


def test_seg_of_one_slice_of_a_ct(shared_data):
  home = shared_data('dicom_highdicom')
  picture = formats.read(home / 'ct_image.dcm')
  path = home / 'seg_image_ct_binary_single_frame.dcm'
  (mask,) = formats.read_segmentation(path, picture).values()
  np.testing.assert_array_equal(
    mask, pydicom.dcmread(path).pixel_array.astype(bool)
  )


def test_label_map_seg(small_ct, tmp_path):
  """LABELMAP objects, whose pixels are segment numbers, written by others."""
  hd = pytest.importorskip('highdicom')
  volume = formats.read(small_ct)
  sources = [pydicom.dcmread(p) for p in small_ct.iterdir()]
  sources.sort(key=lambda d: d.ImagePositionPatient[2])
  labels = np.zeros((3, 16, 16), np.uint8)
  labels[0, 2:5, 3:9], labels[2, 7:9, 1:4] = 1, 2
  code = hd.sr.CodedConcept('85756007', 'SCT', 'Tissue')
  about = [
    hd.seg.SegmentDescription(
      segment_number=n,
      segment_label=f'part {n}',
      segmented_property_category=code,
      segmented_property_type=code,
      algorithm_type='MANUAL',
    )
    for n in (1, 2)
  ]
  seg = hd.seg.Segmentation(
    source_images=sources,
    pixel_array=labels,
    segmentation_type='LABELMAP',
    segment_descriptions=about,
    series_instance_uid=hd.UID(),
    series_number=2,
    sop_instance_uid=hd.UID(),
    instance_number=1,
    manufacturer='m',
    manufacturer_model_name='m',
    software_versions='1',
    device_serial_number='1',
  )
  seg.save_as(tmp_path / 'seg.dcm')
  masks = formats.read_segmentation(tmp_path / 'seg.dcm', volume)
  got, names = formats.label_map(masks)
  assert names == ('background', 'part 1', 'part 2')
  np.testing.assert_array_equal(got, labels.T)


# Series, multi-frame file, picture.
SOURCES = {
  'breast': lambda home: home('dicom_breast_dce') / 'image_dce_pe1',
  'enhanced': lambda _: get_testdata_file(
    'eCT_Supplemental.dcm', download=False
  ),
  'x-ray': lambda home: home('dicom_highdicom') / 'dx_image.dcm',
  'slice': lambda home: home('dicom_highdicom') / 'ct_image.dcm',
}


@pytest.mark.parametrize('name', SOURCES)
def test_written_seg_reads_back(name, shared_data, tmp_path):
  hd = pytest.importorskip('highdicom')
  source = pathlib.Path(SOURCES[name](shared_data))
  volume = formats.read(source)
  labels = np.zeros(volume.array.shape[:-1], np.uint8)
  rng = np.random.default_rng(0)
  labels[tuple(slice(n // 4, n // 2) for n in labels.shape)] = 1
  labels[tuple(rng.integers(0, n, 50) for n in labels.shape)] = 3
  names = ('background', 'liver', 'spleen', 'tumour')  # there is no spleen
  path = tmp_path / 'out' / 'seg.dcm'
  formats.write_segmentation(path, labels, source, class_names=names)
  assert [p.name for p in path.parent.iterdir()] == ['seg.dcm']
  masks = formats.read_segmentation(path, volume)
  assert tuple(masks) == names[1:]
  np.testing.assert_array_equal(formats.label_map(masks)[0], labels)
  # As others see it: whose it is, what it refers to, what it holds.
  seg = hd.seg.segread(path)
  first = next(source.iterdir()) if source.is_dir() else source
  image = pydicom.dcmread(first)
  for keyword in ('PatientID', 'StudyInstanceUID', 'FrameOfReferenceUID'):
    assert seg.get(keyword) == image.get(keyword)
  uids = {uid for _, _, uid in seg.get_source_image_uids()}
  assert image.SOPInstanceUID in uids
  if source.is_dir():
    pixels = seg.get_pixels_by_source_instance(
      [image.SOPInstanceUID],
      combine_segments=True,
      assert_missing_frames_are_empty=True,
    )
    place = pydicom.dcmread(first).ImagePositionPatient
    k = np.linalg.inv(LPS @ volume.affine) @ [*place, 1]
    np.testing.assert_array_equal(pixels[0].T, labels[..., round(k[2])])


def test_empty_and_bad_label_maps(breast, shared_data, tmp_path, monkeypatch):
  pytest.importorskip('highdicom')
  source = shared_data('dicom_breast_dce') / 'image_dce_pe1'
  path = tmp_path / 'seg.dcm'

  def write(labels, names=('background', 'a'), to=path):
    formats.write_segmentation(to, labels, source, class_names=names)

  nothing = np.zeros(breast.array.shape[:-1], np.uint8)
  write(nothing)
  (mask,) = formats.read_segmentation(path, breast).values()
  assert not mask.any()
  path.unlink()
  with pytest.raises(ValueError, match=r'labels go to 5, but there are 2'):
    write(nothing + 5)
  with pytest.raises(ValueError, match=r'has 60 frames of .*, the labels 59'):
    write(nothing[..., 1:])
  with pytest.raises(ValueError, match=r'a DICOM SEG is called \.dcm'):
    write(nothing, to=tmp_path / 'a.nii')
  monkeypatch.setitem(sys.modules, 'highdicom', None)
  with pytest.raises(ValueError, match=r'seg\.dcm: .* pip install medjax\['):
    write(nothing)
  assert not list(tmp_path.iterdir())


def test_rtstruct_fills_its_polygons(shared_data):
  home = shared_data('dicom_sts025')
  for modality in ('CT', 'PET', 'MR_T1'):
    volume = formats.read(home / modality / 'image')
    path = home / modality / 'mask' / 'RS.dcm'
    masks = formats.read_segmentation(path, volume)
    assert list(masks) == [f'GTV_Mass_{modality}']
    (mask,) = masks.values()
    area = 0.0
    back = np.linalg.inv(LPS @ volume.affine)
    oracle = np.zeros(mask.shape, bool)
    grid = np.argwhere(np.ones(mask.shape[:2]))
    contours = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    for contour in contours:
      mm = np.array(contour.ContourData, float).reshape(-1, 3)
      x, y = mm[:, 0], mm[:, 1]
      area += abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
      at = (back @ np.c_[mm, np.ones(len(mm))].T)[:3].T
      inside = matplotlib.path.Path(at[:, :2]).contains_points(grid)
      oracle[..., round(at[:, 2].mean())] |= inside.reshape(mask.shape[:2])
    # Centres that lie on an edge may be counted either way.
    assert (mask != oracle).sum() <= 0.002 * oracle.sum()
    ml = mask.sum() * volume.spacing.prod() / 1000
    assert ml == pytest.approx(area * volume.spacing[2] / 1000, rel=0.01)


def test_rtstruct_moves_to_another_image(shared_data):
  home = shared_data('dicom_sts025')
  ct = formats.read(home / 'CT' / 'image')
  own = formats.read_segmentation(home / 'CT' / 'mask', ct)
  pet = formats.read_segmentation(home / 'PET' / 'mask', ct)
  (own,), (pet,) = own.values(), pet.values()
  assert 2 * (own & pet).sum() / (own.sum() + pet.sum()) > 0.95
  coarse = formats.read(home / 'PET' / 'image')
  (other,) = formats.read_segmentation(home / 'CT' / 'mask', coarse).values()
  ratio = other.sum() * coarse.spacing.prod() / own.sum() / ct.spacing.prod()
  assert ratio == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize('first', [True, False])
def test_structures_of_another_frame_are_left_out(shared_data, tmp_path, first):
  """A structure set may be of the CT and of a PET that is not registered."""
  home = shared_data('dicom_sts025')
  ct = formats.read(home / 'CT' / 'image')
  rs = pydicom.dcmread(home / 'CT' / 'mask' / 'RS.dcm')
  frame = rs.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
  rs.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = frame
  (want,) = formats.read_segmentation(home / 'CT' / 'mask', ct).values()
  item, roi, drawn = Dataset(), Dataset(), Dataset()
  item.FrameOfReferenceUID = roi.ReferencedFrameOfReferenceUID = '1.2.9'
  roi.ROINumber, roi.ROIName, drawn.ReferencedROINumber = 2, 'on the PET', 2
  drawn.ContourSequence = rs.ROIContourSequence[0].ContourSequence
  rs.ReferencedFrameOfReferenceSequence.insert(0 if first else 1, item)
  rs.StructureSetROISequence.append(roi)
  rs.ROIContourSequence.append(drawn)
  rs.save_as(tmp_path / 'rs.dcm')
  masks = formats.read_segmentation(tmp_path / 'rs.dcm', ct)
  assert list(masks) == ['GTV_Mass_CT']
  np.testing.assert_array_equal(masks['GTV_Mass_CT'], want)
  said = 'structures of another frame are left out: on the PET'
  assert said in masks.notes
  rs.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = '1.2.9'
  rs.save_as(tmp_path / 'rs.dcm')
  with pytest.raises(ValueError, match=r'rs\.dcm: all structures lie in anoth'):
    formats.read_segmentation(tmp_path / 'rs.dcm', ct)


def square(low, high, z):
  return np.array(
    [[low, low, z], [high, low, z], [high, high, z], [low, high, z]], float
  )


def test_inner_contours_cut_holes():
  mask = rtstruct.fill(
    [square(0.5, 8.5, 2), square(2.5, 5.5, 2)], (10, 10, 4), ''
  )
  assert mask.sum() == mask[..., 2].sum() == 64 - 9
  assert not mask[4, 4, 2]


def test_gaps_between_contours_are_filled_by_those_beside_them():
  polygons = [square(0.5, 3.5, z) for z in (1, 3, 5)]
  mask = rtstruct.fill(polygons, (5, 5, 8), '')
  np.testing.assert_array_equal(
    np.flatnonzero(mask.any((0, 1))), [1, 2, 3, 4, 5]
  )
  apart = rtstruct.fill([square(0.5, 3.5, z) for z in (1, 2, 6)], (5, 5, 8), '')
  np.testing.assert_array_equal(np.flatnonzero(apart.any((0, 1))), [1, 2, 6])


def test_contours_across_the_slices_are_refused():
  slanted = square(0, 6, 2)
  slanted[:, 2] = [0, 3, 6, 3]
  with pytest.raises(ValueError, match=r'here: contours are not parallel'):
    rtstruct.fill([slanted], (8, 8, 8), 'here')


def test_bad_references(breast, shared_data, tmp_path):
  home = shared_data('dicom_sts025')
  rs = home / 'CT' / 'mask' / 'RS.dcm'
  ct = formats.read(home / 'CT' / 'image')
  with pytest.raises(ValueError, match=r'RS\.dcm: lies in another frame of'):
    formats.read_segmentation(rs, breast)
  away = ct.affine.copy()
  away[:3, 3] += 5000
  with pytest.raises(ValueError, match=r'no contour lies in the reference'):
    formats.read_segmentation(rs, Volume(ct.array, away))
  seg = shared_data('dicom_breast_dce') / 'mask' / '1-1.dcm'
  with pytest.raises(ValueError, match=r'1-1\.dcm: no voxel of it lies in'):
    formats.read_segmentation(seg, Volume(ct.array, away))
  with pytest.raises(ValueError, match=r'is no DICOM SEG or RTSTRUCT'):
    formats.read_segmentation(next((home / 'CT' / 'image').iterdir()), ct)
  with pytest.raises(ValueError, match=r'use|read it with read_segmentation'):
    formats.read(seg)
  short = pydicom.dcmread(rs)
  contour = short.ROIContourSequence[0].ContourSequence[3]
  contour.ContourData = list(contour.ContourData)[:-1]
  short.save_as(tmp_path / 'short.dcm')
  with pytest.raises(ValueError, match=r'short\.dcm: a contour has \d+ coord'):
    formats.read_segmentation(tmp_path / 'short.dcm', ct)


def test_same_names_are_told_apart(shared_data, tmp_path):
  home = shared_data('dicom_sts025')
  ct = formats.read(home / 'CT' / 'image')
  rs = pydicom.dcmread(home / 'CT' / 'mask' / 'RS.dcm')
  other = Dataset()
  other.ROINumber, other.ROIName = 2, 'GTV_Mass_CT'
  rs.StructureSetROISequence.append(other)
  rs.save_as(tmp_path / 'rs.dcm')
  masks = formats.read_segmentation(tmp_path / 'rs.dcm', ct)
  assert {k: m.any() for k, m in masks.items()} == {
    'GTV_Mass_CT 1': True,
    'GTV_Mass_CT 2': False,
  }
  labels, names = formats.label_map(masks)
  assert names == ('background', 'GTV_Mass_CT 1', 'GTV_Mass_CT 2')
  assert set(np.unique(labels)) == {0, 1}
  assert dicom.is_segmentation(tmp_path / 'rs.dcm')
