"""PyRadiomics' own baselines, and its values of the nodules of LIDC-IDRI."""

import csv
import dataclasses
import gzip
import math

import numpy as np
import pytest

from medjax import radiomics
from medjax.data import formats
from medjax.radiomics import prepare, settings

PLAIN = settings.PRESETS['pyradiomics']
FAMILIES = 'shape', 'firstorder', 'glcm', 'glrlm', 'glszm', 'gldm', 'ngtdm'
CONFIGS = {
  '': dict(shift=2000.0),
  '2d': dict(aggregations=('2.5D_avg',)),
  'FBN': dict(bins=64, bin_width=None),
  'combined': dict(aggregations=('3D_comb',)),
  'flatRegion': dict(bin_width=5000.0, limits=(0, math.inf)),
  'normalization': dict(normalise=100.0, bin_width=5.0),
  'resampling': dict(resample=(2, 2, 2)),
  'resegmentation': dict(outliers=3),
}
QUICK = 'brain2', 'breast1'
SLOW = 'brain1', 'lung1', 'lung2'
# Those of the cropped lungs need the whole image; the four mesh values of
# brain1 are of an older PyRadiomics.
WHOLE = 'normalization', 'resampling'
STALE = 'MeshVolume', 'SurfaceArea', 'Sphericity', 'SurfaceVolumeRatio'


def cases():
  for case in (*QUICK, *SLOW):
    for config in CONFIGS:
      if case.startswith('lung') and config in WHOLE:
        continue
      marks = [pytest.mark.slow] if case in SLOW else []
      yield pytest.param(case, config, marks=marks, id=f'{case}_{config}')


@pytest.fixture(scope='module')
def baselines(shared_data):
  found = {}
  for family in FAMILIES:
    path = shared_data('pyradiomics_testdata') / 'baseline'
    with (path / f'baseline_{family}.csv').open() as f:
      header, *rows = csv.reader(f)
    for column, name in enumerate(header[1:], 1):
      of = found.setdefault(name, {})
      of.update(
        {
          row[0]: float(row[column])
          for row in rows
          if row[0].startswith('original') and row[column]
        }
      )
  return found


@pytest.mark.parametrize(('case', 'config'), cases())
def test_baseline(case, config, baselines, shared_data):
  folder = shared_data('pyradiomics_testdata')
  image = formats.read(folder / f'{case}_image.nrrd')
  mask = formats.read_mask(folder / f'{case}_label.nrrd').array == 1
  chosen = dataclasses.replace(PLAIN, **CONFIGS[config])
  found = radiomics.features(image.array[..., 0], mask, image.spacing, chosen)
  reference = baselines[f'{case}_{config}' if config else case]
  assert len(reference) >= 40  # of `combined`, only what has directions
  for name, value in reference.items():
    stale = case == 'brain1' and not config and name.endswith(STALE)
    tolerance = 1e-3 if stale else 1e-6
    assert found[name] == pytest.approx(value, rel=tolerance, abs=1e-12), name


def nodules(shared_data, count):
  """[(values of PyRadiomics, Region)] of nodules."""
  path = shared_data('lidc_pyradiomics') / 'features.csv.gz'
  with gzip.open(path, 'rt') as f:
    rows = list(csv.DictReader(f))[:count]
  folder = shared_data('lidc_nodules')
  found = []
  for row in rows:
    name = row.pop('file')
    image = formats.read(folder / 'image' / name)
    mask = formats.read_mask(folder / 'nodule_mask' / name).array
    region = prepare.region(image.array[..., 0], mask, image.spacing, PLAIN)
    found.append((row, region))
  return found


def worst(pairs):
  """{feature: largest relative difference} of nodules."""
  found = radiomics.features_of([region for _, region in pairs], PLAIN)
  result = {}
  for (row, _), one in zip(pairs, found, strict=True):
    assert len(one) == len(row) == 107
    for name, text in row.items():
      value = float(text)
      error = abs(one[f'original_{name}'] - value) / max(abs(value), 1e-9)
      result[name] = max(result.get(name, 0), error)
  return result


def test_nodules(shared_data):
  pairs = nodules(shared_data, 60)
  small = [p for p in pairs if p[1].values.size <= 2048 and levels(p[1]) <= 48]
  assert len(small) > 10
  assert max(worst(small).values()) < 1e-5


def levels(region):
  return np.ptp(region.values[region.mask]) // 25 + 2


@pytest.mark.slow
def test_all_nodules(shared_data):
  pairs = nodules(shared_data, None)
  assert len(pairs) == 994
  assert max(worst(pairs).values()) < 1e-5
