"""What cannot be measured is refused, by one line that says why."""

import dataclasses

import numpy as np
import pytest

from medjax.radiomics import extract, names, prepare, settings

PLAIN = settings.PRESETS['pyradiomics']
CENTRE = np.zeros((8, 9, 10), bool)
CENTRE[2:6, 3:6, 4:7] = True
IMAGE = np.random.default_rng(0).normal(100, 50, CENTRE.shape)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(mask=np.zeros(CENTRE.shape, bool)), 'the mask is empty'),
    (dict(mask=np.indices(CENTRE.shape).sum(0) == 0), 'one voxel'),
    (dict(mask=CENTRE[:-1]), r'the image is \(8, 9, 10\), the mask \(7, 9'),
    (dict(image=IMAGE[..., 0], mask=CENTRE[..., 4]), 'the image has 2 axes'),
    (dict(image=np.where(CENTRE, np.nan, IMAGE)), '36 voxels of the mask are'),
    (dict(spacing=None), 'no voxel size'),
    (dict(spacing=(1, 0, 1)), 'a voxel size of'),
  ],
)
def test_refused(change, message):
  case = dict(image=IMAGE, mask=CENTRE, spacing=(1, 1, 2)) | change
  with pytest.raises(ValueError, match=message):
    prepare.region(*case.values(), PLAIN)


def test_notes():
  mask = np.ones(CENTRE.shape, bool)
  region = prepare.region(IMAGE, mask, (1, 1, 1), PLAIN)
  assert region.notes == ('the region touches the edge of the image',)
  beside = np.where(CENTRE, IMAGE, np.nan)
  region = prepare.region(beside, CENTRE, (1, 1, 1), PLAIN)
  assert 'voxels beside the region are NaN' in region.notes[0]


def test_a_flat_region_leaves_features_undefined():
  region = prepare.region(np.full(CENTRE.shape, 7.0), CENTRE, (1, 1, 1), PLAIN)
  (note,) = extract.notes_of(region, PLAIN)
  assert note.startswith('one intensity, so undefined: ')
  assert 'glcm_Correlation' in note
  values = dict.fromkeys(names.keys(PLAIN), 1.0)
  found = names.columns(values, region, PLAIN)
  assert np.isnan(found['original_glcm_Correlation'])
  assert found['original_shape_MeshVolume'] == 1


def test_many_levels():
  fine = dataclasses.replace(PLAIN, bin_width=0.1)
  region = prepare.region(IMAGE, CENTRE, (1, 1, 1), fine)
  assert any('grey levels' in n for n in extract.notes_of(region, fine))
  finer = dataclasses.replace(PLAIN, bin_width=0.01)
  with pytest.raises(ValueError, match='give wider bins'):
    extract.notes_of(region, finer)


def test_limits_and_outliers_leave_the_shape():
  limited = dataclasses.replace(PLAIN, limits=(50, 150), outliers=1.0)
  region = prepare.region(IMAGE, CENTRE, (1, 1, 1), limited)
  inside = IMAGE[CENTRE & (IMAGE >= 50) & (IMAGE <= 150)]
  kept = np.abs(inside - inside.mean()) <= inside.std()
  assert region.mask.sum() == kept.sum()
  assert region.shape.sum() == CENTRE.sum()
  none = dataclasses.replace(PLAIN, limits=(1e4, 2e4))
  with pytest.raises(ValueError, match='within the limits'):
    prepare.region(IMAGE, CENTRE, (1, 1, 1), none)


def test_resampling_keeps_the_centre():
  """A grid of half the voxels, with the same middle (IBSI, 2.4)."""
  chosen = settings.PRESETS['ibsi_C']
  mask = np.zeros((10, 10, 10), bool)
  mask[2:8, 2:8, 2:8] = True
  ramp = np.indices(mask.shape)[0].astype(float)
  region = prepare.region(ramp, mask, (1, 1, 1), chosen)
  assert region.spacing.tolist() == [2, 2, 2]
  assert region.mask.sum() == 27
  at = np.argwhere(region.mask)
  values = region.values[region.mask].reshape(3, 3, 3)[:, 0, 0]
  assert len(np.unique(at[:, 0])) == 3
  # Voxels of 2 lie at 0.5, 2.5, …; rounded to whole numbers.
  np.testing.assert_allclose(values, np.rint([2.5, 4.5, 6.5]))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(bins=16), 'a bin width or a number'),
    (dict(bin_width=-1.0), 'a bin width of'),
    (dict(aggregations=('4D',)), 'no aggregation'),
  ],
)
def test_settings(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(PLAIN, **change)


def test_no_settings_of_that_name():
  assert settings.find('ibsi_a') is settings.PRESETS['ibsi_A']
  with pytest.raises(ValueError, match="did you mean 'pyradiomics'"):
    settings.find('pyradiomic')
