"""Faces: what lies before the brain goes, the brain stays, however it lies."""

import itertools
import pathlib

import numpy as np
import pydicom
import pytest
from privacy import made
from scipy import ndimage

from medjax.privacy import faces, survey
from medjax.privacy.objects import RefusedError

_STEP = 3  # mm


@pytest.fixture(scope='module')
def head():
  """(volume, brain, face, affine): the average brain in a made head.

  A dark skull, bright skin, a face and a neck: nilearn's template has none.
  """
  datasets = pytest.importorskip('nilearn.datasets')
  import nibabel as nib

  folder = pathlib.Path(datasets.__file__).parent / 'data'
  images = [
    nib.load(folder / f'mni_icbm152_{k}_tal_nlin_sym_09a_converted.nii.gz')
    for k in ('t1', 'gm', 'wm')
  ]
  t1, gm, wm = (
    np.asarray(i.dataobj, np.float32)[::_STEP, ::_STEP, ::_STEP] for i in images
  )
  pad = ((8, 8), (8, 16), (16, 8))
  volume = np.pad(t1, pad)
  brain = ndimage.binary_fill_holes(np.pad(gm + wm > 128, pad))
  away = ndimage.distance_transform_edt(~brain) * _STEP
  volume[(away > 6) & (away <= 9)] = 5
  volume[(away > 9) & (away <= 16)] = 200
  i, j, k = np.indices(volume.shape) * float(_STEP)
  x, y, z = np.argwhere(brain).mean(0) * _STEP
  face = ((i - x) / 56) ** 2 + ((j - y - 76) / 52) ** 2
  face = (face + ((k - z + 68) / 68) ** 2 < 1) & (away > 16)
  neck = ((i - x) / 48) ** 2 + ((j - y + 12) / 48) ** 2 < 1
  volume[face | (neck & (k < z - 50) & (away > 16))] = 120
  volume += np.random.default_rng(0).normal(0, 3, volume.shape)
  affine = images[0].affine @ np.diag([_STEP] * 3 + [1])
  affine[:3, 3] = (affine @ [-8, -8, -16, 1])[:3]
  return volume, brain, face, affine


def turned(array, affine, order, flips):
  """A volume with its axes in another order, some of them backwards."""
  array, affine = array.transpose(order), affine[:, [*order, 3]].copy()
  for axis in np.flatnonzero(flips):
    array = np.flip(array, axis)
    affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
    affine[:3, axis] *= -1
  return array, affine


_ORDERS = list(itertools.permutations(range(3)))
_WAYS = [
  pytest.param(
    (_ORDERS[n % 6], [n & 1, n >> 1 & 1, n >> 2]),
    marks=[pytest.mark.slow] if n % 4 != 1 else [],
  )
  for n in range(8)
]


@pytest.mark.parametrize('way', _WAYS, ids=str)
def test_no_brain_changes_and_the_face_goes(head, way):
  volume, brain, face, affine = head
  array, placed = turned(volume, affine, *way)
  changed = faces.without_face(array, placed) != array
  brain, face = (turned(m, affine, *way)[0] for m in (brain, face))
  assert not (changed & brain).any()
  assert (changed & face).sum() >= 0.95 * face.sum()


def test_no_head_is_refused():
  noise = np.random.default_rng(0).normal(size=(60, 60, 60))
  with pytest.raises(RefusedError, match='brain was not found'):
    faces.without_face(noise, np.diag([4, 4, 4, 1]))


def test_a_series_of_files_loses_its_face(head, tmp_path, clean):
  volume, _, face, affine = head
  volume = volume.clip(0, 4095).astype(np.uint16)
  source = tmp_path / 'in'
  source.mkdir()
  for k in range(volume.shape[2]):
    ds = made.picture(volume[:, :, k].T, kind='1.2.840.10008.5.1.4.1.1.4')
    ds.Modality, ds.BodyPartExamined = 'MR', 'HEAD'
    ds.SOPInstanceUID, ds.SliceThickness = f'1.2.3.4.{k}', '2'
    place = affine @ [0, 0, k, 1] * [-1, -1, 1, 1]
    ds.ImagePositionPatient = [f'{v:.4f}' for v in place[:3]]
    along, down = affine[:3, 0] * [-1, -1, 1], affine[:3, 1] * [-1, -1, 1]
    ds.ImageOrientationPatient = [
      f'{v:.4f}' for v in (*along / _STEP, *down / _STEP)
    ]
    ds.PixelSpacing = [_STEP, _STEP]
    ds.save_as(source / f'{k}.dcm', enforce_file_format=True)
  done, new = clean(source, faces='remove')
  assert done.faced == len(new) == volume.shape[2]
  new.sort(key=lambda d: float(d.ImagePositionPatient[2]))
  array = np.stack([d.pixel_array.T for d in new], -1)
  changed = array != volume
  assert (changed & face).sum() >= 0.95 * face.sum()
  assert all(d.RecognizableVisualFeatures == 'NO' for d in new)
  codes = {c.CodeValue for c in new[0].DeidentificationMethodCodeSequence}
  assert '113102' in codes


def test_a_ct_is_not_promised_anything(tmp_path, clean):
  ds = pydicom.dcmread(made.TEST_FILES / 'CT_small.dcm')
  ds.BodyPartExamined, ds.SliceThickness = 'HEAD', '1'
  done, written = clean(ds, faces='remove')
  assert written == []
  assert 'MR alone' in done.refused[0][1]


@pytest.mark.parametrize(
  ('part', 'told', 'head'),
  [
    ('', 'SAG T1 SPACE 3D FLAIR', True), ('', '', True),
    ('', 'IRM cérébrale', True), ('', 'IRM ce\u0301re\u0301brale', True),
    ('CRANE', '', True), ('', 'IRM CRANE', True), ('CRANEO', '', True),
    ('', 'MRT SCHAEDEL', True), ('', 'Schädel', True), ('IAC', '', True),
    ('WHOLEBODY', 'CT thorax', True), ('', 'PET WB thigh', True),
    ('TEMPORAL BONE', '', True), ('PITUITARY', '', True), ('EAR', '', True),
    ('HEAD NECK', 'chest', True), ('', '头颅', True), ('UNKNOWN', '', True),
    ('CHEST', '', False), ('HEART', 'linear', False), ('', 'Lung 1.25', False),
    ('CHESTABDPELVIS', '', False), ('BREAST', 'iliac, cardiac', False),
    ('', 'Lésion du genou', False), ('', 'MRT Abteilung', True),
    ('', 'hippocampus', True), ('HIP', '', False),
  ],
)  # fmt: skip
def test_a_thin_series_is_of_a_head_unless_it_names_another_part(
  part, told, head
):
  ds = pydicom.Dataset()
  ds.Modality, ds.Rows, ds.SliceThickness = 'MR', 256, '1'
  ds.BodyPartExamined, ds.SeriesDescription = part, told
  assert survey.is_head(ds) is head
  ds.SliceThickness = '5'
  assert not survey.is_head(ds)
