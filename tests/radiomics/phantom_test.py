"""All values of the IBSI 1 digital phantom, each to its stated tolerance."""

import csv

import numpy as np
import pytest

from medjax import radiomics
from medjax.data import formats
from medjax.radiomics import names, settings

PRESET = settings.PRESETS['ibsi_phantom']
TABLE = 'ibsi_1_reference_values/ibsi_1_dig_phantom.csv'
# The standard's short names of matrices that count sizes, in our order.
SIZES = {
  'rlm': 'sre lre lgre hgre srlge srhge lrlge lrhge glnu glnu_norm rlnu '
  'rlnu_norm r_perc gl_var rl_var rl_entr',
  'szm': 'sze lze lgze hgze szlge szhge lzlge lzhge glnu glnu_norm zsnu '
  'zsnu_norm z_perc gl_var zs_var zs_entr',
  'dzm': 'sde lde lgze hgze sdlge sdhge ldlge ldhge glnu glnu_norm zdnu '
  'zdnu_norm z_perc gl_var zd_var zd_entr',
  'ngl': 'lde hde lgce hgce ldlge ldhge hdlge hdhge glnu glnu_norm dcnu '
  'dcnu_norm dc_perc gl_var dc_var dc_entr dc_energy',
}
OURS = [
  'small',
  'large',
  'low',
  'high',
  'small_low',
  'small_high',
  'large_low',
  'large_high',
  'level_nu',
  'level_nu_norm',
  'size_nu',
  'size_nu_norm',
  'percentage',
  'level_var',
  'size_var',
  'entropy',
  'energy',
]


def key(tag):
  """Our key of a tag of the standard's table."""
  family, _, rest = tag.partition('_')
  for end in ('2D', '2_5D', '3D'):
    base, found, mark = rest.rpartition(f'_{end}')
    if found and mark in ('', '_avg', '_comb'):
      rest = base
      break
  else:
    return tag
  if family in SIZES:
    rest = OURS[SIZES[family].split().index(rest)]
  return f'{family}_{rest}_{end.replace("_", ".")}{mark}'


@pytest.fixture(scope='session')
def phantom(shared_data):
  folder = shared_data('ibsi') / 'ibsi_1_digital_phantom/nifti'
  image = formats.read(folder / 'image/phantom.nii.gz')
  mask = formats.read_mask(folder / 'mask/mask.nii.gz')
  return image.array[..., 0], mask.array, image.spacing


@pytest.fixture(scope='session')
def measured(phantom):
  return radiomics.features(*phantom, PRESET)


@pytest.fixture(scope='session')
def reference(shared_data):
  with (shared_data('ibsi') / TABLE).open() as f:
    table = list(csv.reader(f, delimiter=';'))[1:]
  assert len(table) == 487
  return {key(tag): (value, tolerance) for value, tolerance, tag in table}


def test_the_table_has_our_features(reference):
  assert set(reference) == set(names.keys(PRESET))


def test_every_value_is_that_of_the_standard(reference, measured):
  wrong = []
  for name, (value, tolerance) in reference.items():
    found = measured[names.column(name, PRESET)]
    assert np.isfinite(found), name
    if not value:  # five have no value in the standard
      assert name.endswith(('ombb', 'mvee', 'auc'))
      continue
    # Values are given to three digits; a tolerance of 0 means all of them.
    rounded = float(f'{found:.3g}')
    error = min(abs(found - float(value)), abs(rounded - float(value)))
    if not error <= float(tolerance) + 1e-9:
      wrong.append(f'{name}: {found} for {value}')
  assert not wrong
