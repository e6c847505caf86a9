"""How well scores rank the cases: areas, curves and thresholds; host, float64.

Truth and scores are (n, k), weights (*r, n), results (*r, k), as in
medjax.metrics.classification, which offers these functions too.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.metrics import inputs
from medjax.metrics.bootstrap import ratio
from medjax.metrics.inputs import Scores, Truth, Weights

Result = Float[np.ndarray, '...']


class _Ranked(NamedTuple):
  """Distinct scores of one class, rising, and the cases at or below each."""

  score: np.ndarray  # (g,)
  positive: np.ndarray  # (*r, g)
  negative: np.ndarray  # (*r, g)


def _rank(truth, score, weights):
  order = np.argsort(score, kind='stable')
  score, truth = score[order], truth[order]
  last = np.append(np.diff(score) > 0, True)
  w = weights[..., order]
  positive, negative = np.cumsum(w * truth, -1), np.cumsum(w * ~truth, -1)
  if not last.all():
    positive, negative = positive[..., last], negative[..., last]
  return _Ranked(score[last], positive, negative)


def _before(cumulative):
  return np.concatenate(
    [np.zeros_like(cumulative[..., :1]), cumulative[..., :-1]], -1
  )


def ranked_rates(
  truth: Truth, score: Scores, *, weights: Weights = None
) -> list[tuple[Result, Result]]:
  """Sensitivity and specificity of each column at each threshold, (*r, g + 1).

  The thresholds rise over the scores that occur, and end with infinity; what
  has a score at or above one is positive.
  """
  truth, score = inputs.truth_and(truth, score, inputs.scores)
  w = inputs.case_weights(weights, len(truth))
  columns = []
  for t, s in zip(truth.T, score.T, strict=True):
    ranked = _rank(t, s, w)
    below = [
      np.concatenate([np.zeros_like(x[..., :1]), x], -1)
      for x in (ranked.positive, ranked.negative)
    ]
    fn, tn = (ratio(x, x[..., -1:]) for x in below)
    columns.append((1 - fn, tn))
  return columns


def _areas(ranked):
  positives, negatives = ranked.positive[..., -1], ranked.negative[..., -1]
  below = _before(ranked.negative)
  tp = positives[..., None] - _before(ranked.positive)
  gained = np.diff(ranked.positive, prepend=0)
  # A positive beats the negatives below it, and half of those at its score.
  beaten = np.einsum('...g,...g', gained, ranked.negative + below) / 2
  # Where nothing was drawn at or above a score, nothing is gained either.
  above = np.maximum(tp + negatives[..., None] - below, 1e-300)
  at_score = np.einsum('...g,...g', gained, tp / above)
  return ratio(beaten, positives * negatives), ratio(at_score, positives)


def areas(
  truth: Truth,
  score: Scores,
  *,
  weights: Weights = None,
) -> tuple[Result, Result]:
  """auroc() and auprc() from one sorting, (*r, k) each."""
  truth, score = inputs.truth_and(truth, score, inputs.scores)
  w = inputs.case_weights(weights, len(truth))
  columns = zip(truth.T, score.T, strict=True)
  each = [_areas(_rank(t, s, w)) for t, s in columns]
  roc, prc = (np.stack(values, -1) for values in zip(*each, strict=True))
  return roc, prc


def auroc(
  truth: Truth,
  score: Scores,
  *,
  weights: Weights = None,
) -> Result:
  """Area under the ROC curve of each class against the rest, (*r, k).

  Ties count one half. NaN for a class with no positives or no negatives. The
  mean over classes is MedMNIST's AUC of a multi-class or multi-label set; of a
  binary set it is the value of class 1.
  """
  return areas(truth, score, weights=weights)[0]


def auprc(
  truth: Truth,
  score: Scores,
  *,
  weights: Weights = None,
) -> Result:
  """Average precision, Σ (recall step · precision), of each class, (*r, k).

  As scikit-learn's average_precision_score: no interpolation. NaN for a class
  with no positives.
  """
  return areas(truth, score, weights=weights)[1]


def roc_curve(truth: Truth, score: Scores) -> tuple[Result, Result, Result]:
  """False positive rate, true positive rate, threshold, from (0, 0) to (1, 1).

  A point's positives are the scores at or above its threshold; the first
  threshold is infinite.
  """
  truth, score = inputs.truth_and(truth, score, inputs.scores)
  ranked = _rank(truth, score, np.ones(len(truth)))
  rates = []
  for below in (ranked.negative, ranked.positive):
    above = below[-1] - _before(below)
    rates.append(ratio(np.append(above, 0)[::-1], below[-1]))
  return *rates, np.append(ranked.score, np.inf)[::-1]


def precision_recall_curve(
  truth: Truth, score: Scores
) -> tuple[Result, Result, Result]:
  """Recall, precision, threshold, from recall 0 (precision 1) to recall 1."""
  truth, score = inputs.truth_and(truth, score, inputs.scores)
  ranked = _rank(truth, score, np.ones(len(truth)))
  tp = ranked.positive[-1] - _before(ranked.positive)
  fp = ranked.negative[-1] - _before(ranked.negative)
  recalls = np.append(ratio(tp, tp[0]), 0)
  precisions = np.append(ratio(tp, tp + fp), 1)
  thresholds = np.append(ranked.score, np.inf)
  return recalls[::-1], precisions[::-1], thresholds[::-1]


def threshold(
  truth: Truth,
  score: Scores,
  *,
  criterion: str = 'youden',
) -> float:
  """Threshold t such that `score > t` is the best decision on these cases.

  'youden' (the default: it does not depend on how common the class is)
  maximises sensitivity + specificity - 1, 'f1' the F1 score. t lies midway
  between two scores; of equals the nearest to one half is taken. NaN when the
  cases are of one class. Choose on validation, never on the test split.
  """
  if criterion not in ('youden', 'f1'):
    raise ValueError(f"criterion is 'youden' or 'f1', not {criterion!r}")
  truth, score = inputs.truth_and(truth, score, inputs.scores)
  if truth.all() or not truth.any():
    return float('nan')
  ranked = _rank(truth, score, np.ones(len(truth)))
  fn, tn = (np.append(0, x) for x in (ranked.positive, ranked.negative))
  tp, fp = fn[-1] - fn, tn[-1] - tn
  if criterion == 'youden':
    value = tp / fn[-1] - fp / tn[-1]
  else:
    value = 2 * tp / (2 * tp + fp + fn)
  low, high = ranked.score[0], ranked.score[-1]
  middles = (ranked.score[1:] + ranked.score[:-1]) / 2
  candidates = np.concatenate([[np.nextafter(low, -np.inf)], middles, [high]])
  best = np.flatnonzero(value >= value.max() - 1e-12)
  return float(candidates[best[np.abs(candidates[best] - 0.5).argmin()]])
