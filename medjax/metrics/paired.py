"""Two models on the same cases: tests and intervals of the difference.

Differences are b - a. Cases of one patient are not independent: intervals
resample patients, and a test is given one number per patient (group_mean).
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy  # its stats takes half a second: not before it is used
from jaxtyping import Bool, Float, Real

from medjax.metrics import bootstrap, classification, inputs
from medjax.metrics.inputs import Scores, Truth

Values = Real[np.ndarray, 'n *k'] | Bool[np.ndarray, 'n *k']

# Differences are compared to 10 decimals: 0.9 - 0.8 ties with 0.8 - 0.7.
_DECIMALS = 10


def group_mean(
  values: Values, groups: Sequence | np.ndarray
) -> Float[np.ndarray, 'g']:
  """Mean of the defined values of each group, for groups that have any."""
  values = np.asarray(values, float)
  defined = ~np.isnan(values)
  if not defined.any():
    return np.zeros(0)
  _, member = np.unique(np.asarray(groups)[defined], return_inverse=True)
  return np.bincount(member, values[defined]) / np.bincount(member)


def wilcoxon(difference: Values) -> float:
  """Two-sided p of Wilcoxon's signed-rank test; NaN differences left out.

  scipy.stats.wilcoxon on rounded differences: exact up to 50 of them; with
  ties or zeros exact up to 13, else the normal approximation with its tie
  correction. Zeros are dropped, as Wilcoxon and R do: 1 when nothing moved.
  NaN without any difference.
  """
  difference = np.asarray(difference, float)
  difference = np.round(difference[~np.isnan(difference)], _DECIMALS)
  if not difference.size:
    return float('nan')
  if not difference.any():
    return 1.0
  return float(scipy.stats.wilcoxon(difference).pvalue)


def mcnemar(right_a: Truth, right_b: Truth) -> float:
  """Two-sided p of McNemar's exact test of two shares of right decisions.

  A binomial test of the cases that only one decides rightly; 1 without any.
  """
  right_a, right_b = map(
    np.asarray, inputs.masks(right_a, right_b, names=('right_a', 'right_b'))
  )
  only_a = int((right_a & ~right_b).sum())
  only_b = int((right_b & ~right_a).sum())
  if not only_a + only_b:
    return 1.0
  return float(scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def benjamini_hochberg(p: Values) -> Float[np.ndarray, 'm']:
  """p values adjusted for the false discovery rate; NaN stays and counts not.

  Benjamini & Hochberg 1995, by scipy.stats.false_discovery_control.
  """
  p = np.asarray(p, float)
  adjusted = np.full(p.shape, np.nan)
  tested = ~np.isnan(p)
  if tested.any():
    adjusted[tested] = scipy.stats.false_discovery_control(
      p[tested], method='bh'
    )
  return adjusted


def score_difference(
  before: Callable,
  after: Callable,
  groups: Sequence | np.ndarray,
  *,
  n_resamples: int = 2000,
) -> tuple[float, tuple[float, float]]:
  """(difference of a score, its paired 95 % interval), resampled by group.

  before, after: weights (r, n) of the same cases → the score (r,).
  """
  difference = lambda w: {'difference': after(w) - before(w)}
  value = difference(np.ones((1, len(groups))))['difference'][0]
  bounds = bootstrap.intervals(difference, groups, n_resamples=n_resamples)
  return float(value), tuple(map(float, bounds['difference']))


def mean_difference_intervals(
  a: Values,
  b: Values,
  groups: Sequence | np.ndarray,
  *,
  n_resamples: int = 2000,
  level=0.95,
  method: str = 'percentile',
  seed: int = 0,
) -> Float[np.ndarray, '*k 2']:
  """Paired bootstrap intervals of mean(b - a), resampled by group.

  Cases in which a or b is NaN are left out, column by column.
  """
  a, b = np.asarray(a, float), np.asarray(b, float)
  inputs.same_shape(a, b, names=('a', 'b'))
  difference = b - a
  return bootstrap.intervals(
    lambda w: {'difference': bootstrap.weighted_mean(difference, w)},
    groups,
    n_resamples=n_resamples,
    level=level,
    method=method,
    seed=seed,
  )['difference']


def auroc_difference_intervals(
  truth: Truth,
  a: Scores,
  b: Scores,
  groups: Sequence | np.ndarray,
  *,
  n_resamples: int = 2000,
  level=0.95,
  method: str = 'percentile',
  seed: int = 0,
) -> tuple[Float[np.ndarray, 'k 2'], Float[np.ndarray, '2']]:
  """Paired bootstrap intervals of the difference of AUROCs, by group.

  Of each column, and of the mean over the columns that define it.
  """

  def columns(weights):
    each = [
      classification.auroc(truth, score, weights=weights) for score in (a, b)
    ]
    return each[1] - each[0]

  known = ~np.isnan(columns(None))

  def statistic(weights):
    found = columns(weights)
    mean = classification.class_mean(found, known)
    return {'columns': found, 'mean': mean}

  bounds = bootstrap.intervals(
    statistic,
    groups,
    n_resamples=n_resamples,
    level=level,
    method=method,
    seed=seed,
  )
  return bounds['columns'], bounds['mean']
