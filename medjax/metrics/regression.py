"""Errors of predicted numbers (age, volume, dose); host, float64.

Truth and predictions are (n,) or (n, k), in one unit; `weights` (*r, n) are
numbers of times that a case counts, as in medjax.metrics.classification, and
results (*r, *k) in that unit. A case whose truth is NaN is left out; a
prediction that is NaN is an error.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real

from medjax.metrics import inputs
from medjax.metrics.bootstrap import ratio, weighted_mean
from medjax.metrics.inputs import Weights

Values = Real[np.ndarray, 'n *k'] | Bool[np.ndarray, 'n *k']
Result = Float[np.ndarray, '...']


def _pair(truth, predicted, weights):
  truth, predicted = np.asarray(truth, float), inputs.scores(predicted)
  inputs.same_shape(truth, predicted, names=('truth', 'predicted'))
  return truth, predicted, inputs.case_weights(weights, len(truth))


def mae(truth: Values, predicted: Values, *, weights: Weights = None) -> Result:
  """Mean absolute error."""
  truth, predicted, w = _pair(truth, predicted, weights)
  return weighted_mean(np.abs(predicted - truth), w)


def rmse(
  truth: Values, predicted: Values, *, weights: Weights = None
) -> Result:
  """Root of the mean squared error."""
  truth, predicted, w = _pair(truth, predicted, weights)
  return np.asarray(np.sqrt(weighted_mean((predicted - truth) ** 2, w)))


def r2(truth: Values, predicted: Values, *, weights: Weights = None) -> Result:
  """Share of the variance of the truth explained: 1 - Σ error² / Σ spread².

  0 is as good as the mean of these cases, below it worse. NaN where the truth
  does not vary. As scikit-learn's r2_score.
  """
  truth, predicted, w = _pair(truth, predicted, weights)
  mean = weighted_mean(truth, w)
  spread = weighted_mean(truth**2, w) - mean**2
  # What rounding leaves of a truth that does not vary is no spread.
  spread = np.where(spread > 1e-12 * mean**2, spread, 0)
  return np.asarray(
    1 - ratio(weighted_mean((predicted - truth) ** 2, w), spread)
  )


class Agreement(NamedTuple):
  """Mean difference (predicted - truth) and the limits of 95 % of them."""

  bias: np.ndarray
  low: np.ndarray
  high: np.ndarray


def bland_altman(
  truth: Values, predicted: Values, *, weights: Weights = None
) -> Agreement:
  """Limits of agreement: bias ± 1.96 standard deviations of the differences.

  Bland & Altman 1986; the deviation has n - 1. NaN limits of one case.
  """
  truth, predicted, w = _pair(truth, predicted, weights)
  difference = predicted - truth
  defined = (~np.isnan(truth)).astype(float)
  n = (w @ defined.reshape(len(truth), -1)).reshape(
    (*w.shape[:-1], *truth.shape[1:])
  )
  bias = weighted_mean(difference, w)
  variance = weighted_mean(difference**2, w) - bias**2
  reach = 1.96 * np.sqrt(ratio(np.maximum(variance, 0) * n, n - 1))
  return Agreement(bias, bias - reach, bias + reach)
