"""Conformal prediction: sets of classes, and lower bounds of survival; host.

Of exchangeable cases, a set made at `level` holds the truth with at least that
probability, whatever the model (Vovk et al. 2005; split conformal: Papadopoulos
et al. 2002). A validation split that differs from what is predicted is not
exchangeable with it, and then nothing is promised: `coverage` measures it.

Cases of one patient are alike. Where patients are told, they are what is
exchangeable: each counts once, shared evenly by its cases, and the promise is
of a case of a new patient (Lee, Barber & Willett 2023, hierarchical).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.metrics import inputs, survival_curves
from medjax.metrics.bootstrap import ratio
from medjax.metrics.paired import group_mean

Probability = Float[np.ndarray, 'n k']
Patients = Sequence | np.ndarray
METHODS = ('lac', 'aps', 'raps')
# Of RAPS: classes that cost nothing, and the price of each one more.
_FREE, _PENALTY = 2, 0.1
# Rounding must not part a score from its own quantile, nor one patient's cases
# from the whole that they add up to.
_SLACK, _SUMMED = 1e-12, 1e-9
# Nobody stands for more than so many (1 / _LEAST) who were censored.
_LEAST = 1e-6


def strangeness(
  probability: Probability, *, method: str = 'lac'
) -> Float[np.ndarray, 'n k']:
  """How badly each class conforms to the probabilities of each case, (n, k).

  'lac': 1 - p (Sadinle et al. 2019), the smallest sets. 'aps': the mass of all
  classes at least as likely (Romano et al. 2020, without their randomisation,
  so sets are somewhat large): sets adapt to hard cases. 'raps': the same and
  0.1 for every class beyond the second (Angelopoulos et al. 2021), for many
  classes.
  """
  p = inputs.probabilities(np.asarray(probability, float))
  if method == 'lac':
    return 1 - p
  if method not in METHODS:
    raise ValueError(f'method {method!r} is none of {", ".join(METHODS)}')
  order = np.argsort(-p, -1, kind='stable')
  mass = np.cumsum(np.take_along_axis(p, order, -1), -1)
  if method == 'raps':
    mass = mass + _PENALTY * np.maximum(np.arange(p.shape[1]) + 1 - _FREE, 0)
  found = np.empty_like(mass)
  np.put_along_axis(found, order, mass, -1)
  return found


def check_level(level: float):
  """Raises ValueError for what is no level of confidence."""
  if not 0 < level < 1:
    raise ValueError(f'a level must lie between 0 and 1, as 0.9, not {level}')


def shares(patients: Patients) -> Float[np.ndarray, 'n']:
  """What each case counts (n,) where those of a patient count 1 together."""
  _, member, count = np.unique(
    np.asarray(patients), return_inverse=True, return_counts=True
  )
  return 1 / count[member]


def quantile(
  scores: Float[np.ndarray, 'n'],
  *,
  level: float,
  patients: Patients | None = None,
) -> float:
  """The smallest score that holds ⌈(p + 1) · level⌉ of the p patients.

  patients: whose each of the n calibration scores is, by default of one each.
  Raises ValueError for scores that are NaN, and for so few patients that no
  quantile of this level exists.
  """
  check_level(level)
  scores = np.asarray(scores, float)
  if np.isnan(scores).any():
    raise ValueError('a calibration score is NaN: evaluate again')
  weight = shares(range(len(scores)) if patients is None else patients)
  order = np.argsort(scores, kind='stable')
  held, count = np.cumsum(weight[order]), round(weight.sum())
  wanted = (count + 1) * level - _SUMMED
  if wanted > count:
    least = math.ceil(level / (1 - level) - 1e-9)
    raise ValueError(
      f'{count} calibration {"cases" if patients is None else "patients"} are '
      f'too few for sets at {level:g}, which need {least} or more: a larger '
      'validation split, or a lower level'
    )
  return float(scores[order][np.searchsorted(held, wanted)])


def limits(
  by_class: list,
  *,
  level: float,
  mondrian: bool = False,
  patients: list | None = None,
) -> Float[np.ndarray, 'k']:
  """The largest strangeness (k,) at which a class is in the set.

  by_class: scores of the calibration cases of each true class; patients: whose
  they are, as lists of the same lengths. One quantile of all of them, or with
  `mondrian` one for each class (label-conditional: Vovk 2012), which then
  covers every class alike.

  Raises ValueError for a class without cases, and for too few of them.
  """
  by_class = [np.asarray(scores, float) for scores in by_class]
  if sum(len(scores) > 0 for scores in by_class) < 2:
    raise ValueError(
      'the calibration cases are all of one class: sets need cases of each'
    )
  if not mondrian:
    whose = patients and np.concatenate([np.asarray(p) for p in patients])
    limit = quantile(np.concatenate(by_class), level=level, patients=whose)
    return np.full(len(by_class), limit)
  return np.array([
    quantile(scores, level=level, patients=whose)
    for scores, whose in zip(
      by_class, patients or [None] * len(by_class), strict=True
    )
  ])  # fmt: skip


def sets(
  probability: Probability,
  limit: Float[np.ndarray, 'k'],
  *,
  method: str = 'lac',
) -> Bool[np.ndarray, 'n k']:
  """Which classes are in the set of each case.

  Of LAC a set may be empty; of APS and RAPS the likeliest class is in each.
  """
  score = strangeness(probability, method=method)
  found = score <= np.asarray(limit) + _SLACK
  if method != 'lac':
    found[np.arange(len(found)), score.argmin(-1)] = True
  return found


def coverage(
  found: Bool[np.ndarray, 'n k'],
  label: Int[np.ndarray, 'n'],
  *,
  level: float,
  calibrated_on: int,
  patients: Patients | None = None,
) -> dict:
  """How often sets held the truth, of all patients and by class, JSON-able.

  {'level', 'n', 'coverage', 'size', 'empty', 'classes': [{'n', 'coverage',
  'low'}], 'low'}. patients: whose the cases are, by default of one each; a
  coverage is the mean over them. 'low' is whether it lies more than two
  standard errors below the level; the error is that of n test patients and of
  `calibrated_on` calibration patients, if all were exchangeable.
  """
  found, label = np.asarray(found, bool), np.asarray(label)
  patients = np.arange(len(label)) if patients is None else np.array(patients)
  hit = found[np.arange(len(label)), label]

  def part(chosen):
    each = group_mean(hit[chosen], patients[chosen])
    share = float(ratio(each.sum(), len(each)))
    n = max(len(each), 1)
    error = (level * (1 - level) * (1 / n + 1 / calibrated_on)) ** 0.5
    low = bool(share < level - 2 * error)
    return {'n': len(each), 'coverage': share, 'low': low}

  return {
    **part(np.ones(len(label), bool)),
    'level': level,
    'size': float(found.sum(-1).mean()),
    'empty': float((~found.any(-1)).mean()),
    'classes': [part(label == k) for k in range(found.shape[1])],
  }


# Survival.


def survival_limit(
  reached: Float[np.ndarray, 'n'],
  *,
  level: float,
  weight: Float[np.ndarray, 'n'] | None = None,
  patients: Patients | None = None,
) -> float:
  """The predicted probability of an event at which lower bounds lie.

  reached: of each calibration case, the predicted probability of an event up
  to its own time, that of the event or of the censoring. The lower bound of a
  new patient is the time at which its curve reaches the limit
  (`survival_bound`): P(T ≥ bound) ≥ level, whatever the curves are worth.

  Without a weight it bounds the observed time min(T, C), which T is never
  below: it holds whatever the censoring, and is cautious (Candès, Lei & Ren
  2023, section 1). With that of `censoring_weight` only events count, which is
  sharper, and true only if censoring tells nothing of the risk. patients: whose
  the cases are, by default of one each.
  """
  reached = np.asarray(reached, float)
  # Refuses what is too few.
  lowest = -quantile(-reached, level=level, patients=patients)
  if weight is None:
    return lowest
  weight = np.asarray(weight, float)
  if weight.shape != reached.shape:
    raise ValueError(
      f'{len(weight)} weights and {len(reached)} predictions: give one of each '
      'for a case'
    )
  share = shares(range(len(reached)) if patients is None else patients)
  weight, order = weight * share, np.argsort(reached, kind='stable')
  # As many (weighed) as may fail; of those never seen to fail nothing is asked.
  below = np.concatenate([[0.0], np.cumsum(weight[order])[:-1]])
  allowed = (1 - level) * (round(share.sum()) + 1) - 1
  failed = np.nonzero((below <= allowed + _SUMMED) & (weight[order] > 0))[0]
  if not failed.size:
    raise ValueError(
      'no calibration case has an event: a lower bound of survival needs some, '
      'or one that holds whatever the censoring'
    )
  return float(reached[order][failed[-1]])


def censoring_weight(
  time: Float[np.ndarray, 'n'], event: Int[np.ndarray, 'n'], censored=None
) -> Float[np.ndarray, 'n']:
  """Of an event 1 / P(not censored before it), Kaplan–Meier; 0 of the others.

  `censored` is the `Curve` of not being censored yet, by default the cases'.
  """
  g = censored or survival_curves.censoring(time, event)
  before = g._replace(left=True).at(time)
  return (np.asarray(event) > 0) / np.maximum(before, _LEAST)


def survival_bound(
  incidence: Float[np.ndarray, 'n t'], grid: Float[np.ndarray, 't'], limit
) -> Float[np.ndarray, 'n']:
  """The times (n,) at which curves reach a limit; straight between the grid's.

  Curves that stay below it give the last time of the grid.
  """
  curve = np.pad(np.asarray(incidence, float), ((0, 0), (1, 0)))
  times = np.concatenate([[0.0], grid])
  reached = curve >= limit - _SLACK
  right = np.where(reached.any(-1), reached.argmax(-1), len(grid))
  left, rows = np.maximum(right - 1, 0), np.arange(len(curve))
  low, high = curve[rows, left], curve[rows, right]
  share = np.ones(len(curve))
  np.divide(limit - low, high - low, out=share, where=reached[rows, right]
            & (high > low))  # fmt: skip
  return times[left] + np.clip(share, 0, 1) * (times[right] - times[left])
