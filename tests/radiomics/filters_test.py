"""The response maps of IBSI 2, phase 1: within 1 % of their range."""

import jax
import numpy as np
import pytest

from medjax.data import formats
from medjax.radiomics import filters, settings
from medjax.radiomics.filters import kernels, wavelets

MM = 2.0  # voxels of the phantoms


def mean(**options):
  return kernels.mean, dict(size=15, **options)


def log(mm, **options):
  return kernels.laplacian, dict(sigma=(mm / MM,) * 3, **options)


def laws(names, **options):
  return kernels.laws, dict(kernels=names, **options)


def gabor(sigma, wavelength, gamma, **options):
  lengths = dict(sigma=sigma / MM, wavelength=wavelength / MM)
  return kernels.gabor, dict(**lengths, gamma=gamma, **options)


def wavelet(family, bands, **options):
  return wavelets.separable, dict(family=family, bands=bands, **options)


def simoncelli(**options):
  return wavelets.simoncelli, options


def riesz(order):
  return wavelets.riesz_laplacian, dict(sigma=(3 / MM,) * 3, order=order)


FLAT = dict(planar=True)
TURNED = dict(invariant='max')
ENERGY = dict(invariant='max', energy=7)
AVERAGE = dict(invariant='mean')
ZERO, MIRROR = dict(boundary='zero'), dict(boundary='mirror')
PERIODIC = dict(boundary='periodic')
MAPS = {
  '1_a_1': ('checkerboard', mean(**ZERO)),
  '1_a_2': ('checkerboard', mean(boundary='nearest')),
  '1_a_3': ('checkerboard', mean(**PERIODIC)),
  '1_a_4': ('checkerboard', mean(**MIRROR)),
  '1_b_1': ('impulse', mean(**ZERO, **FLAT)),
  '2_a': ('impulse', log(3, **ZERO)),
  '2_b': ('checkerboard', log(5, **MIRROR)),
  '2_c': ('checkerboard', log(5, **MIRROR, **FLAT)),
  '3_a_1': ('impulse', laws('E5L5S5', **ZERO)),
  '3_a_2': ('impulse', laws('E5L5S5', **ZERO, **TURNED)),
  '3_a_3': ('impulse', laws('E5L5S5', **ZERO, **ENERGY)),
  '3_b_1': ('checkerboard', laws('E3W5R5', **MIRROR)),
  '3_b_2': ('checkerboard', laws('E3W5R5', **MIRROR, **TURNED)),
  '3_b_3': ('checkerboard', laws('E3W5R5', **MIRROR, **ENERGY)),
  '3_c_1': ('checkerboard', laws('L5S5', **MIRROR, **FLAT)),
  '3_c_2': ('checkerboard', laws('L5S5', **MIRROR, **FLAT, **TURNED)),
  '3_c_3': ('checkerboard', laws('L5S5', **MIRROR, **FLAT, **ENERGY)),
  '4_a_1': ('impulse', gabor(10, 4, 0.5, theta=60, **ZERO)),
  '4_a_2': ('impulse', gabor(10, 4, 0.5, step=45, planar=False, **ZERO)),
  '4_b_1': ('sphere', gabor(20, 8, 2.5, theta=225, **MIRROR)),
  '4_b_2': ('sphere', gabor(20, 8, 2.5, step=22.5, planar=False, **MIRROR)),
  '5_a_1': ('impulse', wavelet('db2', 'LHL', **ZERO)),
  '5_a_2': ('impulse', wavelet('db2', 'LHL', **ZERO, **AVERAGE)),
  '6_a_1': ('sphere', wavelet('coif1', 'HHL', **PERIODIC)),
  '6_a_2': ('sphere', wavelet('coif1', 'HHL', **PERIODIC, **AVERAGE)),
  '7_a_1': ('checkerboard', wavelet('haar', 'LLL', level=2, **AVERAGE)),
  '7_a_2': ('checkerboard', wavelet('haar', 'HHH', level=2, **AVERAGE)),
  '8_a_1': ('checkerboard', simoncelli(level=1)),
  '8_a_2': ('checkerboard', simoncelli(level=2)),
  '8_a_3': ('checkerboard', simoncelli(level=3)),
  '9_a': ('impulse', riesz((1, 0, 0))),
  '9_b_1': ('sphere', riesz((0, 2, 0))),
  '10_b_1': ('pattern_1', simoncelli(level=1, order=(0, 2, 0))),
}


@pytest.fixture(scope='module')
def image(shared_data):
  folder = shared_data('ibsi') / 'ibsi_2_digital_phantom/nifti'

  def read(name):
    volume = formats.read(folder / name / 'image' / f'{name}.nii.gz')
    return volume.array[..., 0].astype(float)

  return read


@pytest.mark.parametrize('name', MAPS)
def test_response_map(name, image, shared_data):
  phantom, (function, options) = MAPS[name]
  path = shared_data('ibsi_2_response_maps') / f'{name}.nii.gz'
  reference = formats.read(path).array[..., 0]
  with jax.enable_x64(True):
    found = np.asarray(function(image(phantom), **options))
  error = np.abs(found - reference).max() / np.ptp(reference)
  assert error <= 0.01


def test_there_are_33_maps(shared_data):
  files = shared_data('ibsi_2_response_maps').glob('*.nii.gz')
  assert {p.name.removesuffix('.nii.gz') for p in files} == set(MAPS)


@pytest.mark.parametrize(
  ('text', 'names'),
  [
    ('log:1,2.5', ['log-sigma-1-mm', 'log-sigma-2-5-mm']),
    ('laws:L5E5E5/max/7', ['laws-L5E5E5-max-7']),
    ('wavelet:coif1/LLH/2', ['wavelet-coif1-LLH-2']),
    ('simoncelli:1,2', ['simoncelli-1', 'simoncelli-2']),
    ('mean:5', ['mean-5']),
  ],
)
def test_parse(text, names):
  assert [f.name for f in filters.parse(text)] == names


def test_a_wavelet_has_eight_bands():
  assert len(filters.parse('wavelet:db3')) == 8


@pytest.mark.parametrize(
  'text',
  ['lgo:1', 'log:', 'log:x', 'laws:Q5', 'wavelet:coif9', 'mean:4', 'gabor:5'],
)
def test_what_is_no_filter_is_refused(text):
  with pytest.raises(ValueError, match='--filters'):
    filters.parse(text)


@pytest.mark.parametrize('name', ['ibsi2_A', 'ibsi2_B'])
def test_filters_of_phase_2_give_responses(name):
  """Of a flat image but for one voxel: finite, and not nothing."""
  preset = settings.PRESETS[name]
  image = np.zeros((24, 24, 24))
  image[12, 12, 12] = 100
  mask = np.zeros(image.shape, bool)
  mask[8:16, 8:16, 8:16] = True
  count = 0
  for text in preset.filters:
    found = filters.filtered_regions(image, mask, (1, 1, 1), text, preset)
    for region in found.values():
      assert np.isfinite(region.values).all()
      assert np.abs(region.values[region.mask]).max() > 0
      count += 1
  assert count == 8


def test_a_crop_gives_what_the_whole_image_does():
  rng = np.random.default_rng(0)
  image = rng.normal(size=(40, 40, 40))
  mask = np.zeros(image.shape, bool)
  mask[18:24, 17:23, 18:22] = True
  preset = settings.PRESETS['pyradiomics']
  (one,) = filters.parse('log:1.5')
  with jax.enable_x64(True):
    whole = np.asarray(one.apply(image, np.ones(3), False))
  regions = filters.filtered_regions(image, mask, (1, 1, 1), 'log:1.5', preset)
  region = regions['log-sigma-1-5-mm']
  np.testing.assert_allclose(region.values[region.mask], whole[mask], atol=1e-9)
