"""Classification by concepts: numbers with names, and a class read off them."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from medjax.files import plain
from medjax.metrics import bootstrap
from medjax.metrics.classification import class_mean
from medjax.tasks import objective, summary
from medjax.tasks.classification import Classification
from medjax.tasks.scores import MEASURES
from medjax.tasks.task import Measure

_OWN = {
  'concept_correlation': Measure(None, 'Concepts: correlation'),
  'concept_error': Measure(None, 'Concepts: mean absolute error', higher=False),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Concepts(Classification):
  """One of K classes, by way of concepts that readers have rated.

  The concepts of a case are its `covariates` (f,), NaN where nobody rated; the
  model gives (logits, concepts), as `ConceptBottleneck` does. The loss is that
  of the class, plus concept_weight times the mean squared error of the concepts
  that are known: their columns should be of one scale, as ratings are.

  concepts: names of the covariates; by default those of the data.
  concept_weight: of their error beside the loss of the class.

  The rest is as `Classification` has it.
  """

  fields: ClassVar = ('label', 'covariates')
  measures: ClassVar = {**MEASURES, **_OWN}
  concepts: tuple[str, ...] = ()
  concept_weight: float = 1.0

  def __post_init__(self, loss):
    super().__post_init__(loss)
    object.__setattr__(self, 'concepts', objective.frozen(self.concepts))
    if not self.concepts:
      raise ValueError(
        'Concepts needs columns to learn: data.fields.covariates="a, b"'
      )

  def loss(self, forward, batch):
    """The loss of the class and of the concepts: (b,)."""
    logits, concepts = forward(batch['image'])
    known = batch['covariates']
    if concepts.shape != known.shape:
      raise ValueError(
        f'the model gives {concepts.shape[-1]} concepts, the data have '
        f'{known.shape[-1]}: set model.num_concepts'
      )
    missing = jnp.isnan(known)
    error = jnp.where(missing, 0, concepts - jnp.where(missing, 0, known)) ** 2
    count = jnp.maximum((~missing).sum(-1), 1)
    own = super().loss(lambda *inputs: logits, batch)
    return own + self.concept_weight * error.sum(-1) / count

  def predict(self, outputs):
    """{'probability': (b, K), 'concepts': (b, f)}."""
    logits, concepts = outputs
    return {'probability': super().predict(logits), 'concepts': concepts}

  def calibrated(self, prediction, calibration):
    """As `Classification`'s; concepts stay."""
    probability = super().calibrated(prediction['probability'], calibration)
    return {**prediction, 'probability': probability}

  def columns(self, prediction):
    """The probability of each class, then the concepts."""
    values = map(float, prediction['concepts'])
    return {
      **super().columns(prediction['probability']),
      **dict(zip(self.concepts, values, strict=True)),
    }

  def shown(self, case, prediction, row):
    """As `Classification`'s."""
    return super().shown(case, prediction['probability'], row)

  def check(self, case):
    """Raises ValueError, one line with the id, for what it cannot use."""
    super().check(case)
    shape = np.shape(case.get('covariates', ()))
    if shape != (len(self.concepts),):
      raise ValueError(
        f'case {case.get("id")!r}: {shape[0] if shape else 0} covariates for '
        f'{len(self.concepts)} concepts'
      )

  def metrics(self, prediction, case):
    """As `Classification`'s, with each concept and its rating."""
    row = super().metrics(prediction['probability'], case)
    pairs = zip(prediction['concepts'], case['covariates'], strict=True)
    for name, (found, known) in zip(self.concepts, pairs, strict=True):
      row |= {f'{name} found': float(found), f'{name} rated': float(known)}
    return row

  def _rated(self, rows):
    """What was found of the concepts, and what is known, (n, f) each."""
    return (
      np.array([[row[f'{n} {kind}'] for n in self.concepts] for row in rows])
      for kind in ('found', 'rated')
    )

  def monitored(self, rows, calibration):
    """Weights (r, n) → the score that is the monitor (r,)."""
    if self.monitor not in _OWN:
      return super().monitored(rows, calibration)
    _, statistic = _scores(*self._rated(rows))
    return lambda weights: statistic(weights)[self.monitor]

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    """As `Classification`'s; and of the concepts, over those that were rated.

    Correlation is Pearson's; both scores are means over the concepts, whose own
    values lie under 'concepts'.
    """
    result = super().summarize(
      rows, calibration=calibration, seed=seed, n_resamples=n_resamples
    )
    found, known = self._rated(rows)
    whole, statistic = _scores(found, known)
    result['scores'] |= plain(statistic(np.ones(len(rows))))
    result['intervals'] |= plain(
      bootstrap.intervals(
        statistic,
        summary.patients(rows),
        n_resamples=n_resamples,
        seed=seed,
      )
    )
    each = zip(*whole, strict=True)
    result['concepts'] = plain(
      {
        name: {'correlation': r, 'error': e, 'n': int(n)}
        for name, (r, e), n in zip(
          self.concepts, each, (~np.isnan(known)).sum(0), strict=True
        )
      }
    )
    return result


def _scores(found, known):
  """(each concept's agreement over all rows, weights → the scores `_OWN`)."""
  whole = _agreement(found, known, np.ones(len(found)))
  defined = [np.isfinite(values) for values in whole]

  def statistic(weights):
    means = map(class_mean, _agreement(found, known, weights), defined)
    return dict(zip(_OWN, means, strict=True))

  return whole, statistic


def _agreement(found, known, weights):
  """(correlation (*r, f), mean absolute error) under weights (*r, n)."""
  valid = ~np.isnan(known)
  x, y = np.where(valid, found, 0.0), np.where(valid, known, 0.0)
  total = lambda values: weights @ (values * valid)
  with np.errstate(invalid='ignore', divide='ignore'):
    n = total(np.ones_like(x))
    mean_x, mean_y = total(x) / n, total(y) / n
    covariance = total(x * y) / n - mean_x * mean_y
    spread = (total(x * x) / n - mean_x**2) * (total(y * y) / n - mean_y**2)
    correlation = covariance / np.sqrt(np.where(spread > 1e-12, spread, np.nan))
    return correlation, total(np.abs(x - y)) / n
