"""Batches, padding, devices and vmap give what single calls give."""

import dataclasses

import jax
import numpy as np
import pytest

from medjax import radiomics
from medjax.radiomics import extract, measure, prepare, settings, voxelwise

PLAIN = settings.PRESETS['pyradiomics']
# Some features are differences of large numbers, or may be near nothing.
CLOSE = dict(rtol=1e-6, atol=1e-9)


def make_region(seed, size=None):
  rng = np.random.default_rng(seed)
  size = rng.integers(4, 9, 3) if size is None else size
  image = rng.normal(0, 150, size).round()
  mask = np.zeros(size, bool)
  mask[1:-1, 1:, :-1] = rng.random(mask[1:-1, 1:, :-1].shape) < 0.8
  return prepare.region(image, mask, rng.uniform(0.5, 3, 3), PLAIN)


@pytest.fixture(scope='module')
def regions():
  return [make_region(seed) for seed in range(64)]


@pytest.fixture(scope='module')
def single(regions):
  return [extract.features_of([r], PLAIN)[0] for r in regions]


def assert_same(found, expected):
  for one, other in zip(found, expected, strict=True):
    assert list(one) == list(other)
    np.testing.assert_allclose([*one.values()], [*other.values()], **CLOSE)


def test_a_batch_of_64(regions, single):
  """In one program; on accelerators the batch is shared out over them."""
  assert_same(extract.features_of(regions, PLAIN), single)


def test_vmap_and_padding(regions, single):
  chosen = regions[:2]
  boxes = [extract.boxed(r, 3000) for r in chosen]
  room = measure.Room(levels=60, longest=20, slices=1)
  with jax.enable_x64(True):
    stacked = jax.tree.map(lambda *a: np.stack(a), *boxes)
    run = jax.vmap(lambda b: measure.measure(b, PLAIN, room))
    values = jax.device_get(jax.jit(run)(stacked))
  found = [{k: v[i] for k, v in values.items()} for i in range(2)]
  columns = [
    radiomics.extract.names.columns(one, region, PLAIN)
    for one, region in zip(found, chosen, strict=True)
  ]
  assert_same(columns, single[:2])


def test_place_and_direction_do_not_matter(single, regions):
  """A region elsewhere, mirrored along an axis, is the same region."""
  region = regions[0]
  image = np.pad(region.values[::-1], 3)
  mask = np.pad(region.mask[::-1], 3)
  found = radiomics.features(image, mask, region.spacing)
  expected = dict(single[0])
  for name in ('MeshVolume', 'SurfaceArea', 'SurfaceVolumeRatio', 'Sphericity'):
    # Where corners meet, the surface is not closed, and has two forms.
    found.pop(f'original_shape_{name}')
    expected.pop(f'original_shape_{name}')
  assert_same([found], [expected])


def test_numpy_agrees_on_intensities(regions, single):
  values = regions[3].values[regions[3].mask]
  found = single[3]
  assert found['original_firstorder_Mean'] == pytest.approx(values.mean())
  expected = np.percentile(values, 90)
  assert found['original_firstorder_90Percentile'] == pytest.approx(expected)


def test_sizes_are_few():
  rooms = {extract.sizes(make_region(seed), PLAIN) for seed in range(40)}
  assert len(rooms) <= 2


def test_maps_of_pairs_are_those_of_matrices():
  """Both ways of making a map of contrast, voxel by voxel."""
  rng = np.random.default_rng(0)
  image = rng.normal(0, 60, (5, 6, 4))
  mask = np.ones(image.shape, bool)
  mask[0, 0] = False
  found = radiomics.maps(image, mask, (1, 1, 1), 'glcm_Contrast', radius=1)
  assert np.isnan(found[0, 0]).all()
  region = prepare.region(image, mask, (1, 1, 1), PLAIN)
  with jax.enable_x64(True):
    levels = np.zeros(region.shape.shape, np.int32)
    box = extract.boxed(region, region.shape.sum())
    levels[region.shape] = voxelwise._levels(PLAIN)(box)
    slow = voxelwise._of_matrices(levels, 'cm_contrast_3D_avg', 1, PLAIN)
  np.testing.assert_allclose(found, slow[1:-1, 1:-1, 1:-1], rtol=1e-9)


def test_maps_refuse():
  image = np.random.default_rng(0).normal(size=(4, 4, 4))
  mask = np.ones(image.shape, bool)
  with pytest.raises(ValueError, match='do not resample'):
    radiomics.maps(image, mask, (1, 1, 1), 'glcm_Contrast', settings='ibsi_C')
  with pytest.raises(ValueError, match='no texture'):
    radiomics.maps(image, mask, (1, 1, 1), 'firstorder_Mean')


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['ibsi_A', 'ibsi_B', 'ibsi_C', 'ibsi_D', 'ibsi_E']
)
def test_configurations(name):
  """Each is measured; its values wait for the CT phantom."""
  rng = np.random.default_rng(0)
  image = rng.normal(0, 100, (24, 24, 12)).round()
  mask = np.zeros(image.shape, bool)
  mask[4:20, 5:19, 2:10] = True
  found = radiomics.features(image, mask, (0.98, 0.98, 3), name)
  chosen = dataclasses.replace(settings.PRESETS[name])
  assert len(found) == (351 if '2D_avg' in chosen.aggregations else 215)
  assert np.isfinite([*found.values()]).all()
