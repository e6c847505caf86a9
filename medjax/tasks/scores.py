"""Scores of a classification: its table of metrics, and what it is read off.

A metric is a row of one of the tables below, and then in every report.
"""

import copy
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.metrics import agreement, calibration, classification
from medjax.metrics.classification import defined_mean
from medjax.tasks import summary
from medjax.tasks.task import Measure

_CURVE_POINTS = 200


class Decided(NamedTuple):
  """Decisions (n, K) and what the classes score by them."""

  cases: 'Scores'
  decisions: np.ndarray
  by_class: dict[str, Float[np.ndarray, '*r k']]
  weights: np.ndarray


def _accuracy(d):
  each = d.cases.each(classification.accuracy, d.decisions, d.weights)
  if d.cases.task.multi_label:
    return d.cases.mean(each)
  # A wrong decision is wrong in two of the one-hot columns.
  return 1 - (1 - each).sum(-1) / 2


def _balanced_accuracy(d):
  recall = d.by_class['recall']
  if d.cases.task.multi_label:
    return d.cases.mean((recall + d.by_class['specificity']) / 2)
  return d.cases.mean(recall)


def _mcc(d):
  """Of all classes at once; of labels the mean over those that define it."""
  if d.cases.task.multi_label:
    counts = d.cases.each(classification.counts, d.decisions, d.weights)
    return d.cases.mean(agreement.mcc(agreement.one_against_rest(counts)))
  truth, decided = d.cases.truth.astype(float), d.decisions.astype(float)
  matrix = np.einsum('...n,nk,nj->...kj', d.weights, truth, decided)
  return agreement.mcc(matrix)


def _brier(cases, probability, weights):
  each = cases.each(classification.brier, probability, weights)
  if cases.task.multi_label:
    return cases.mean(each)
  return each[..., 1] if cases.task.binary else each.sum(-1)


def _ece(cases, probability, weights):
  if cases.task.multi_label:
    each = cases.each(calibration.classwise_ece, probability, weights)
    return cases.mean(each)
  decided = np.arange(len(probability)), cases.task.decode(probability)
  confidence, right = probability[decided], cases.truth[decided]
  return classification.ece(confidence, right, weights=weights)


def _nll(cases, probability, weights):
  def of_labels(truth, probability, *, weights):
    options = dict(exclusive=cases.task.exclusive, weights=weights)
    return calibration.nll(truth, probability, **options)[..., None]

  return cases.mean(cases.each(of_labels, probability, weights))


# Of decisions: one number of `Decided`.
ACCURACIES = {
  'accuracy': Measure(_accuracy, 'Accuracy'),
  'balanced_accuracy': Measure(_balanced_accuracy, 'Balanced accuracy'),
  'mcc': Measure(_mcc, 'Matthews correlation'),
}
# Of decisions by class: (*r, K) of classification.Counts.
DECISIONS = {
  'precision': Measure(classification.precision, 'Precision'),
  'recall': Measure(classification.recall, 'Recall (sensitivity)'),
  'specificity': Measure(classification.specificity, 'Specificity'),
  'f1': Measure(classification.f1, 'F1'),
  'npv': Measure(classification.npv, 'Negative predictive value'),
}
# Of probabilities by class: (*r, K) of classification.areas, one sorting.
RANKINGS = {
  'auroc': Measure(lambda areas: areas[0], 'AUROC'),
  'auprc': Measure(lambda areas: areas[1], 'AUPRC'),
}
# Of probabilities: one number of `Scores`, probabilities and weights.
PROBABILITIES = {
  'brier': Measure(_brier, 'Brier score', higher=False),
  'ece': Measure(_ece, 'ECE', higher=False),
  'nll': Measure(_nll, 'Negative log-likelihood', 'nats', False),
}
# All of them, the most wanted first.
MEASURES = {**RANKINGS, **ACCURACIES, **DECISIONS, **PROBABILITIES}
BY_CLASS = (*DECISIONS, *RANKINGS)


class Scores:
  """Rows as arrays, and what a task reads off them.

  A label of -1 is not known: its case does not count for that label. `known`
  (n, K) says which are, None where all are.
  """

  mean = staticmethod(defined_mean)  # over classes

  def __init__(self, task, rows):
    self.task = task
    self.probability = np.stack(
      [np.asarray(row['probability'], float) for row in rows]
    )
    self.label = np.stack([np.asarray(row['label']) for row in rows])
    self.patients = summary.patients(rows)
    self.known = None
    if task.multi_label:
      self.truth = self.label > 0
      if (self.label < 0).any():
        self.known = self.label >= 0
    else:
      self.truth = classification.one_hot(self.label, task.num_classes)
    names = getattr(task, 'more_measures', ())  # 'mine.metric:f'
    self._more = [name.partition(':')[2] for name in names]

  def each(self, function, other, weights):
    """function(truth, other, weights=…) (*r, K), of the cases that tell it."""
    if self.known is None:
      return function(self.truth, other, weights=weights)
    w = np.ones(len(self.truth)) if weights is None else weights
    found = [
      function(self.truth[:, [k]], other[:, [k]], weights=w * known)
      for k, known in enumerate(self.known.T)
    ]
    if not isinstance(found[0], tuple):
      return np.concatenate(found, -1)
    kind = getattr(found[0], '_make', tuple)
    return kind(np.concatenate(part, -1) for part in zip(*found, strict=True))

  def column(self, k):
    """Truth and probability of a class, of the cases that tell it."""
    kept = slice(None) if self.known is None else self.known[:, k]
    return self.truth[kept, k], self.probability[kept, k]

  def temperature(self):
    """The temperature that these cases choose."""
    truth, probability = self.truth, self.probability
    if self.known is not None:  # a label is as good as a case
      truth, probability = truth[self.known], probability[self.known]
      truth, probability = truth[:, None], probability[:, None]
    return calibration.temperature(
      truth, probability, exclusive=self.task.exclusive
    )

  def decide(self, thresholds):
    """Decisions (n, K), one-hot; the default rule where a threshold is None."""
    if thresholds is not None:
      t = np.array([0.5 if v is None else v for v in thresholds], float)
      if self.task.multi_label:
        return self.probability > t
      if self.task.binary:
        k = self.task.positive_class
        positive = self.probability[:, k] > t[0]
        return np.stack([positive, ~positive] if k == 0 else
                        [~positive, positive], -1)  # fmt: skip
      raise ValueError('thresholds are for binary and multi-label tasks')
    decided = self.task.decode(self.probability)
    if self.task.multi_label:
      return decided > 0
    return classification.one_hot(decided, self.task.num_classes)

  def headline(self, per_class):
    """One number of (…, K): the positive class's, or the defined's mean."""
    if self.task.binary:
      return per_class[..., self.task.positive_class]
    return self.mean(per_class)

  def resampled(self, rules, temperature, weights):
    """`statistics` of which each mean is over the classes of all cases.

    NaN where a resample misses one of them: without it, another thing would be
    measured.
    """
    lead = np.concatenate([np.ones((1, weights.shape[-1])),
                           np.atleast_2d(weights)])  # fmt: skip
    cases = copy.copy(self)
    cases.mean = lambda x: classification.class_mean(x, ~np.isnan(x[:1]))
    found = cases.statistics(rules, temperature, lead)
    shape = weights.shape[:-1]
    return {k: v[1:].reshape(shape + v.shape[1:]) for k, v in found.items()}

  def statistics(self, rules, temperature, weights):
    """Scores (*r,) by name, and 'classes' (*r, metrics, K), of the weights."""
    result, table = {}, []
    for suffix, predicted in rules.items():
      counts = self.each(classification.counts, predicted, weights)
      by_class = {k: m.function(counts) for k, m in DECISIONS.items()}
      decided = Decided(self, predicted, by_class, weights)
      for name, measure in ACCURACIES.items():
        result[f'{name}{suffix}'] = measure.function(decided)
      for name, values in by_class.items():
        result[f'{name}{suffix}'] = self.headline(values)
      table = table or [*by_class.values()]
    areas = self.each(classification.areas, self.probability, weights)
    for name, measure in RANKINGS.items():
      values = measure.function(areas)
      result[name] = self.headline(values)
      table.append(values)
    result |= self._of_probabilities(self.probability, weights)
    for name in self._more:
      result[name] = self.task.measures[name].function(self, weights)
    if temperature is not None:
      probability = calibration.scaled(
        self.probability, temperature, exclusive=self.task.exclusive
      )
      scores = self._of_probabilities(probability, weights)
      result |= {f'{name}_calibrated': v for name, v in scores.items()}
    return result | {'classes': np.stack(table, -2)}

  def _of_probabilities(self, probability, weights):
    return {
      name: measure.function(self, probability, weights)
      for name, measure in PROBABILITIES.items()
    }

  def thresholds(self):
    """Thresholds that these cases choose, NaN where they cannot."""
    if self.task.binary:
      columns = [self.task.positive_class]
    elif self.task.multi_label:
      columns = range(self.task.num_classes)
    else:
      return None
    return [classification.threshold(*self.column(k)) for k in columns]

  def confusion(self, predicted):
    """K x K, rows true; multi-label: 2 x 2 per label, absent before present."""
    if not self.task.multi_label:
      matrix = classification.confusion_matrix(
        self.label, predicted.argmax(-1), num_classes=self.task.num_classes
      )
      return matrix.astype(int)
    c = self.each(classification.counts, predicted, None)
    cells = np.stack([c.tn, c.fp, c.fn, c.tp], -1)
    return cells.reshape(-1, 2, 2).astype(int)

  def curves(self):
    """ROC, precision-recall and reliability by class, for the report.

    A binary task's are of the positive class only. A class without positives
    or without negatives has none.
    """
    result = {}
    for k, name in enumerate(self.task.names):
      truth, score = self.column(k)
      if self.task.binary and k != self.task.positive_class:
        continue
      if truth.all() or not truth.any():
        continue
      fpr, tpr, _ = classification.roc_curve(truth, score)
      recall, precision, _ = classification.precision_recall_curve(truth, score)
      confidence, share, number = classification.reliability(score, truth)
      result[name] = {
        'roc': {'fpr': _thin(fpr), 'tpr': _thin(tpr)},
        'precision_recall': {
          'recall': _thin(recall),
          'precision': _thin(precision),
        },
        'reliability': {
          'confidence': confidence,
          'frequency': share,
          'count': number.astype(int),
        },
      }
    return result


def _thin(points):
  """At most _CURVE_POINTS of a curve, its ends kept."""
  size = min(len(points), _CURVE_POINTS)
  return points[np.linspace(0, len(points) - 1, size).round().astype(int)]
