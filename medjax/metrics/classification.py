"""Classification metrics over a set of cases; host, float64.

Truth and predictions are (n, k): one column per class (one-hot, one against
the rest) or per label of a multi-label task. `weights` (*r, n) are numbers of
times that a case counts; leading axes r give as many results at once, which is
what makes medjax.metrics.bootstrap fast. Without weights every case counts
once. Results are (*r, k), agree with scikit-learn's (sample_weight), and are
NaN where the cases at hand do not define them. A NaN score is an error.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.metrics import inputs
from medjax.metrics.bootstrap import weighted_mean
from medjax.metrics.inputs import Labels, Scores, Truth, Weights

Result = Float[np.ndarray, '...']

_NAMES = ('truth', 'predicted')


class Counts(NamedTuple):
  """Cases per class, (*r, k) each: true/false positive/negative."""

  tp: np.ndarray
  fp: np.ndarray
  fn: np.ndarray
  tn: np.ndarray


def one_hot(label: Labels, num_classes: int) -> Bool[np.ndarray, 'n k']:
  """Class indices (n,) as one column per class."""
  label = np.asarray(inputs.labels(label, num_classes=num_classes))
  return label[:, None] == np.arange(num_classes)


def _ratio(numerator, denominator):
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.where(denominator > 0, numerator / denominator, np.nan)


def defined_mean(values: Result, *, where=True) -> Result:
  """Mean over the last axis (classes) of what is not NaN; NaN if none is."""
  defined = ~np.isnan(values) & where
  return _ratio(np.where(defined, values, 0).sum(-1), defined.sum(-1))


# ---- decisions


def counts(
  truth: Truth,
  predicted: Truth,
  *,
  weights: Weights = None,
) -> Counts:
  """Counts of each class against the rest."""
  truth, predicted = inputs.masks(truth, predicted, names=_NAMES)
  w = inputs.case_weights(weights, len(truth))
  cells = (
    truth & predicted, ~truth & predicted, truth & ~predicted,
    ~truth & ~predicted,
  )  # fmt: skip
  return Counts(*(w @ cell.astype(float) for cell in cells))


def confusion_matrix(
  label: Labels,
  predicted: Labels,
  *,
  num_classes: int,
  weights: Weights = None,
) -> Result:
  """Rows: true class, columns: predicted class; (*r, K, K)."""
  w = inputs.case_weights(weights, len(label))
  label, predicted = (
    np.asarray(inputs.labels(x, num_classes=num_classes, name=name))
    for x, name in ((label, 'label'), (predicted, 'predicted'))
  )
  inputs.same_shape(label, predicted, names=('label', 'predicted'))
  cells = one_hot(label * num_classes + predicted, num_classes**2)
  flat = w @ cells.astype(float)
  return flat.reshape(*flat.shape[:-1], num_classes, num_classes)


def accuracy(
  truth: Truth,
  predicted: Truth,
  *,
  weights: Weights = None,
) -> Result:
  """Share of right decisions, (*r, k): each class or label against the rest.

  The mean over labels is what MedMNIST calls ACC of a multi-label set.
  """
  truth, predicted = inputs.masks(truth, predicted, names=_NAMES)
  right = (truth == predicted).astype(float)
  return weighted_mean(right, inputs.case_weights(weights, len(truth)))


def precision(c: Counts) -> Result:
  """TP / (TP + FP), positive predictive value.

  A class that has cases and is never predicted scores 0; NaN when it has none
  and is never predicted.
  """
  predicted = c.tp + c.fp
  return _ratio(c.tp, np.where(predicted > 0, predicted, c.fn))


def recall(c: Counts) -> Result:
  """TP / (TP + FN), sensitivity; NaN for a class without cases."""
  return _ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> Result:
  """TN / (TN + FP); NaN when every case is of the class."""
  return _ratio(c.tn, c.tn + c.fp)


def f1(c: Counts) -> Result:
  """2 TP / (2 TP + FP + FN); NaN when absent and never predicted."""
  return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def classification_report(
  truth: Truth,
  predicted: Truth,
  *,
  class_names: Sequence[str],
) -> dict[str, dict[str, float]]:
  """Precision, recall, f1 and support per class, macro and weighted means.

  scikit-learn's classification_report as a dict, but values that precision(),
  recall() and f1() call NaN are left out of the means instead of counting as 0.
  """
  c = counts(truth, predicted)
  support = c.tp + c.fn
  columns = {'precision': precision(c), 'recall': recall(c), 'f1': f1(c)}
  report = {
    name: {m: float(v[i]) for m, v in columns.items()}
    | {'support': int(support[i])}
    for i, name in enumerate(class_names)
  }
  total = {'support': int(support.sum())}
  report['macro average'] = {
    m: float(defined_mean(v)) for m, v in columns.items()
  } | total
  report['weighted average'] = {
    m: float(weighted_mean(v, support)) for m, v in columns.items()
  } | total
  return report


# ---- ranking


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
  return _ratio(beaten, positives * negatives), _ratio(at_score, positives)


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
    rates.append(_ratio(np.append(above, 0)[::-1], below[-1]))
  return *rates, np.append(ranked.score, np.inf)[::-1]


def precision_recall_curve(
  truth: Truth, score: Scores
) -> tuple[Result, Result, Result]:
  """Recall, precision, threshold, from recall 0 (precision 1) to recall 1."""
  truth, score = inputs.truth_and(truth, score, inputs.scores)
  ranked = _rank(truth, score, np.ones(len(truth)))
  tp = ranked.positive[-1] - _before(ranked.positive)
  fp = ranked.negative[-1] - _before(ranked.negative)
  recalls = np.append(_ratio(tp, tp[0]), 0)
  precisions = np.append(_ratio(tp, tp + fp), 1)
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


# ---- calibration


def brier(
  truth: Truth,
  probability: Scores,
  *,
  weights: Weights = None,
) -> Result:
  """Mean squared error of each column's probability, (*r, k).

  The usual binary score is that of column 1; the multi-class score (Brier
  1950, 0 to 2) is the sum over classes, that of scikit-learn.
  """
  truth, p = inputs.truth_and(truth, probability, inputs.probabilities)
  return weighted_mean(
    (p - truth) ** 2, inputs.case_weights(weights, len(truth))
  )


def _bin(confidence, bins):
  """Bins (i/bins, (i+1)/bins]; 0 falls in the first."""
  return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def reliability(
  confidence: Scores,
  correct: Truth,
  *,
  bins: int = 15,
  weights: Weights = None,
) -> tuple[Result, Result, Result]:
  """Mean confidence, share correct and number of cases, per bin: (*r, bins).

  Bins of equal width over [0, 1]; NaN for an empty one.
  """
  correct, confidence = inputs.truth_and(
    correct, confidence, inputs.probabilities
  )
  w = inputs.case_weights(weights, len(confidence))
  member = one_hot(_bin(confidence, bins), bins).astype(float)
  number = w @ member
  return (
    _ratio(w @ (member * confidence[:, None]), number),
    _ratio(w @ (member * correct[:, None]), number),
    number,
  )


def ece(
  confidence: Scores,
  correct: Truth,
  *,
  bins: int = 15,
  weights: Weights = None,
) -> Result:
  """Expected calibration error, Σ share of bin · |correct - confidence|.

  Guo et al. 2017, eq. 3, 15 bins of equal width. Multi-class: confidence is
  the largest probability and correct whether that class is right.
  """
  confidence, share, number = reliability(
    confidence, correct, bins=bins, weights=weights
  )
  gap = np.where(number > 0, np.abs(confidence - share), 0)
  return _ratio((gap * number).sum(-1), number.sum(-1))
