"""Ordinal classes: stages and grades, of which one is worse than the other."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from medjax.metrics import agreement, bootstrap, classification
from medjax.tasks import objective, summary
from medjax.tasks.classification import Classification
from medjax.tasks.scores import MEASURES
from medjax.tasks.task import Measure

_MEASURES = {
  'quadratic_kappa': Measure(None, 'Quadratic kappa'),
  'stages_off': Measure(None, 'Stages off, mean', higher=False),
  **MEASURES,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordinal(Classification):
  """Classes in an order, the lowest first, by cumulative logits.

  The network gives num_classes − 1 numbers. The first is the logit of being
  above the lowest class; each further logit, of being above the next class, is
  lower by the softplus of its number (a cumulative link, McCullagh 1980, with
  steps that may differ by case). So the probability of being above a class
  falls from class to class, and those of the classes are its differences.

  A label two stages off costs more than one off: cases are decided by the
  median of the probabilities, and scored by the quadratic kappa. The rest is as
  of `Classification`.
  """

  measures: ClassVar = _MEASURES
  monitor: str = 'quadratic_kappa'

  def __post_init__(self, loss):
    if self.multi_label:
      raise ValueError('Ordinal: classes in an order exclude each other')
    super().__post_init__(loss)

  @property
  def num_outputs(self):
    """Cumulative logits that the model must give."""
    return self.num_classes - 1

  def loss(self, forward, batch):
    """Cross-entropy of the classes (b,), of the main head."""
    outputs = forward(*(batch[name] for name in self.inputs))
    return objective.evaluate(
      self.terms,
      self._log_probabilities(outputs),
      batch['label'],
      **self._options(),
    )

  def predict(self, outputs):
    """Probabilities (b, K), float32."""
    return jnp.exp(self._log_probabilities(outputs))

  def _log_probabilities(self, outputs):
    logits = objective.main_head(outputs)
    if logits.shape[-1] != self.num_outputs:
      raise ValueError(
        f'the model gives {logits.shape[-1]} outputs, the task needs '
        f'{self.num_outputs}'
      )
    steps = jax.nn.softplus(logits[..., 1:])
    first = logits[..., :1]
    above = jnp.concatenate([first, first - jnp.cumsum(steps, -1)], -1)
    # log(σ(a) − σ(b)) = log σ(a) + log σ(−b) + log(1 − exp(b − a)), a > b.
    gap = jnp.log(-jnp.expm1(-jnp.maximum(steps, 1e-6)))
    inner = (
      jax.nn.log_sigmoid(above[..., :-1])
      + jax.nn.log_sigmoid(-above[..., 1:])
      + gap
    )
    ends = jax.nn.log_sigmoid(-first), jax.nn.log_sigmoid(above[..., -1:])
    return jnp.concatenate([ends[0], inner, ends[1]], -1)

  def decode(self, probabilities):
    """The median class (…,): half of the probability is not above it."""
    below = np.cumsum(np.asarray(probabilities), -1)
    return (below[..., :-1] < 0.5 - 1e-9).sum(-1).astype(np.int32)

  def metrics(self, prediction, case):
    """As of a classification, with the class that is decided for."""
    row = super().metrics(prediction, case)
    return {**row, 'decided': self.decode(row['probability'])}

  def _stages(self, rows):
    """Weights (r, n) → kappa and stages off, (r,) each."""
    truth = np.array([int(row['label']) for row in rows])
    decided = self.decode(np.stack([row['probability'] for row in rows]))
    k = self.num_classes
    label = classification.one_hot(truth, k).astype(float)
    guess = classification.one_hot(decided, k).astype(float)

    def statistic(weights):
      w = np.asarray(weights, float)
      matrix = np.einsum('...n,nk,nj->...kj', w, label, guess)
      return {
        'quadratic_kappa': agreement.cohen_kappa(matrix, weights='quadratic'),
        'stages_off': bootstrap.weighted_mean(
          np.abs(truth - decided).astype(float), w
        ),
      }

    return statistic

  def monitored(self, rows, calibration):
    """Weights (r, n) → the score that is the monitor (r,)."""
    statistic = self._stages(rows)
    if self.monitor in statistic(np.ones(len(rows))):
      return lambda weights: statistic(weights)[self.monitor]
    return super().monitored(rows, calibration)

  def shown(self, case, prediction, row):
    """How far the expected stage is from that of the case."""
    _, found = super().shown(case, prediction, row)
    stages = np.arange(self.num_classes)
    return -abs(float(prediction @ stages) - int(case['label'])), found

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    """As of a classification, with quadratic kappa and stages off."""
    found = super().summarize(
      rows, calibration=calibration, seed=seed, n_resamples=n_resamples
    )
    statistic = self._stages(rows)
    bounds = bootstrap.intervals(
      statistic, summary.patients(rows), n_resamples=n_resamples, seed=seed
    )
    own = {k: float(v) for k, v in statistic(np.ones(len(rows))).items()}
    limits = {k: [float(x) for x in v] for k, v in bounds.items()}
    plain = lambda v: None if np.isnan(v) else v
    found['scores'] = {k: plain(v) for k, v in own.items()} | found['scores']
    found['intervals'] = {
      k: [plain(x) for x in v] for k, v in limits.items()
    } | found['intervals']
    return found
