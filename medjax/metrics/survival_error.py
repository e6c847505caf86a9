"""Errors of predicted survival at a time: Brier score, area under the ROC.

Who is censored before a time has no known state there: the others are weighted
by the inverse of G, the probability not to be censored yet (Graf et al. 1999).
Times at which this cannot be done are left out, and counted: beyond the last
time at which anybody is followed, and where G is 0.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.metrics.bootstrap import ratio
from medjax.metrics.concordance import Score
from medjax.metrics.survival_curves import (
  Curve,
  censoring,
  checked,
  kaplan_meier,
)


class AtTimes(NamedTuple):
  """A value at each of some times, and what one must know of them.

  times, values: (k,), those that could be computed. about['n_dropped'] is how
  many of the times that were asked for could not.
  """

  times: np.ndarray
  values: np.ndarray
  about: dict


def usable(time, times, censored: Curve) -> Bool[np.ndarray, 'k']:
  """At which of the times a sample says anything: within follow-up, G > 0."""
  times = np.asarray(times, float)
  return (times < np.max(time)) & (censored.at(times) > 0) & (times >= 0)


def brier_cases(
  time, event, risk, times, *, cause=1, censored: Curve
) -> Float[np.ndarray, 'n k']:
  """Weighted squared error of each case at each time.

  risk: predicted probability (n, k) of the cause by each of `times` (k,); of a
  single cause 1 − survival.
  """
  time, event = checked(time, event)
  times = np.asarray(times, float)
  gone = (time[:, None] <= times) & (event > 0)[:, None]
  there = time[:, None] > times
  own, then = censored.at(time)[:, None], censored.at(times)[None]
  with np.errstate(divide='ignore'):
    weight = np.where(gone, 1 / own, 0.0) + np.where(there, 1 / then, 0.0)
  happened = gone & (event == cause)[:, None]
  error = (happened - np.asarray(risk, float)) ** 2
  # An event where G is 0 has no weight: it counts for nothing.
  return np.where(np.isfinite(weight), weight, 0.0) * error


def brier(
  time,
  event,
  risk,
  times,
  *,
  cause=1,
  censored: Curve | None = None,
  censoring_from='these cases',
) -> AtTimes:
  """Brier score at times (k,) of probabilities (n, k) of the event by then."""
  time, event = checked(time, event)
  censored = censored or censoring(time, event)
  keep = usable(time, times, censored)
  times, risk = np.asarray(times, float)[keep], np.asarray(risk)[:, keep]
  each = brier_cases(time, event, risk, times, cause=cause, censored=censored)
  about = _about(keep, times, censoring_from)
  return AtTimes(times, each.mean(0), about)


def integrated(times, values) -> Float[np.ndarray, '...']:
  """Mean over time of values (…, k): trapezia over the width. NaN below 2."""
  times = np.asarray(times, float)
  if len(times) < 2:
    return np.full(np.shape(values)[:-1], np.nan)
  area = np.trapezoid(values, times, axis=-1)
  return np.asarray(area / (times[-1] - times[0]))


def integrated_brier(time, event, risk, times, **options) -> Score:
  """Mean over `times` of the Brier score; options are those of `brier`."""
  found = brier(time, event, risk, times, **options)
  value = float(integrated(found.times, found.values))
  return Score(value, found.about | {'n_times': len(found.times)})


class RankedPairs(NamedTuple):
  """Cases of the event by a time against those that are free of it then.

  case, control: weights (n,); better: (n, n) as of `concordance.Pairs`.
  """

  case: np.ndarray
  control: np.ndarray
  better: np.ndarray

  def mean(self, weights=None):
    """The area, (*r,) of weights of cases (*r, n)."""
    w = np.ones(len(self.case)) if weights is None else np.asarray(weights)
    won = ((w * self.case) @ self.better * (w * self.control)).sum(-1)
    total = (w * self.case).sum(-1) * (w * self.control).sum(-1)
    return ratio(won, total)


def ranked_pairs(
  time, event, risk, at, *, cause=1, censored: Curve
) -> RankedPairs:
  """The pairs of `auc` at one time, of risks (n,)."""
  time, event = checked(time, event)
  risk = np.asarray(risk, float)
  with np.errstate(divide='ignore'):
    inverse = 1 / censored.at(time)
  inverse = np.where(np.isfinite(inverse), inverse, 0.0)
  gone = time <= at
  case = inverse * (gone & (event == cause))
  # Another cause's event is a control from then on (Blanche et al. 2013).
  control = inverse * (gone & (event > 0) & (event != cause))
  control = control + (time > at) / max(float(censored.at(at)), 1e-12)
  difference = risk[:, None] - risk[None]
  tied = np.abs(difference) <= 1e-8
  return RankedPairs(case, control, np.where(tied, 0.5, difference > 0))


def auc(
  time,
  event,
  risk,
  times,
  *,
  cause=1,
  censored: Curve | None = None,
  censoring_from='these cases',
) -> AtTimes:
  """Cumulative, dynamic area under the ROC at times (k,). Uno et al. 2007.

  risk: (n,), or (n, k) where it differs by time. NaN at a time by which nobody
  has had the event.
  """
  time, event = checked(time, event)
  censored = censored or censoring(time, event)
  keep = usable(time, times, censored)
  times = np.asarray(times, float)[keep]
  risk = np.asarray(risk, float)
  columns = risk[:, keep].T if risk.ndim == 2 else [risk] * len(times)
  values = [
    float(
      ranked_pairs(time, event, r, t, cause=cause, censored=censored).mean()
    )
    for r, t in zip(columns, times, strict=True)
  ]
  about = _about(keep, times, censoring_from)
  about['ties'] = 'tied risks count 1/2'
  return AtTimes(times, np.array(values), about)


def mean_auc(time, event, found: AtTimes) -> float:
  """Mean of the areas, weighted by how many of the cases have events between.

  As scikit-survival has it: the steps of these cases' Kaplan-Meier curve.
  """
  survival = kaplan_meier(time, event).at(found.times)
  steps = -np.diff(np.concatenate([[1.0], survival]))
  defined = ~np.isnan(found.values)
  total = steps[defined].sum()
  if not total > 0:
    return float('nan')
  return float((found.values * steps)[defined].sum() / total)


def _about(keep, times, censoring_from):
  return {
    'tau': float(times[-1]) if len(times) else None,
    'censoring_from': censoring_from,
    'n_dropped': int((~keep).sum()),
  }
