"""Temperature scaling against scipy's minimisers and torch-like softmax."""

import numpy as np
import pytest
from scipy import optimize, special
from sklearn import metrics as sklearn_metrics

from medjax.metrics import calibration


def _sample(k=3, n=400, *, sharper, seed=0):
  """Truth drawn from softmax(z), and softmax(sharper · z): too sure."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(n, k))
  p = special.softmax(z, -1)
  label = np.array([rng.choice(k, p=row) for row in p])
  return np.eye(k, dtype=bool)[label], special.softmax(sharper * z, -1), z


def _labels(n=400, *, sharper, seed=0):
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(n, 3))
  truth = rng.random((n, 3)) < special.expit(z)
  return truth, special.expit(sharper * z), z


@pytest.mark.parametrize('sharper', [0.4, 1.0, 3.0])
def test_temperature_is_scipys_minimum(sharper):
  truth, p, z = _sample(sharper=sharper)

  def loss(t):
    return -special.log_softmax(sharper * z / t, -1)[truth].mean()

  best = optimize.minimize_scalar(loss, bounds=(0.05, 20), method='bounded',
                                  options={'xatol': 1e-9})  # fmt: skip
  found = calibration.temperature(truth, p)
  assert found == pytest.approx(best.x, rel=1e-5)
  assert found == pytest.approx(sharper, rel=0.25)
  calm = calibration.scaled(p, found)
  np.testing.assert_allclose(
    calm, special.softmax(sharper * z / found, -1), atol=1e-6
  )
  np.testing.assert_array_equal(calm.argmax(-1), p.argmax(-1))
  assert calibration.nll(truth, calm) == pytest.approx(best.fun)
  assert calibration.temperature(truth, calm) == pytest.approx(1, rel=1e-4)


def test_temperature_of_labels_is_scipys_minimum():
  truth, p, z = _labels(sharper=2.0)

  def loss(t):
    return -np.where(
      truth, special.log_expit(2 * z / t), special.log_expit(-2 * z / t)
    ).mean()

  best = optimize.minimize_scalar(loss, bounds=(0.05, 20), method='bounded',
                                  options={'xatol': 1e-9})  # fmt: skip
  found = calibration.temperature(truth, p, exclusive=False)
  assert found == pytest.approx(best.x, rel=1e-5)
  calm = calibration.scaled(p, found, exclusive=False)
  np.testing.assert_allclose(calm, special.expit(2 * z / found), atol=1e-6)


def test_nll_is_sklearns_also_of_zero():
  truth, p, _ = _sample(sharper=1.0)
  label = truth.argmax(1)
  weights = np.random.default_rng(1).integers(0, 3, (2, len(p))).astype(float)
  expected = [
    sklearn_metrics.log_loss(label, p, sample_weight=w) for w in weights
  ]
  found = calibration.nll(truth, p, weights=weights)
  np.testing.assert_allclose(found, expected, rtol=1e-9)
  p[:, 1:] = 0
  p[:, 0] = 1
  expected = sklearn_metrics.log_loss(label, p.astype(np.float32))
  assert calibration.nll(truth, p) == pytest.approx(expected, rel=1e-3)
  assert np.isfinite(calibration.nll(truth, p, exclusive=False))


def test_temperature_where_there_is_no_minimum():
  truth = np.array([[True, False], [False, True]])
  right = np.array([[0.9, 0.1], [0.2, 0.8]])
  # All right: it would be as cold as may be, and make .9 a certainty.
  assert np.isnan(calibration.temperature(truth, right))
  assert calibration.temperature(truth, 1 - right) == pytest.approx(20)
  assert calibration.temperature(truth, np.full((2, 2), 0.5)) == 1


def test_classwise_ece_is_that_of_each_column():
  truth, p, _ = _sample(sharper=3.0)
  found = calibration.classwise_ece(truth, p, bins=10)
  for k in range(3):
    expected = 0.0
    for low in range(10):
      inside = (p[:, k] > low / 10) & (p[:, k] <= (low + 1) / 10)
      if inside.any():
        gap = abs(p[inside, k].mean() - truth[inside, k].mean())
        expected += inside.mean() * gap
    assert found[k] == pytest.approx(expected)
  weights = np.ones((2, len(p)))
  rows = calibration.classwise_ece(truth, p, bins=10, weights=weights)
  np.testing.assert_allclose(rows, [found, found])


def test_mce_is_the_largest_gap_of_a_bin_with_cases():
  confidence = np.array([0.05, 0.05, 0.55, 0.55, 0.95])
  correct = np.array([False, False, True, False, True])
  assert calibration.mce(confidence, correct, bins=10) == pytest.approx(0.05)
  correct[0] = True
  assert calibration.mce(confidence, correct, bins=10) == pytest.approx(0.45)
  weights = np.array([[0, 0, 0, 0, 1.0], [0, 0, 0, 0, 0]])
  found = calibration.mce(confidence, correct, bins=10, weights=weights)
  np.testing.assert_allclose(found, [0.05, np.nan])


def test_a_temperature_is_positive():
  with pytest.raises(ValueError, match='positive'):
    calibration.scaled(np.array([[0.5, 0.5]]), 0.0)
