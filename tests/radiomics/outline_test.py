"""Perturbed outlines, and where a region lies."""

import numpy as np
import pytest

from medjax.radiomics import location, stability

BALL = np.linalg.norm(np.indices((24, 24, 24)) - 12, axis=0) <= 6
NOISE = np.random.default_rng(0).normal(size=BALL.shape)


@pytest.mark.parametrize('kind', stability.KINDS)
def test_perturbed(kind):
  options = dict(seed=3, image=NOISE, kind=kind)
  found = stability.perturbed(BALL, (1, 1, 1), **options)
  again = stability.perturbed(BALL, (1, 1, 1), **options)
  np.testing.assert_array_equal(found, again)
  assert (found != BALL).any()
  assert 2 * (found & BALL).sum() / (found.sum() + BALL.sum()) > 0.6
  if kind == 'dilate':
    assert (found | BALL).sum() == found.sum() > BALL.sum()
  if kind == 'erode':
    assert (found & BALL).sum() == found.sum() < BALL.sum()


def test_agreement():
  rows = [
    {'f': 1.0, '_perturbed': [{'f': 1.1}, {'f': 0.9}]},
    {'f': 5.0, '_perturbed': [{'f': 5.1}, {'f': 4.8}]},
  ]
  (found,) = stability.agreement(rows)
  assert found['icc'] > 0.99
  assert found['n'] == 2


AFFINE = np.diag([-2.0, 2, 3, 1])  # x runs to the left


def organs():
  found = np.zeros((20, 10, 10), np.uint8)
  found[1:9, 1:9, 1:9] = 1
  found[11:19, 1:9, 1:9] = 2
  return found


def test_location():
  mask = np.zeros((20, 10, 10), bool)
  mask[4:6, 4:6, 4:6] = True
  found = location.features(mask, organs(), AFFINE, {1: 'right lung'})
  assert found['location_Organ'] == 'right lung'
  assert found['location_OrganShare'] == 1
  assert found['location_Side'] == 'right'  # at -9 mm, the middle is at -19
  assert found['location_MidlineDistance'] == pytest.approx(10)
  assert found['location_RelativeSuperior'] == pytest.approx(0.5)
  assert found['location_Depth'] > 0


def test_location_beside_all_organs():
  mask = np.zeros((20, 10, 10), bool)
  mask[19, 4:6, 4:6] = True
  found = location.features(mask, organs(), AFFINE)
  assert (found['location_Organ'], found['location_OrganShare']) == ('2', 0)
  assert found['location_Depth'] < 0
  assert found['location_Side'] == 'left'
  with pytest.raises(ValueError, match='is empty'):
    location.features(mask, np.zeros_like(organs()), AFFINE)
