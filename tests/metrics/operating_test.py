"""Points of operation against scikit-learn's curves; net benefit by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax.metrics import operating as m


def _data(decimals, n=60, seed=0):
  rng = np.random.default_rng(seed)
  truth = rng.random((n, 2)) < 0.4
  score = np.round(0.4 * truth + rng.random((n, 2)) * 0.6, decimals)
  return truth, score, rng.integers(0, 3, (2, n)) * 1.0


@pytest.mark.parametrize('decimals', [1, 9])
@pytest.mark.parametrize('least', [0.0, 0.5, 0.9, 1.0])
def test_fixed_points_are_those_of_sklearns_curve(decimals, least):
  truth, score, weights = _data(decimals)
  found = (
    m.sensitivity_at_specificity(
      truth, score, specificity=least, weights=weights
    ),
    m.specificity_at_sensitivity(
      truth, score, sensitivity=least, weights=weights
    ),
  )
  for r, k in np.ndindex(2, 2):
    fpr, tpr, _ = sklearn_metrics.roc_curve(
      truth[:, k], score[:, k], sample_weight=weights[r],
      drop_intermediate=False,
    )  # fmt: skip
    assert found[0][r, k] == pytest.approx(tpr[1 - fpr >= least - 1e-12].max())
    assert found[1][r, k] == pytest.approx(1 - fpr[tpr >= least - 1e-12].min())


def test_nine_of_ten_is_nine_tenths():
  truth = np.repeat([False, True], 10)[:, None]
  score = np.concatenate([np.arange(10), np.arange(10) + 0.5])[:, None]
  ours = m.sensitivity_at_specificity(truth, score, specificity=0.9)
  assert ours == pytest.approx(0.2)  # .9 is 1 - .1 but for rounding


def test_one_class_only_is_undefined():
  truth, score = np.ones((4, 1), bool), np.arange(4.0)[:, None]
  for t in (truth, ~truth):
    assert np.isnan(m.sensitivity_at_specificity(t, score, specificity=0.5))
    assert np.isnan(m.specificity_at_sensitivity(t, score, sensitivity=0.5))
  with pytest.raises(ValueError, match='specificity must be from 0 to 1'):
    m.sensitivity_at_specificity(truth, score, specificity=90)


def test_net_benefit_by_hand():
  truth = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 1])
  p = np.array([0.9, 0.2, 0.3, 0.1, 0.1, 0.6, 0.0, 0.0, 0.1, 0.5])
  found = m.net_benefit(truth, p, thresholds=[0.0, 0.2, 0.5])
  # TP, FP of those at t or above: (3, 7), (3, 2), (2, 1)
  expected = [0.3, 0.3 - 0.2 * 0.25, 0.2 - 0.1]
  np.testing.assert_allclose(found.model, expected)
  np.testing.assert_allclose(
    found.treat_all, [0.3, 0.3 - 0.7 * 0.25, 0.3 - 0.7]
  )
  twice = m.net_benefit(np.tile(truth, 2), np.tile(p, 2), thresholds=[0.2, 0.5])
  weighted = m.net_benefit(
    truth, p, thresholds=[0.2, 0.5], weights=np.full((3, 10), 2.0)
  )
  np.testing.assert_allclose(weighted.model, [twice.model] * 3)


def test_what_is_no_decision_curve_is_refused():
  truth, p = np.array([True, False]), np.array([0.2, 0.8])
  with pytest.raises(ValueError, match='below 1'):
    m.net_benefit(truth, p, thresholds=[1.0])
  with pytest.raises(ValueError, match='from 0 to 1'):
    m.net_benefit(truth, p * 100, thresholds=[0.5])
  with pytest.raises(ValueError, match='one column'):
    m.net_benefit(truth[:, None], p[:, None], thresholds=[0.5])
