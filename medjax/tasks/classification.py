"""Classification: one of K classes, or any of K labels, for a whole image."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import numpy as np

from medjax.files import plain
from medjax.metrics import bootstrap, classification
from medjax.metrics import calibration as calibration_lib
from medjax.metrics.conformal import METHODS, check_level
from medjax.tasks import objective, sets, summary
from medjax.tasks.graph import Graph
from medjax.tasks.scores import BY_CLASS, MEASURES, Scores
from medjax.tasks.task import Calibration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
  """Softmax over num_classes, or with multi_label num_classes sigmoids.

  A binary task is num_classes=2; one of the classes is the positive one.

  loss: names in medjax.losses and their weights; by default cross-entropy
    (binary with multi_label).
  inputs: fields of a case that the model is called with, the image first:
    ('image', 'covariates') of `Fusion`.
  class_weights, label_smoothing: given to the losses that take them.
  aux_weight: of an auxiliary head's loss beside that of the main one, as
    torchvision trains Inception v3 (Szegedy et al. 2015 had 0.3).
  class_names: num_classes names.
  positive: of a binary task, the name or index of the class that precision,
    recall, specificity, F1, AUROC and the threshold are about; by default 1.
  graph: of multi_label, what is known of the labels together, as
    {'weight': .1, 'edges': (('a', 'b', 1.),), 'parents': {'child': 'parent'}}:
    the logits of neighbours are drawn together, a child is never likelier than
    its parent (medjax.tasks.graph).
  level: of the conformal sets whose coverage is reported.
  more_measures: functions outside of medjax, 'mine.metric:f', of all cases at
    once: f(probability (n, K), label (n,) or (n, K)) → number. Attributes
    title, unit and higher of them are those of `Measure`.
  risk: the error that cases may have which are answered; 0 is no such point.
  monitor: the score by which the best checkpoint is chosen.
  """

  fields: ClassVar = ('label',)
  unlabelled: ClassVar = False
  measures: ClassVar = MEASURES
  # By subgroup: the gaps of the others follow from sizes and prevalences.
  grouped: ClassVar = {
    'auroc': True,
    'recall': True,
    'specificity': True,
    'precision': False,
    'ece': False,
  }
  num_classes: int
  # The method of this name stands in as the default; see __post_init__.
  loss: dataclasses.InitVar[Any]
  inputs: tuple[str, ...] = ('image',)
  multi_label: bool = False
  class_weights: tuple[float, ...] = ()
  label_smoothing: float = 0.0
  aux_weight: float = 0.4
  class_names: tuple[str, ...] = ()
  positive: int | str | None = None
  graph: Any = None
  level: float = 0.9
  risk: float = 0.05
  more_measures: tuple[str, ...] = ()
  monitor: str = 'auroc'
  terms: tuple = dataclasses.field(init=False)

  def __post_init__(self, loss):
    object.__setattr__(self, 'inputs', objective.frozen(self.inputs))
    for name in ('class_weights', 'class_names'):
      value = objective.frozen(getattr(self, name))
      object.__setattr__(self, name, value)
      if len(value) not in (0, self.num_classes):
        raise ValueError(
          f'{name} has {len(value)} entries, not num_classes={self.num_classes}'
        )
    if self.num_classes < 2 and not self.multi_label:
      name = f' ({self.class_names[0]})' if self.class_names else ''
      raise ValueError(
        f'num_classes is {self.num_classes}{name} and must be at least 2, as a '
        'binary task has; where a table has the labels, data.table says so'
      )
    if not 0 <= self.label_smoothing < 1:
      raise ValueError(f'label_smoothing={self.label_smoothing} not in [0, 1)')
    self._check_positive()
    if self.graph is not None and not isinstance(self.graph, Graph):
      if not self.multi_label:
        raise ValueError('task.graph is of labels: it needs multi_label=True')
      object.__setattr__(self, 'graph', Graph.of(self.graph, self.names))
    check_level(self.level)
    if not 0 <= self.risk < 1:
      raise ValueError(f'risk={self.risk} is an error rate, 0 to below 1')
    more = objective.frozen(self.more_measures)
    object.__setattr__(self, 'more_measures', more)
    if more:
      added = dict(map(summary.outside_of_cases, more))
      object.__setattr__(self, 'measures', {**self.measures, **added})
    summary.check_monitor(self.monitor, self.measures)
    entropy = 'binary_cross_entropy' if self.multi_label else 'cross_entropy'
    if callable(loss) or loss is None:
      loss = {entropy: 1.0}
    terms = objective.parse(loss)
    objective.check_entropy(terms, entropy)
    objective.check_weights(terms, self.num_classes)
    for option in self._options():
      if not objective.takes(terms, option):
        raise ValueError(f'none of the losses takes {option}')
    object.__setattr__(self, 'terms', terms)

  def _check_positive(self):
    if self.positive is None:
      return
    if not self.binary:
      raise ValueError(
        f'positive={self.positive!r} is for two classes; of more, every class '
        'has scores of its own'
      )
    if isinstance(self.positive, str) and self.positive in self.names:
      object.__setattr__(self, 'positive', self.names.index(self.positive))
    if self.positive not in (0, 1) or isinstance(self.positive, bool):
      raise ValueError(
        f'positive={self.positive!r} is neither of {", ".join(self.names)}, '
        'nor 0 or 1'
      )

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
  def binary(self):
    """Whether there are two classes, of which one is the positive one."""
    return self.num_classes == 2 and not self.multi_label

  @property
  def positive_class(self):
    """Index of the positive class of a binary task, else None."""
    if not self.binary:
      return None
    return 1 if self.positive is None else self.positive

  @property
  def over_batch(self):
    """Whether one of the losses is over the whole batch."""
    return objective.over_batch(self.terms)

  def loss(self, forward, batch):
    """Weighted sum of the losses: (b,).

    The model gives logits (b, K), or a tuple of them: those of the auxiliary
    heads after the main one's. batch['label']: (b,) class indices, or (b, K)
    multi-hot or soft labels, -1 where one is not known: that does not count.
    """
    outputs = forward(*(batch[name] for name in self.inputs))
    label = batch['label']
    if self.multi_label and label.ndim != 2:
      raise ValueError('multi_label needs labels (b, K), one column per label')
    options = {**self._options(), 'multi_label': self.multi_label}
    if self.multi_label:
      options['valid'] = label >= 0

    def loss(logits):
      if self.graph is None:
        return objective.evaluate(self.terms, logits, label, **options)
      chained = self.graph.chained(logits)
      each = objective.evaluate(self.terms, chained, label, **options)
      return each + self.graph.penalty(logits)

    weights = lambda heads: (1.0, *[self.aux_weight] * (heads - 1))
    return objective.over_heads(loss, outputs, weights, self.num_classes)

  def predict(self, outputs):
    """Probabilities (b, K), float32, of the main head."""
    logits = objective.main_head(outputs)
    if self.graph is not None:
      logits = self.graph.chained(logits)
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
      raise ValueError(
        f'{where} has no label: give a folder for each class, or a column of '
        'a table (data.fields.label); of cases with and without one, say how '
        'many to learn from, data.labelled=100'
      )
    label = np.asarray(case['label'])
    shape = (self.num_classes,) if self.multi_label else ()
    if label.shape != shape:
      raise ValueError(f'{where}: label has shape {label.shape}, not {shape}')
    highest = 1 if self.multi_label else self.num_classes - 1
    whole = label.astype(int)
    lowest = -1 if self.multi_label else 0  # -1: is not known
    if (
      (whole != label).any()
      or (whole < lowest).any()
      or (whole > highest).any()
    ):
      raise ValueError(
        f'{where}: label {label.tolist()} is not in {lowest} to {highest}'
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

  def calibrate(self, rows):
    """Thresholds by Youden's index, and a temperature, that the rows choose.

    One threshold for a binary task, one per label, none for more classes. And
    what conformal sets and the operating point need.
    """
    scores = Scores(self, rows)
    thresholds = scores.thresholds()
    return Calibration(
      thresholds and tuple(plain(thresholds)),
      plain(scores.temperature()),
      **sets.decided(scores, risk=self.risk),
    )

  def calibrated(self, prediction, calibration):
    """Probabilities (K,) whose logits are divided by the temperature."""
    temperature = calibration.temperature
    if temperature is None:
      return prediction
    (scaled,) = calibration_lib.scaled(
      prediction[None], temperature, exclusive=self.exclusive
    )
    return scaled

  @property
  def ways(self):
    """How conformal sets may be made, the usual one first."""
    return METHODS

  def answerable(self, calibration, **how):
    """Raises ValueError for sets that validation does not give."""
    sets.answerable(self, calibration, **how)

  def recalled(self, row):
    """A row, of a line of per_case.csv, as `measured` takes it."""
    return sets.recalled(self.names, row)

  def answer(self, prediction, calibration, **how):
    """The conformal set of a case, and why one had better not answer."""
    return sets.answer(self, prediction, calibration, **how)

  def unsure(self, prediction, calibration):
    """Why one had better not answer, by the operating point: [] or a reason."""
    return sets.unsure(prediction, calibration)

  def measured(self, rows, calibration, **how):
    """How conformal sets made in a way cover rows."""
    return sets.measured(Scores(self, rows), calibration, **how)

  def statistic(self, rows, calibration):
    """(weights (r, n) → scores (r,) by name, cases of the positive class).

    Decisions are those at the threshold where there is one.
    """
    scores = Scores(self, rows)
    rule = {'': scores.decide(calibration and calibration.thresholds)}
    positive = None
    if self.binary:
      positive = scores.truth[:, self.positive_class]
    return functools.partial(scores.statistics, rule, None), positive

  def monitored(self, rows, calibration):
    """Weights (r, n) → the score that is the monitor (r,)."""
    scores = Scores(self, rows)
    rule = {'': scores.decide(calibration and calibration.thresholds)}
    return lambda weights: scores.resampled(rule, None, weights)[self.monitor]

  def columns(self, prediction):
    """The probability of each class."""
    return dict(zip(self.names, map(float, prediction), strict=True))

  def shown(self, case, prediction, row):
    """The reference's probability, or minus the largest error of a label."""
    truth = np.atleast_1d(case['label'])
    if truth.size == 1:
      score = float(prediction[int(truth[0])])
    else:
      errors = np.abs(prediction - truth)[truth >= 0]
      score = -float(errors.max(initial=0))
    return score, {
      'label': np.asarray(case['label']),
      'probability': np.asarray(prediction),
    }

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    """Scores with 95 % bootstrap intervals by patient, JSON-able.

    rows: metrics() of each case with id and patient. Decisions are the
    likeliest class, or labels above 1/2. Precision, recall, specificity, F1,
    AUROC and AUPRC are those of the positive class for a binary task (it is
    named under 'positive'), otherwise the mean
    over the classes that define them (one against the rest, as MedMNIST's
    evaluator). Balanced accuracy: mean recall of the classes. Brier: as
    medjax.metrics.classification.brier says, the mean over labels. ECE: of the
    class that is decided for, or the mean over labels; 15 bins. NLL: natural
    logarithm, the mean over labels.

    With a calibration every decision score is also reported as
    <name>_at_threshold, and NLL, Brier and ECE as <name>_calibrated
    (medjax.metrics.calibration). n_resamples=0 leaves the intervals out (None).
    """
    groups = summary.patients(rows)
    scores = Scores(self, rows)
    chosen = calibration or Calibration()
    rules = {'': scores.decide(None)}
    if chosen.thresholds is not None:
      rules['_at_threshold'] = scores.decide(chosen.thresholds)
    point = scores.statistics(rules, chosen.temperature, np.ones(len(rows)))
    bounds = bootstrap.intervals(
      functools.partial(scores.resampled, rules, chosen.temperature),
      groups,
      n_resamples=n_resamples,
      seed=seed,
    )
    per_class = point.pop('classes')
    known = len(rows) if scores.known is None else scores.known.sum(0)
    undefined = np.where(np.isnan(per_class), known, 0)
    c = scores.each(classification.counts, rules[''], None)
    result = {
      'n': len(rows),
      'patients': len(set(groups)),
      'scores': point,
      'intervals': {name: bounds[name] for name in point},
      'classes': summary.classes(
        self.names,
        BY_CLASS,
        per_class,
        bounds['classes'],
        known - undefined,
        {'undefined': undefined, 'missed': c.fn, 'false_positive': c.fp},
      ),
      'positive': self.names[self.positive_class] if self.binary else None,
      'support': dict(zip(self.names, scores.truth.sum(0), strict=True)),
      'applied_thresholds': chosen.thresholds,
      'applied_temperature': chosen.temperature,
      'curves': scores.curves(),
      **sets.summary(scores, chosen, level=self.level),
    }
    for suffix, predicted in rules.items():
      result[f'confusion{suffix}'] = scores.confusion(predicted)
    return plain(result)
