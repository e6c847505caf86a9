"""Errors of numbers against scikit-learn and a plain computation."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax.metrics import regression as m


def _data(seed=0, n=40):
  rng = np.random.default_rng(seed)
  truth = rng.normal(50, 10, size=(n, 2))
  return (
    truth,
    truth + rng.normal(1, 4, size=(n, 2)),
    rng.integers(0, 3, (3, n)),
  )


def test_errors_are_sklearns():
  truth, predicted, weights = _data()
  for ours, theirs in (
    (m.mae, sklearn_metrics.mean_absolute_error),
    (m.rmse, sklearn_metrics.root_mean_squared_error),
    (m.r2, sklearn_metrics.r2_score),
  ):
    found = ours(truth, predicted, weights=weights)
    assert found.shape == (3, 2)
    for r in range(3):
      expected = theirs(
        truth, predicted, sample_weight=weights[r], multioutput='raw_values'
      )
      np.testing.assert_allclose(found[r], expected)


def test_limits_of_agreement_are_the_formula():
  truth, predicted, weights = _data(1)
  difference = predicted[:, 0] - truth[:, 0]
  found = m.bland_altman(truth[:, 0], predicted[:, 0])
  assert found.bias == pytest.approx(difference.mean())
  reach = 1.96 * difference.std(ddof=1)
  assert found.high - found.bias == pytest.approx(reach)
  assert found.bias - found.low == pytest.approx(reach)
  rows = m.bland_altman(truth, predicted, weights=weights)
  drawn = np.repeat(predicted - truth, weights[2], axis=0)
  np.testing.assert_allclose(
    rows.high[2], drawn.mean(0) + 1.96 * drawn.std(0, ddof=1)
  )
  one = m.bland_altman(truth[:1, 0], predicted[:1, 0])
  assert np.isnan(one.low)


@pytest.mark.parametrize('dtype', ['uint8', 'int8', 'int64', 'float32', 'bool'])
def test_numbers_of_any_type(dtype):
  truth = np.array([3, 100, 7, 0]).astype(dtype)
  predicted = np.array([5, 90, 7, 1]).astype(dtype)
  pair = truth.astype(float), predicted.astype(float)
  for f in (m.mae, m.rmse, m.r2):
    assert f(truth, predicted) == f(*pair)
  assert m.bland_altman(truth, predicted) == m.bland_altman(*pair)


def test_missing_truths_are_left_out_and_missing_predictions_an_error():
  truth, predicted, _ = _data()
  holes = truth.copy()
  holes[:5, 0] = np.nan
  for f in (m.mae, m.rmse, m.r2, lambda t, p: m.bland_altman(t, p).low):
    assert f(holes, predicted)[0] == pytest.approx(
      f(truth[5:], predicted[5:])[0]
    )
  with pytest.raises(ValueError, match='5 of 80 scores are NaN'):
    m.mae(truth, holes)
  assert np.isnan(m.r2(np.full(4, 0.1), np.arange(4.0)))
