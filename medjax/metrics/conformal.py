"""Conformal prediction: sets of classes, and lower bounds of survival; host.

Of exchangeable cases, a set made at `level` holds the truth with at least that
probability, whatever the model (Vovk et al. 2005; split conformal: Papadopoulos
et al. 2002). A validation split that differs from what is predicted is not
exchangeable with it, and then nothing is promised: `coverage` measures it.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.metrics import inputs
from medjax.metrics.bootstrap import ratio

Probability = Float[np.ndarray, 'n k']
METHODS = ('lac', 'aps', 'raps')
# Of RAPS: classes that cost nothing, and the price of each one more.
_FREE, _PENALTY = 2, 0.1
# Rounding must not part a score from its own quantile.
_SLACK = 1e-12


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


def quantile(scores: Float[np.ndarray, 'n'], *, level: float) -> float:
  """The ⌈(n + 1) · level⌉-th smallest of the calibration scores.

  Raises ValueError for scores that are NaN, and for so few that no quantile of
  this level exists.
  """
  check_level(level)
  scores = np.sort(np.asarray(scores, float))
  n = len(scores)
  if np.isnan(scores).any():
    raise ValueError('a calibration score is NaN: evaluate again')
  rank = math.ceil((n + 1) * level - _SLACK)
  if rank > n:
    least = math.ceil(level / (1 - level) - 1e-9)
    raise ValueError(
      f'{n} calibration cases are too few for sets at {level:g}, which need '
      f'{least} or more: a larger validation split, or a lower level'
    )
  return float(scores[rank - 1])


def limits(
  by_class: list, *, level: float, mondrian: bool = False
) -> Float[np.ndarray, 'k']:
  """The largest strangeness (k,) at which a class is in the set.

  by_class: scores of the calibration cases of each true class. One quantile of
  all of them, or with `mondrian` one for each class (label-conditional: Vovk
  2012), which then covers every class alike.

  Raises ValueError for a class without cases, and for too few of them.
  """
  by_class = [np.asarray(scores, float) for scores in by_class]
  if sum(len(scores) > 0 for scores in by_class) < 2:
    raise ValueError(
      'the calibration cases are all of one class: sets need cases of each'
    )
  if not mondrian:
    limit = quantile(np.concatenate(by_class), level=level)
    return np.full(len(by_class), limit)
  return np.array([quantile(scores, level=level) for scores in by_class])


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
) -> dict:
  """How often sets held the truth, of all cases and by class, JSON-able.

  {'level', 'n', 'coverage', 'size', 'empty', 'classes': [{'n', 'coverage',
  'low'}], 'low'}. 'low' is whether the coverage lies more than two standard
  errors below the level; the error is that of n test cases and of
  `calibrated_on` calibration cases, if all were exchangeable.
  """
  found, label = np.asarray(found, bool), np.asarray(label)
  hit = found[np.arange(len(label)), label]

  def part(chosen):
    n = int(chosen.sum())
    share = float(ratio(hit[chosen].sum(), n))
    error = (level * (1 - level) * (1 / max(n, 1) + 1 / calibrated_on)) ** 0.5
    return {'n': n, 'coverage': share, 'low': bool(share < level - 2 * error)}

  return {
    **part(np.ones(len(label), bool)),
    'level': level,
    'size': float(found.sum(-1).mean()),
    'empty': float((~found.any(-1)).mean()),
    'classes': [part(label == k) for k in range(found.shape[1])],
  }


# Survival.


def survival_margin(
  time: Float[np.ndarray, 'n'],
  event: Bool[np.ndarray, 'n'],
  prediction: Float[np.ndarray, 'n'],
  *,
  level: float,
  censoring: str = 'any',
) -> float:
  """By what to divide predicted times, so that `level` of them are outlived.

  time, event: what was observed of the calibration cases, event False where
  censored; prediction: a time predicted for each, a median, say, above 0. The
  lower bound of a new patient is prediction / margin: P(T ≥ bound) ≥ level.

  censoring='any' bounds the observed time min(T, C), which T is never below:
  it holds whatever the censoring, and is cautious (Candès, Lei & Ren 2023,
  section 1). 'independent' weighs events by the inverse probability of not
  being censored before (Kaplan–Meier), which is sharper, and true only if
  censoring tells nothing of the risk.
  """
  check_level(level)
  time, prediction = np.asarray(time, float), np.asarray(prediction, float)
  event = np.asarray(event, bool)
  if not (time > 0).all() or not (prediction > 0).all():
    raise ValueError('times and predicted times must be numbers above 0')
  if not len(time) == len(event) == len(prediction):
    raise ValueError(
      f'{len(time)} times, {len(event)} events and {len(prediction)} '
      'predictions: give one of each for a case'
    )
  score = np.log(prediction) - np.log(time)
  if censoring == 'any':
    return math.exp(quantile(score, level=level))
  if censoring != 'independent':
    raise ValueError(f"censoring is 'any' or 'independent', not {censoring!r}")
  quantile(score, level=level)  # refuses what is too few
  weight = event / _uncensored(time, event)
  order = np.argsort(-score, kind='stable')
  # As many (weighed) as may fail; of those never seen to fail nothing is asked.
  above = np.concatenate([[0.0], np.cumsum(weight[order])[:-1]])
  allowed = (1 - level) * (len(time) + 1) - 1
  reached = np.nonzero((above <= allowed + _SLACK) & (weight[order] > 0))[0]
  if not reached.size:
    raise ValueError(
      'no calibration case has an event: a lower bound of survival needs some, '
      "or censoring='any'"
    )
  return math.exp(score[order][reached[-1]])


def survival_bound(
  prediction: Float[np.ndarray, 'n'], margin: float
) -> Float[np.ndarray, 'n']:
  """Lower bounds of survival times: prediction / margin."""
  return np.asarray(prediction, float) / margin


def _uncensored(time, event):
  """Kaplan–Meier's probability (n,) of no censoring before each time."""
  order = np.argsort(time, kind='stable')
  t, censored = time[order], ~event[order]
  # Events come before censorings of the same time.
  at_risk = (t[None] >= t[:, None]).sum(-1) - (
    (t[None] == t[:, None]) & ~censored[None]
  ).sum(-1) * censored
  factor = np.where(censored, 1 - 1 / np.maximum(at_risk, 1), 1.0)
  # The product over censorings strictly before a time.
  before = np.searchsorted(t, t, side='left')
  product = np.concatenate([[1.0], np.cumprod(factor)])
  found = np.empty_like(t)
  found[order] = np.maximum(product[before], 1e-6)
  return found
