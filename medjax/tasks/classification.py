"""Classification: one of K classes, or any of K labels, for a whole image."""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from medjax.metrics import bootstrap, calibration, classification
from medjax.metrics.classification import defined_mean
from medjax.tasks import objective, summary

DECISIONS = ('precision', 'recall', 'specificity', 'f1')
RANKINGS = ('auroc', 'auprc')
# Higher is better.
MONITORS = ('accuracy', 'balanced_accuracy', *DECISIONS, *RANKINGS)
_CURVE_POINTS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
  """Softmax over num_classes, or with multi_label num_classes sigmoids.

  A binary task is num_classes=2, class 1 the positive one.

  loss: names in medjax.losses and their weights; by default cross-entropy
    (binary with multi_label).
  class_weights, label_smoothing: given to the losses that take them.
  aux_weight: of an auxiliary head's loss beside that of the main one, as
    torchvision trains Inception v3 (Szegedy et al. 2015 had 0.3).
  class_names: num_classes names.
  monitor: the score by which the best checkpoint is chosen.
  """

  dense: ClassVar = False  # predicts a vector, not a map
  num_classes: int
  # The method of this name stands in as the default; see __post_init__.
  loss: dataclasses.InitVar[Any]
  multi_label: bool = False
  class_weights: tuple[float, ...] = ()
  label_smoothing: float = 0.0
  aux_weight: float = 0.4
  class_names: tuple[str, ...] = ()
  monitor: str = 'auroc'
  terms: tuple = dataclasses.field(init=False)

  def __post_init__(self, loss):
    for name in ('class_weights', 'class_names'):
      value = objective.frozen(getattr(self, name))
      object.__setattr__(self, name, value)
      if len(value) not in (0, self.num_classes):
        raise ValueError(
          f'{name} has {len(value)} entries, not num_classes={self.num_classes}'
        )
    if self.num_classes < 2 and not self.multi_label:
      raise ValueError('num_classes must be at least 2: a binary task has 2')
    if not 0 <= self.label_smoothing < 1:
      raise ValueError(f'label_smoothing={self.label_smoothing} not in [0, 1)')
    summary.check_monitor(self.monitor, MONITORS)
    entropy = 'binary_cross_entropy' if self.multi_label else 'cross_entropy'
    if callable(loss) or loss is None:
      loss = {entropy: 1.0}
    terms = objective.parse(loss)
    objective.check_entropy(terms, entropy)
    for option in self._options():
      if not objective.takes(terms, option):
        raise ValueError(f'none of the losses takes {option}')
    object.__setattr__(self, 'terms', terms)

  def _options(self):
    options = {
      'class_weights': self.class_weights,
      'label_smoothing': self.label_smoothing,
    }
    return {k: v for k, v in options.items() if v}

  @property
  def num_outputs(self):
    """Channels that the model must give."""
    return self.num_classes

  @property
  def names(self):
    """Names of the classes: class_names, or their indices."""
    return self.class_names or tuple(map(str, range(self.num_classes)))

  @property
  def exclusive(self):
    """Whether the probabilities are one distribution, not one for each."""
    return not self.multi_label

  @property
  def _binary(self):
    return self.num_classes == 2 and not self.multi_label

  def loss(self, outputs, batch):
    """Weighted sum of the losses: (b,).

    outputs: logits (b, K), or a tuple of them: those of the auxiliary heads
    after the main one's. batch['label']: (b,) class indices, or (b, K)
    multi-hot or soft labels.
    """
    label = batch['label']
    if self.multi_label and label.ndim != 2:
      raise ValueError('multi_label needs labels (b, K), one column per label')
    options = {**self._options(), 'multi_label': self.multi_label}

    def loss(logits):
      return objective.evaluate(self.terms, logits, label, **options)

    weights = lambda heads: (1.0, *[self.aux_weight] * (heads - 1))
    return objective.over_heads(loss, outputs, weights, self.num_classes)

  def predict(self, outputs):
    """Probabilities (b, K), float32, of the main head."""
    logits = objective.main_head(outputs)
    if self.multi_label:
      return jax.nn.sigmoid(logits)
    return jax.nn.softmax(logits)

  def decode(self, probabilities):
    """Class index (…,), or with multi_label the labels above 1/2 (…, K)."""
    probabilities = np.asarray(probabilities)
    if self.multi_label:
      return (probabilities > 0.5).astype(np.uint8)
    return probabilities.argmax(-1).astype(np.int32)

  def check(self, case):
    """Raises ValueError, one line with the id, for a label it cannot use."""
    where = f'case {case.get("id")!r}'
    if 'label' not in case:
      raise ValueError(f'{where} has no label')
    label = np.asarray(case['label'])
    shape = (self.num_classes,) if self.multi_label else ()
    if label.shape != shape:
      raise ValueError(f'{where}: label has shape {label.shape}, not {shape}')
    highest = 1 if self.multi_label else self.num_classes - 1
    whole = label.astype(int)
    if (whole != label).any() or (whole < 0).any() or (whole > highest).any():
      raise ValueError(
        f'{where}: label {label.tolist()} is not in 0 to {highest}'
      )

  def metrics(self, prediction, case):
    """{'probability': (K,), 'label': () or (K,)} of one case."""
    self.check(case)
    probability = np.asarray(prediction, np.float64)
    if probability.shape != (self.num_classes,):
      raise ValueError(
        f'case {case.get("id")!r}: prediction has shape {probability.shape}, '
        f'not {(self.num_classes,)}'
      )
    if not np.isfinite(probability).all():
      raise ValueError(f'case {case.get("id")!r}: probability is not finite')
    return {
      'probability': probability,
      'label': np.asarray(case['label']).astype(np.int32),
    }

  def summarize(
    self, rows, *, thresholds=None, temperature=None, seed=0, n_resamples=1000
  ):
    """Scores with 95 % bootstrap intervals by patient, JSON-able.

    rows: metrics() of each case with id and patient. Decisions are the
    likeliest class, or labels above 1/2. Precision, recall, specificity, F1,
    AUROC and AUPRC are those of class 1 for a binary task, otherwise the mean
    over the classes that define them (one against the rest, as MedMNIST's
    evaluator). Balanced accuracy: mean recall of the classes. Brier: as
    medjax.metrics.classification.brier says, the mean over labels. ECE: of the
    likeliest class, or the mean over labels; 15 bins. NLL: natural logarithm,
    the mean over labels.

    'thresholds' in the result are these cases' own, by Youden's index: one for
    a binary task, one per label, None for more classes. Given back as
    `thresholds` for another split, every decision score is reported as
    <name>_at_threshold too. 'temperature' likewise: given back, NLL, Brier and
    ECE are reported as <name>_calibrated too (medjax.metrics.calibration).
    n_resamples=0 leaves the intervals out (None).
    """
    groups = summary.patients(rows)
    cases = _Cases(self, rows)
    rules = {'': cases.decide(None)}
    if thresholds is not None:
      rules['_at_threshold'] = cases.decide(thresholds)

    def statistic(weights):
      return cases.statistics(rules, temperature, weights)

    point = statistic(np.ones(len(rows)))
    bounds = bootstrap.intervals(
      statistic, groups, n_resamples=n_resamples, seed=seed
    )
    per_class = point.pop('classes')
    undefined = np.where(np.isnan(per_class), len(rows), 0)
    c = classification.counts(cases.truth, rules[''])
    result = {
      'n': len(rows),
      'patients': len(set(groups)),
      'scores': point,
      'intervals': {name: bounds[name] for name in point},
      'classes': summary.classes(
        self.names,
        (*DECISIONS, *RANKINGS),
        per_class,
        bounds['classes'],
        len(rows) - undefined,
        {'undefined': undefined, 'missed': c.fn, 'false_positive': c.fp},
      ),
      'support': dict(zip(self.names, cases.truth.sum(0), strict=True)),
      'report': classification.classification_report(
        cases.truth, rules[''], class_names=self.names
      ),
      'thresholds': cases.thresholds(),
      'applied_thresholds': thresholds,
      'temperature': calibration.temperature(
        cases.truth, cases.probability, exclusive=self.exclusive
      ),
      'applied_temperature': temperature,
      'curves': cases.curves(),
    }
    for suffix, predicted in rules.items():
      result[f'confusion{suffix}'] = cases.confusion(predicted)
    return summary.plain(result)


class _Cases:
  """Rows as arrays, and what the task reads off them."""

  def __init__(self, task, rows):
    self.task = task
    self.probability = np.stack(
      [np.asarray(row['probability'], float) for row in rows]
    )
    self.label = np.stack([np.asarray(row['label']) for row in rows])
    if task.multi_label:
      self.truth = self.label > 0
    else:
      self.truth = classification.one_hot(self.label, task.num_classes)

  def decide(self, thresholds):
    """Decisions (n, K), one-hot; the default rule where a threshold is None."""
    if thresholds is not None:
      t = np.array([0.5 if v is None else v for v in thresholds], float)
      if self.task.multi_label:
        return self.probability > t
      if self.task._binary:
        positive = self.probability[:, 1] > t[0]
        return np.stack([~positive, positive], -1)
      raise ValueError('thresholds are for binary and multi-label tasks')
    decided = self.task.decode(self.probability)
    if self.task.multi_label:
      return decided > 0
    return classification.one_hot(decided, self.task.num_classes)

  def headline(self, per_class):
    """One number of (…, K): class 1 of two, else the mean of the defined."""
    return per_class[..., 1] if self.task._binary else defined_mean(per_class)

  def statistics(self, rules, temperature, weights):
    """Scores (*r,) by name, and 'classes' (*r, metrics, K), of the weights."""
    result, table = {}, []
    for suffix, predicted in rules.items():
      scores, per_class = self._decision(predicted, weights)
      result |= {f'{name}{suffix}': v for name, v in scores.items()}
      table = table or per_class
    ranked = classification.areas(self.truth, self.probability, weights=weights)
    for name, per_class in zip(RANKINGS, ranked, strict=True):
      result[name] = self.headline(per_class)
      table.append(per_class)
    result |= self._calibration(self.probability, weights)
    if temperature is not None:
      probability = calibration.scaled(
        self.probability, temperature, exclusive=self.task.exclusive
      )
      scores = self._calibration(probability, weights)
      result |= {f'{name}_calibrated': v for name, v in scores.items()}
    return result | {'classes': np.stack(table, -2)}

  def _decision(self, predicted, weights):
    c = classification.counts(self.truth, predicted, weights=weights)
    table = {name: getattr(classification, name)(c) for name in DECISIONS}
    per_label = classification.accuracy(self.truth, predicted, weights=weights)
    if self.task.multi_label:
      accuracy = per_label.mean(-1)
      balanced = defined_mean((table['recall'] + table['specificity']) / 2)
    else:
      # A wrong decision is wrong in two of the one-hot columns.
      accuracy = 1 - (1 - per_label).sum(-1) / 2
      balanced = defined_mean(table['recall'])
    scores = {'accuracy': accuracy, 'balanced_accuracy': balanced}
    scores |= {name: self.headline(v) for name, v in table.items()}
    return scores, list(table.values())

  def _calibration(self, probability, weights):
    """Scores of the probabilities themselves."""
    return {
      'brier': self._brier(probability, weights),
      'ece': self._ece(probability, weights),
      'nll': calibration.nll(
        self.truth, probability, exclusive=self.task.exclusive, weights=weights
      ),
    }

  def _brier(self, probability, weights):
    each = classification.brier(self.truth, probability, weights=weights)
    if self.task.multi_label:
      return each.mean(-1)
    return each[..., 1] if self.task._binary else each.sum(-1)

  def _ece(self, probability, weights):
    if self.task.multi_label:
      columns = zip(probability.T, self.truth.T, strict=True)
    else:
      right = self.truth[np.arange(len(self.truth)), probability.argmax(1)]
      columns = [(probability.max(1), right)]
    each = [classification.ece(p, t, weights=weights) for p, t in columns]
    return np.mean(each, 0)

  def thresholds(self):
    """Thresholds these cases would choose, NaN where they cannot."""
    if self.task._binary:
      columns = [1]
    elif self.task.multi_label:
      columns = range(self.task.num_classes)
    else:
      return None
    return [
      classification.threshold(self.truth[:, k], self.probability[:, k])
      for k in columns
    ]

  def confusion(self, predicted):
    """K x K, rows true; multi-label: 2 x 2 per label, absent before present."""
    if not self.task.multi_label:
      matrix = classification.confusion_matrix(
        self.label, predicted.argmax(-1), num_classes=self.task.num_classes
      )
      return matrix.astype(int)
    c = classification.counts(self.truth, predicted)
    cells = np.stack([c.tn, c.fp, c.fn, c.tp], -1)
    return cells.reshape(-1, 2, 2).astype(int)

  def curves(self):
    """ROC, precision-recall and reliability by class, for the report.

    A binary task's are of class 1 only. A class without positives or without
    negatives has none.
    """
    result = {}
    for k, name in enumerate(self.task.names):
      truth, score = self.truth[:, k], self.probability[:, k]
      if (self.task._binary and k == 0) or truth.all() or not truth.any():
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
