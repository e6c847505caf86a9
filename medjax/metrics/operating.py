"""Points of operation: what a score is worth at a chosen threshold.

Truth and scores are (n, k), results (*r, k), and `weights` (*r, n) as in
medjax.metrics.classification. A score is positive at or above a threshold.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.metrics import inputs
from medjax.metrics.inputs import Scores, Truth, Weights
from medjax.metrics.ranking import ranked_rates

Result = Float[np.ndarray, '...']

_SLACK = 1e-12  # of shares: 0.9 is reached by 9 of 10


def _best(truth, score, given, least, weights, *, swap):
  if not 0 <= least <= 1:
    raise ValueError(f'{given} must be from 0 to 1, not {least}')
  columns = []
  for rates in ranked_rates(truth, score, weights=weights):
    wanted, held = rates[::-1] if swap else rates
    # The point at infinity or below all, always there, has one of them 1.
    best = np.where(held >= least - _SLACK, wanted, -1).max(-1)
    undefined = np.isnan(wanted).any(-1) | np.isnan(held).any(-1)
    columns.append(np.where(undefined, np.nan, best))
  return np.stack(columns, -1)


def sensitivity_at_specificity(
  truth: Truth, score: Scores, *, specificity, weights: Weights = None
) -> Result:
  """Best sensitivity of the thresholds that keep the specificity, (*r, k).

  Of thresholds that occur, without interpolation. NaN for a class with no
  positives or no negatives.
  """
  return _best(truth, score, 'specificity', specificity, weights, swap=False)


def specificity_at_sensitivity(
  truth: Truth, score: Scores, *, sensitivity, weights: Weights = None
) -> Result:
  """Best specificity of the thresholds that keep the sensitivity, (*r, k)."""
  return _best(truth, score, 'sensitivity', sensitivity, weights, swap=True)


class NetBenefit(NamedTuple):
  """Net benefit per case at each threshold, (*r, t); treating none is 0."""

  model: np.ndarray
  treat_all: np.ndarray


def net_benefit(
  truth: Truth, probability: Scores, *, thresholds, weights: Weights = None
) -> NetBenefit:
  """A decision curve: true positives less the false ones at their price.

  Vickers & Elkin 2006: TP / n - FP / n · t / (1 - t), for one column (n,), with
  who has a probability of t or more treated. t is the risk at which treating
  and not treating are worth the same; thresholds (t,) lie in [0, 1).
  """
  truth, p = inputs.truth_and(truth, probability, inputs.probabilities)
  if truth.ndim != 1:
    raise ValueError(f'a decision curve is of one column, not {truth.shape}')
  t = np.atleast_1d(np.asarray(thresholds, float))
  if not ((t >= 0) & (t < 1)).all():
    raise ValueError(f'thresholds must be from 0 to below 1, not {t.tolist()}')
  w = inputs.case_weights(weights, len(truth))
  n = w.sum(-1)[..., None]
  treated, price = p[:, None] >= t, t / (1 - t)

  def benefit(treated):
    tp = w @ (treated & truth[:, None]).astype(float)
    fp = w @ (treated & ~truth[:, None]).astype(float)
    return (tp - fp * price) / n

  return NetBenefit(benefit(treated), benefit(np.ones_like(treated)))
