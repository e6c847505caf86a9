"""Pixel AUROC and average precision of histograms against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax.metrics import pixels as m


def _map(seed, shape=(40, 50)):
  rng = np.random.default_rng(seed)
  truth = rng.random(shape) < 0.05
  return truth, np.clip(0.3 * truth + 0.7 * rng.random(shape), 0, 1)


def test_areas_of_several_maps_are_sklearns():
  maps = [_map(seed) for seed in range(3)]
  total = sum(m.histogram(t, p.astype(np.float32)) for t, p in maps)
  truth, p = (
    np.concatenate([x.ravel() for x in xs]) for xs in zip(*maps, strict=True)
  )
  expected = sklearn_metrics.roc_auc_score(truth, p)
  assert abs(m.auroc(total) - expected) <= m.resolution(total) + 1e-12
  assert m.resolution(total) < 1e-5
  expected = sklearn_metrics.average_precision_score(truth, p)
  assert m.average_precision(total) == pytest.approx(expected, rel=1e-4)


def test_of_probabilities_that_are_bins_it_is_exact():
  truth, p = _map(3)
  p = np.floor(p * 256) / 256
  h = m.histogram(truth.astype(np.uint8) * 255, p, bins=256)
  flat = truth.ravel(), p.ravel()
  assert m.auroc(h) == pytest.approx(sklearn_metrics.roc_auc_score(*flat))
  expected = sklearn_metrics.average_precision_score(*flat)
  assert m.average_precision(h) == pytest.approx(expected)


def test_few_bins_say_how_far_off_they_may_be():
  truth, p = _map(4)
  h = m.histogram(truth, p, bins=8)
  expected = sklearn_metrics.roc_auc_score(truth.ravel(), p.ravel())
  assert abs(m.auroc(h) - expected) <= m.resolution(h)


def test_pixels_not_valid_are_left_out():
  truth, p = _map(5)
  valid = np.arange(50) < 30
  valid = np.broadcast_to(valid, truth.shape)
  ours = m.histogram(truth, p, valid=valid)
  np.testing.assert_array_equal(ours, m.histogram(truth[:, :30], p[:, :30]))
  assert np.isnan(m.auroc(m.histogram(truth & False, p)))
  with pytest.raises(ValueError, match='from 0 to 1'):
    m.histogram(truth, p * 255)
