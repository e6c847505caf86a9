"""Classification metrics over a set of cases; host, float64.

Truth and predictions are (n, k): one column per class (one-hot, one against
the rest) or per label of a multi-label task. `weights` (*r, n) are numbers of
times that a case counts; leading axes r give as many results at once, which is
what makes medjax.metrics.bootstrap fast. Without weights every case counts
once. Results are (*r, k), agree with scikit-learn's (sample_weight), and are
NaN where the cases at hand do not define them. A NaN score is an error.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.metrics import inputs
from medjax.metrics.bootstrap import ratio, weighted_mean
from medjax.metrics.inputs import Labels, Scores, Truth, Weights
from medjax.metrics.ranking import (
  areas,
  auprc,
  auroc,
  precision_recall_curve,
  roc_curve,
  threshold,
)

__all__ = [
  'Counts', 'accuracy', 'areas', 'auprc', 'auroc', 'brier',
  'confusion_matrix', 'counts', 'defined_mean', 'ece',
  'f1', 'f_beta', 'false_positive_rate', 'npv', 'one_hot', 'precision',
  'precision_recall_curve', 'recall', 'reliability', 'roc_curve',
  'specificity', 'threshold',
]  # fmt: skip

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


def defined_mean(values: Result, *, where=True) -> Result:
  """Mean over the last axis (classes) of what is not NaN; NaN if none is."""
  defined = ~np.isnan(values) & where
  return ratio(np.where(defined, values, 0).sum(-1), defined.sum(-1))


def class_mean(
  values: Result, known: Bool[np.ndarray, '*m k']
) -> Float[np.ndarray, '...']:
  """Mean over the last axis (classes) of those that are known, NaN with them.

  Of a resample that misses a rare class it is NaN, where `defined_mean` would
  go on with the others, and measure something else.
  """
  known = np.broadcast_to(known, np.shape(values))
  return ratio(np.where(known, values, 0).sum(-1), known.sum(-1))


def _floats(c):
  """Counts as floats: small unsigned ones would wrap in a sum."""
  return Counts(*(np.asarray(x, float) for x in c))


# ---- decisions


def counts(
  truth: Truth,
  predicted: Truth,
  *,
  weights: Weights = None,
) -> Counts:
  """Counts of each class against the rest."""
  truth, predicted = map(
    np.asarray, inputs.masks(truth, predicted, names=_NAMES)
  )
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
  truth, predicted = map(
    np.asarray, inputs.masks(truth, predicted, names=_NAMES)
  )
  right = (truth == predicted).astype(float)
  return weighted_mean(right, inputs.case_weights(weights, len(truth)))


def precision(c: Counts) -> Result:
  """TP / (TP + FP), positive predictive value.

  A class that has cases and is never predicted scores 0; NaN when it has none
  and is never predicted.
  """
  c = _floats(c)
  predicted = c.tp + c.fp
  return ratio(c.tp, np.where(predicted > 0, predicted, c.fn))


def recall(c: Counts) -> Result:
  """TP / (TP + FN), sensitivity; NaN for a class without cases."""
  c = _floats(c)
  return ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> Result:
  """TN / (TN + FP); NaN when every case is of the class."""
  c = _floats(c)
  return ratio(c.tn, c.tn + c.fp)


def f1(c: Counts) -> Result:
  """2 TP / (2 TP + FP + FN); NaN when absent and never predicted."""
  c = _floats(c)
  return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def npv(c: Counts) -> Result:
  """TN / (TN + FN), negative predictive value.

  NaN when every case is of the class and found, 0 when none is and all are
  called it, as precision() of the rest.
  """
  c = _floats(c)
  predicted = c.tn + c.fn
  return ratio(c.tn, np.where(predicted > 0, predicted, c.fp))


def false_positive_rate(c: Counts) -> Result:
  """FP / (FP + TN) = 1 - specificity; NaN when every case is of the class."""
  c = _floats(c)
  return ratio(c.fp, c.fp + c.tn)


def f_beta(c: Counts, *, beta) -> Result:
  """F score that holds recall beta times as important as precision.

  (1 + β²) TP / ((1 + β²) TP + β² FN + FP); NaN when absent and never predicted.
  """
  if not beta > 0:
    raise ValueError(f'beta must be positive, not {beta}')
  c = _floats(c)
  found = (1 + beta**2) * c.tp
  return ratio(found, found + beta**2 * c.fn + c.fp)


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
    ratio(w @ (member * confidence[:, None]), number),
    ratio(w @ (member * correct[:, None]), number),
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
  return ratio((gap * number).sum(-1), number.sum(-1))
