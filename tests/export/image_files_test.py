"""What the shipped script does to an image against medjax's transforms."""

import pathlib
import sys

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medjax.data import formats, grid, transforms
from medjax.data.facts import DataFacts
from medjax.export import golden, preprocessing

sys.path.append(str(pathlib.Path(__file__).parents[1] / 'data'))
from dicom_files import FRAMES, dataset, save

files = golden.script().image_files
AFFINE = np.array(
  [[0, -1.2, 0, 4], [0.7, 0, 0, -3], [0, 0, 2.5, 9], [0, 0, 0, 1.0]]
)
STEPS = [
  dict(name='reorient', codes='LPS'),
  dict(name='resample', spacing=(1.0, 0.9, 1.3)),
  dict(name='resample', spacing=2.0),
  dict(name='resize', shape=(6, 20, 9)),
  dict(name='resize', shape=(6, 20, 9), antialias=False),
  dict(name='crop_or_pad', shape=(20, None, 5), value=3.0),
  dict(name='crop_or_pad', shape=(20, 9, 5), mode='edge'),
  dict(name='pad_to_multiple', k=8),
  dict(name='crop_foreground', threshold=1.0, margin=1),
  dict(name='zscore'),
  dict(name='zscore', nonzero=True),
  dict(name='zscore', channels=(1,)),
  dict(name='percentile', low=2.0, high=97.0),
  dict(name='window', low=-0.5, high=1.0),
  dict(name='scale', mean=(0.1, 0.4), std=(2.0, 0.5), low=-1.0, high=1.2),
  dict(name='scale', mean=0.3, std=0.2, channels=(1,)),
]


def sample_of(seed=0):
  rng = np.random.default_rng(seed)
  image = rng.normal(size=(11, 13, 7, 2)).astype(np.float32)
  image[image < -0.8] = 0
  return {
    'image': image,
    'affine': AFFINE,
    'spacing': np.linalg.norm(AFFINE[:3, :3], axis=0),
    'id': 'a',
  }


def test_a_step_may_be_for_one_image_only():
  steps = preprocessing.translated(
    [
      dict(name='window', low=-1.0, high=1.0, only='ct'),
      dict(name='scale', std=2.0, only=('image', 'pet')),
    ],
    facts(),
  )
  image, affine = sample_of()['image'], AFFINE
  ct, _ = files.prepare(image, affine, steps, 'ct')
  np.testing.assert_allclose(ct, np.clip((image + 1) / 2, 0, 1), atol=1e-6)
  for name in ('image', 'pet'):
    scaled, _ = files.prepare(image, affine, steps, name)
    np.testing.assert_allclose(scaled, image / 2, atol=1e-6)


def test_columns_of_a_table_are_prepared_inside():
  told = facts(covariate_statistics=((60.0, 12.0), (300.0, 500.0)))
  steps = [dict(name='standardise'), dict(name='compress', factor=2.0)]
  columns = np.array([[61.5, np.nan], [20.0, 9000.0]], np.float32)
  sample = transforms.standardise(
    {'covariates': columns[1]}, statistics=told.covariate_statistics
  )
  wanted = transforms.compress(sample, factor=2.0)['covariates']
  assert not preprocessing.translated(steps, told)
  table = preprocessing.of_table(steps, told)
  found = np.asarray(preprocessing.apply_table(table, columns))
  np.testing.assert_allclose(found[1], wanted, rtol=1e-6)
  assert np.isnan(found).tolist() == [[False, True], [False, False]]


def facts(**more):
  return DataFacts(channels=2, rank=3, **more)


@pytest.mark.parametrize('step', STEPS, ids=lambda s: str(s)[:60])
def test_a_step_is_that_of_medjax(step):
  sample = sample_of()
  options = {k: v for k, v in step.items() if k != 'name'}
  wanted = getattr(transforms, step['name'])(sample, **options)
  steps = preprocessing.translated([step], facts())
  assert not preprocessing.unsupported(steps, facts())
  image, affine = files.prepare(sample['image'], sample['affine'], steps)
  np.testing.assert_allclose(image, wanted['image'], atol=2e-6)
  np.testing.assert_allclose(affine, wanted['affine'], atol=1e-9)


@pytest.mark.parametrize('scheme', ['zscore', 'ct', 'rescale_0_1', 'rgb_0_1'])
def test_normalise_is_that_of_medjax(scheme):
  told = dict(normalisation=(scheme, 'none'))
  told['statistics'] = ((0.1, 0.7, -1.0, 1.5),) * 2
  sample = sample_of()
  wanted = transforms.normalise(
    sample, schemes=told['normalisation'], statistics=told['statistics']
  )
  steps = preprocessing.translated([dict(name='normalise')], facts(**told))
  image, _ = files.prepare(sample['image'], AFFINE, steps)
  np.testing.assert_allclose(image, wanted['image'], atol=2e-6)


def test_a_constant_channel_becomes_zero():
  image = np.ones((4, 4, 4, 2), np.float32)
  for name in ('zscore', 'percentile'):
    steps = preprocessing.translated([dict(name=name)], facts())
    assert not files.prepare(image, AFFINE, steps)[0].any()


@pytest.mark.parametrize('seed', range(4))
def test_a_map_comes_back_to_the_grid_of_the_file(seed):
  rng = np.random.default_rng(seed)
  raw = sample_of(seed)
  sample = transforms.reorient(raw, codes='PIR')
  sample = transforms.resample(sample, spacing=rng.uniform(0.6, 2.5, 3))
  sample = transforms.crop_or_pad(sample, shape=rng.integers(5, 20, 3))
  array = rng.random((*sample['image'].shape[:-1], 3)).astype(np.float32)
  shape = raw['image'].shape[:-1]
  wanted = grid.to_grid(array, sample['affine'], raw['affine'], shape)
  found = files.to_grid(array, sample['affine'], raw['affine'], shape)
  np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_what_only_medjax_does_is_named():
  for step, name in (
    (dict(name='distance_map'), 'distance_map'),
    (dict(name='resample', spacing=1.0, order='cubic'), 'resample of order'),
  ):
    steps = preprocessing.translated([step], facts())
    assert name in preprocessing.unsupported(steps, facts())
  # Their numbers would be those of the first image's channels.
  for channels, said in ((2, ''), (1, 'prior, of 1 channels beside an image')):
    told = facts(further_images=('prior',), further_channels=(channels,))
    steps = preprocessing.translated([dict(name='zscore')], told)
    assert preprocessing.unsupported(steps, told).startswith(said)
    assert bool(preprocessing.unsupported(steps, told)) == bool(said)


@pytest.mark.parametrize(
  ('steps', 'outside', 'fill'),
  [
    ([dict(name='zscore')], 0, [0, 0]),
    ([dict(name='scale', mean=5, std=2)], 0, [5, 5]),
    (
      [
        dict(name='window', low=-100, high=300),
        dict(name='scale', mean=0.5, std=0.5),
      ],
      0,
      [100, 100],
    ),
    # What is measured after another step is measured on what that gives.
    ([dict(name='window', low=0, high=9), dict(name='zscore')], 1, [0, 0]),
    ([dict(name='zscore'), dict(name='reorient')], 2, [0]),
    # Nothing within the window becomes 0.
    (
      [
        dict(name='window', low=0, high=9),
        dict(name='scale', mean=3, std=1),
      ],
      1,
      [3, 3],
    ),
  ],
)
def test_what_is_inside_of_the_program(steps, outside, fill):
  steps = preprocessing.translated(steps, facts())
  out, inside, found = preprocessing.divided(steps, windows=True)
  assert len(out) == outside
  assert out + inside == steps
  np.testing.assert_allclose(found, fill)


def test_a_dicom_series_is_read_as_medjax_reads_it(shared_data):
  home = shared_data('dicom_sts025')
  folders = {p.parent for p in home.rglob('*.dcm')}
  series = max(folders, key=lambda f: len([*f.glob('*.dcm')]))
  wanted = formats.read(series)
  array, affine, _ = files.read(series)
  np.testing.assert_allclose(affine, wanted.affine, atol=1e-3)
  np.testing.assert_allclose(array, wanted.array, atol=1e-3)


def region(x=0.02, y=0.01, unit=3):
  found = Dataset()
  found.RegionSpatialFormat = 1
  found.PhysicalUnitsXDirection = found.PhysicalUnitsYDirection = unit
  found.PhysicalDeltaX, found.PhysicalDeltaY = x, y
  return found


@pytest.mark.parametrize(
  'header',
  [
    dict(PixelSpacing=[0.5, 0.75], ImagerPixelSpacing=[1, 1]),
    dict(ImagerPixelSpacing=[0.2, 0.1]),
    dict(
      PixelSpacing=[0, 0],
      ImagerPixelSpacing=[0.2, 0.1],
      EstimatedRadiographicMagnificationFactor=1.25,
    ),
    dict(NominalScannedPixelSpacing=[0.3, 0.4]),
    dict(SequenceOfUltrasoundRegions=[region(), region()]),
    dict(SequenceOfUltrasoundRegions=[region(), region(x=0.3)]),
    dict(SequenceOfUltrasoundRegions=[region(unit=4)]),
    dict(RescaleSlope=0, RescaleIntercept=-7),
    {},
  ],
  ids=str,
)
def test_a_dicom_picture_is_read_as_medjax_reads_it(header, tmp_path):
  d = dataset(FRAMES[0])
  del d.PixelSpacing
  for name, value in header.items():
    setattr(d, name, value)
  path = save(d, tmp_path / 'a.dcm')
  wanted = formats.read(path)
  array, affine, _ = files.read(path)
  np.testing.assert_allclose(affine, wanted.affine, atol=1e-6)
  np.testing.assert_allclose(array, wanted.array, atol=1e-3)


@pytest.mark.parametrize(
  'name', ['ModalityLUTSequence', 'RealWorldValueMappingSequence']
)
def test_values_by_what_it_does_not_read_are_refused(name, tmp_path):
  d = dataset(FRAMES[0])
  setattr(d, name, [Dataset()])
  with pytest.raises(ValueError, match=f'follow from {name}: convert it'):
    files.read(save(d, tmp_path / 'a.dcm'))


def test_a_folder_called_by_a_uid_keeps_its_name(tmp_path):
  (tmp_path / '1.2.840.1').mkdir()
  (tmp_path / '1.2.840.2').mkdir()
  assert files.stem(tmp_path / '1.2.840.2') == '1.2.840.2'
  for name in ('scan.v2.nii.gz', 'scan.v2.png', 'scan.v2.dcm'):
    assert files.stem(tmp_path / name) == 'scan.v2'


@pytest.mark.parametrize(
  ('spacing', 'outside', 'unit', 'said'),
  [
    ((1, 1, 3), (), 'mm', False),
    ((3.3, 1, 0.9), (), 'mm', False),  # axes in another order
    ((1, 1, 1), (), 'mm', True),
    ((1, 1, 6), (), 'mm', True),
    ((1, 1, 6), ('crop_or_pad',), 'mm', True),
    ((1, 1, 6), ('resample',), 'mm', False),
    ((1, 1, 6), ('resize',), 'mm', False),
    ((1, 1, 6), (), 'px', False),
    ((1, 1), (), 'mm', False),
  ],
)
def test_voxels_unlike_the_training_s_are_said(spacing, outside, unit, said):
  """By the shipped script, and by what `medjax predict` asks."""
  info = {
    'trained_at_spacing': [1.0, 1.0, 3.0],
    'unit_of_length': unit,
    'outside': [{'name': name} for name in outside],
  }
  found = files.other_spacing(np.diag([*spacing, 1.0]), info)
  assert bool(found) == said
  assert not said or 'learnt from 1 x 1 x 3 mm' in found
  facts = DataFacts(
    channels=1, rank=3, spacing=(1.0, 1.0, 3.0), unit_of_length=unit
  )
  note = facts.unlike(spacing, set(outside))
  assert bool(note) == said
  assert not said or 'began with 1 × 1 × 3 mm' in note
