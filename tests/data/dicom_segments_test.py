"""Segments where their frames lie, contours with gaps, classes by name."""

import itertools
import pathlib
import sys

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medjax.data import formats
from medjax.data.formats import dicom
from medjax.data.formats.dicom import rtstruct
from medjax.data.formats.volume import Volume

sys.path.append(str(pathlib.Path(__file__).parent))
from dicom_files import AXIAL, dataset, save, slices

LPS = np.diag([-1.0, -1, 1, 1])


def segmentation(masks, positions, *, iop=AXIAL, spacing=(1, 1), codes=None):
  """A binary SEG: {label: {index into positions: mask (rows, columns)}}."""
  frames, groups = [], []
  for number, (_, planes) in enumerate(masks.items(), start=1):
    for k, mask in planes.items():
      group, at, of = Dataset(), Dataset(), Dataset()
      at.ImagePositionPatient = [float(v) for v in positions[k]]
      of.ReferencedSegmentNumber = number
      group.PlanePositionSequence = [at]
      group.SegmentIdentificationSequence = [of]
      frames.append(mask)
      groups.append(group)
  d = dataset(np.array(frames, np.uint8), sop=pydicom.uid.SegmentationStorage)
  d.Modality, d.SegmentationType = 'SEG', 'BINARY'
  d.BitsAllocated, d.BitsStored, d.HighBit = 1, 1, 0
  bits = np.packbits(np.array(frames, np.uint8).ravel(), bitorder='little')
  d.PixelData = bits.tobytes() + b'\0' * (len(bits) % 2)
  shared, plane, measures = Dataset(), Dataset(), Dataset()
  plane.ImageOrientationPatient = [float(v) for v in iop]
  measures.PixelSpacing, measures.SliceThickness = list(spacing), 3
  shared.PlaneOrientationSequence = [plane]
  shared.PixelMeasuresSequence = [measures]
  d.SharedFunctionalGroupsSequence = [shared]
  d.PerFrameFunctionalGroupsSequence = groups
  d.SegmentSequence = []
  for number, label in enumerate(masks, start=1):
    about, code = Dataset(), Dataset()
    about.SegmentNumber, about.SegmentLabel = number, label
    if codes:
      code.CodeMeaning = codes[number - 1]
      about.SegmentedPropertyTypeCodeSequence = [code]
    d.SegmentSequence.append(about)
  return d


def grid(positions, *, iop=AXIAL, size=(12, 14)):
  """An image whose slices lie at these places, rows and columns at 1 mm."""
  affine = np.eye(4)
  affine[:3, 0], affine[:3, 1] = iop[:3], iop[3:]
  affine[:3, 2] = np.subtract(positions[1], positions[0])
  affine[:3, 3] = positions[0]
  return Volume(np.zeros((size[1], size[0], len(positions), 1)), LPS @ affine)


def tilted(degrees, count=8):
  t = np.radians(degrees)
  iop = [1, 0, 0, 0, np.cos(t), -np.sin(t)]
  return iop, [(0.0, 0.0, 3.0 * k) for k in range(count)]


@pytest.mark.parametrize('degrees', [-25, -5, 8, 20])
@pytest.mark.parametrize('chosen', ['all', 'some', 'every other', 'one'])
def test_frames_of_a_tilted_series_lie_on_their_slices(
  degrees, chosen, tmp_path
):
  iop, positions = tilted(degrees)
  there = {
    'all': range(8), 'some': (1, 2, 5, 7), 'one': (3,),
    'every other': (1, 3, 7),
  }[chosen]  # fmt: skip
  rng = np.random.default_rng(0)
  masks = {k: rng.random((12, 14)) > 0.5 for k in there}
  path = save(
    segmentation({'a': masks}, positions, iop=iop), tmp_path / 's.dcm'
  )
  reference = grid(positions, iop=iop)
  found = formats.read_segmentation(path, reference)['a']
  want = np.zeros((14, 12, 8), bool)
  for k, mask in masks.items():
    want[..., k] = mask.T
  np.testing.assert_array_equal(found, want)


def test_every_frame_has_its_own_place(tmp_path):
  # Slices are even, but the third is two columns aside.
  positions = [(2.0 * (k == 2), 0, 3.0 * k) for k in range(5)]
  mask = np.zeros((12, 14), bool)
  mask[3:6, 4:8] = True
  planes = dict.fromkeys(range(5), mask)
  path = save(segmentation({'a': planes}, positions), tmp_path / 's.dcm')
  straight = [(0, 0, 3.0 * k) for k in range(5)]
  found = formats.read_segmentation(path, grid(straight))['a']
  want = np.zeros((14, 12, 5), bool)
  want[4:8, 3:6] = True
  want[4:8, 3:6, 2], want[6:10, 3:6, 2] = False, True
  np.testing.assert_array_equal(found, want)


def test_one_slice_takes_the_frames_that_lie_in_it(tmp_path):
  folder = slices(tmp_path / 'ct')
  rng = np.random.default_rng(0)
  masks = {k: rng.random((4, 6)) > 0.5 for k in range(4)}
  places = [(-10, 20, 2.5 * k) for k in range(4)]
  seg = segmentation({'a': masks}, places, spacing=(0.5, 0.75))
  path = save(seg, tmp_path / 'seg.dcm')
  for k in range(4):
    picture = formats.read(folder / f'{k}.dcm')
    assert picture.array.shape == (4, 6, 1)
    found = formats.read_segmentation(path, picture)['a']
    np.testing.assert_array_equal(found, masks[k])
  # Of an X-ray, which has no place, there can be but one.
  picture.meta.pop('affine')
  with pytest.raises(ValueError, match=r'has 4 frames of one segment, which'):
    formats.read_segmentation(path, picture)
  square = [(-9, 20.4), (-7, 20.4), (-7, 21.2), (-9, 21.2)]
  rt = structures(tmp_path / 'rs.dcm', {'b': [[(*p, 2.5) for p in square]]})
  picture = formats.read(folder / '1.dcm')
  found = formats.read_segmentation(rt, picture)['b']
  whole = formats.read_segmentation(rt, formats.read(folder))['b']
  assert found.any()
  np.testing.assert_array_equal(found, whole[:, :, 1].T)


# RT structure sets.


def square(z, low=1.5, high=4.5):
  x, y = [low, high, high, low], [low, low, high, high]
  return np.c_[x, y, [z] * 4]


def structures(path, contours, codes=None):
  """An RTSTRUCT of {name: contours (points, 3) in mm LPS}."""
  d = dataset(np.zeros((2, 2), np.uint8), modality='RTSTRUCT')
  d.StructureSetROISequence, d.ROIContourSequence = [], []
  d.RTROIObservationsSequence = []
  for number, (name, polygons) in enumerate(contours.items(), start=1):
    roi, drawn, seen, code = (Dataset() for _ in range(4))
    roi.ROINumber, roi.ROIName = number, name
    drawn.ReferencedROINumber, drawn.ContourSequence = number, []
    for points in polygons:
      contour = Dataset()
      contour.ContourGeometricType = 'CLOSED_PLANAR'
      contour.ContourData = [float(v) for v in np.ravel(points)]
      drawn.ContourSequence.append(contour)
    seen.ReferencedROINumber = number
    if codes:
      code.CodeMeaning = codes[number - 1]
      seen.RTROIIdentificationCodeSequence = [code]
    d.StructureSetROISequence.append(roi)
    d.ROIContourSequence.append(drawn)
    d.RTROIObservationsSequence.append(seen)
  return save(d, path)


ALONG = [(0, 0, float(k)) for k in range(16)]
# Planes with contours: the slices that are one body.
GAPS = {
  (1, 3, 5, 7, 9): range(1, 10),
  (1, 3, 5, 7, 8, 10): range(1, 11),
  (1, 2, 3, 5, 6): range(1, 7),  # one is missing
  (1, 2, 3, 4, 7, 10, 13): range(1, 14),  # coarser above
  (1, 2, 3, 9, 10): (1, 2, 3, 9, 10),  # two bodies
  (1, 9): (1, 9),
  (4,): (4,),
  (4.4,): (4,),
}


@pytest.mark.parametrize('planes', GAPS)
def test_gaps_between_contours(planes, tmp_path):
  path = structures(tmp_path / 'rs.dcm', {'a': [square(z) for z in planes]})
  found = formats.read_segmentation(path, grid(ALONG))
  filled = np.flatnonzero(found['a'].any((0, 1)))
  np.testing.assert_array_equal(filled, list(GAPS[planes]))
  gaps = set(np.diff(filled)) - {1}
  assert ('left empty' in ' '.join(found.notes)) == bool(gaps)
  assert ('take the nearer' in ' '.join(found.notes)) == (
    len(filled) > len(planes)
  )


def test_contours_of_a_coarser_image_fill_its_slices():
  # Slices of 3 mm between -1 and 11 mm on a grid of 1 mm that is shifted.
  planes = [square(z) for z in (0.5, 3.5, 6.5, 9.5)]
  mask = rtstruct.fill(planes, (6, 6, 16), '', least=3.0)
  np.testing.assert_array_equal(np.flatnonzero(mask.any((0, 1))), range(12))


# Names.

PLANE = {
  'liver': (slice(1, 9), slice(1, 5)),
  'tumour': (slice(2, 4), slice(7, 9)),
}


def named(tmp_path, kind, labels, codes=None):
  """A file of structures with these labels; those called liver are larger."""
  positions = [(0, 0, 3.0 * k) for k in range(4)]
  path = tmp_path / f'{"_".join(labels)}.dcm'
  shapes = codes or labels
  where = [PLANE['liver' if 'iver' in s else 'tumour'] for s in shapes]
  if kind == 'SEG':
    masks = {}
    for label, place in zip(labels, where, strict=True):
      plane = np.zeros((12, 14), bool)
      plane[place] = True
      masks[label] = {1: plane}
    return save(segmentation(masks, positions, codes=codes), path), positions
  contours = {}
  for label, (rows, columns) in zip(labels, where, strict=True):
    x = np.array([columns.start, columns.stop]) - 0.5
    y = np.array([rows.start, rows.stop]) - 0.5
    points = [
      (x[0], y[0], 3),
      (x[1], y[0], 3),
      (x[1], y[1], 3),
      (x[0], y[1], 3),
    ]
    contours[label] = [np.array(points, float)]
  return structures(path, contours, codes), positions


CLASSES = ('background', 'liver', 'tumour')


@pytest.mark.parametrize('kind', ['SEG', 'RTSTRUCT'])
def test_structures_go_by_name_in_any_order(kind, tmp_path):
  for labels in itertools.permutations(['liver', 'tumour']):
    path, positions = named(tmp_path, kind, labels)
    found = dicom.read_labels(path, grid(positions), class_names=CLASSES)
    assert np.bincount(found.array.ravel())[1:].tolist() == [32, 4]
    assert found.meta['segments'] == {1: 'liver', 2: 'tumour'}
    assert found.meta['notes'] == ()
    assert dicom.segment_names(path) == list(labels)
    as_is = dicom.read_labels(path, grid(positions))
    assert as_is.meta['segments'] == dict(enumerate(labels, start=1))
  path, positions = named(tmp_path, kind, ['tumour'])
  found = dicom.read_labels(path, grid(positions), class_names=CLASSES)
  assert np.bincount(found.array.ravel())[1:].tolist() == [0, 4]
  assert found.meta['segments'] == {2: 'tumour'}
  assert found.meta['notes'] == ('no structure is called liver',)


@pytest.mark.parametrize('kind', ['SEG', 'RTSTRUCT'])
def test_coded_meanings_go_first(kind, tmp_path):
  path, positions = named(
    tmp_path, kind, ['Segment 1', 'Segment 2'], ['Tumour', 'Liver']
  )
  found = dicom.read_labels(path, grid(positions), class_names=CLASSES)
  assert np.bincount(found.array.ravel())[1:].tolist() == [32, 4]
  # Codes that all share say nothing.
  path, positions = named(tmp_path, kind, ['Liver', 'tumour'])
  d = pydicom.dcmread(path)
  for s in d.get('SegmentSequence', d.get('RTROIObservationsSequence')):
    code = Dataset()
    code.CodeMeaning = 'Liver'
    s.SegmentedPropertyTypeCodeSequence = [code]
    s.RTROIIdentificationCodeSequence = [code]
  found = dicom.read_labels(save(d, path), grid(positions), class_names=CLASSES)
  assert np.bincount(found.array.ravel())[1:].tolist() == [32, 4]


def test_names_of_several_files_are_one_set(tmp_path):
  files = [
    named(tmp_path / str(k), kind, labels, codes)[0]
    for k, (kind, labels, codes) in enumerate([
      ('SEG', ['liver', 'big_tumour'], None),
      ('RTSTRUCT', ['Tumour'], None),
      ('SEG', ['Segment 1', 'Segment_2'], ['Liver', 'Big Tumour']),
    ])
  ]  # fmt: skip
  names = dicom.class_names_of(files)
  assert names == ('background', 'Big Tumour', 'Liver', 'Tumour')
  reference = grid([(0, 0, 3.0 * k) for k in range(4)])
  found = [dicom.read_labels(f, reference, class_names=names) for f in files]
  counts = [np.bincount(f.array.ravel(), minlength=4)[1:] for f in found]
  np.testing.assert_array_equal(counts, [[4, 32, 0], [0, 0, 4], [4, 32, 0]])


def test_structures_without_a_name_are_a_class(tmp_path):
  path, positions = named(tmp_path, 'RTSTRUCT', ['liver', 'tumour'])
  d = pydicom.dcmread(path)
  d.StructureSetROISequence[1].ROIName = ''
  names = dicom.class_names_of([save(d, path)])
  assert names == ('background', 'liver', 'structure')
  found = dicom.read_labels(path, grid(positions), class_names=names)
  assert np.bincount(found.array.ravel())[1:].tolist() == [32, 4]


def test_names_that_are_no_class_are_said(tmp_path):
  path, positions = named(tmp_path, 'SEG', ['my liver', 'Tumour_'])
  numbered, _ = named(tmp_path, 'SEG', ['liver 2', 'tumour'])
  found = dicom.read_labels(numbered, grid(positions), class_names=CLASSES)
  assert found.meta['notes'][0].endswith('left out: liver 2')
  reference = grid(positions)
  found = dicom.read_labels(path, reference, class_names=CLASSES)
  assert np.bincount(found.array.ravel())[1:].tolist() == [0, 4]
  assert found.meta['notes'] == (
    'structures of no class are left out: my liver',
    'no structure is called liver',
  )
  with pytest.raises(
    ValueError, match=r'none of its structures \(my liver, Tu'
  ):
    dicom.read_labels(path, reference, class_names=('background', 'kidney'))


def test_structures_of_one_class_are_joined_and_others_not_mixed(tmp_path):
  path, positions = named(tmp_path, 'RTSTRUCT', ['liver', 'tumour'])
  d = pydicom.dcmread(path)
  d.StructureSetROISequence[1].ROIName = 'liver'
  path, reference = save(d, path), grid(positions)
  found = dicom.read_labels(path, reference, class_names=CLASSES)
  assert np.bincount(found.array.ravel())[1:].tolist() == [36]
  assert "2 structures are joined as 'liver'" in found.meta['notes']
  both = segmentation(
    {n: {1: np.ones((12, 14), bool)} for n in ('liver', 'tumour')}, positions
  )
  path = save(both, tmp_path / 'both.dcm')
  with pytest.raises(ValueError, match=r"'liver' and 'tumour' overlap"):
    dicom.read_labels(path, reference, class_names=CLASSES)


def test_a_series_and_its_seg_need_no_more_than_a_name(tmp_path):
  folder = slices(tmp_path / 'ct')
  volume = formats.read(folder)
  mask = np.zeros((4, 6), bool)
  mask[1, 2:4] = True
  d = segmentation(
    {'a': {1: mask}}, [(-10, 20, 2.5 * k) for k in range(4)],
    spacing=(0.5, 0.75),
  )  # fmt: skip
  path = save(d, tmp_path / 's' / 'seg.dcm')
  found = dicom.read_labels(path.parent, volume)
  np.testing.assert_array_equal(
    np.argwhere(found.array), [[2, 1, 1], [3, 1, 1]]
  )
