"""Survival of a group: Kaplan-Meier, Nelson-Aalen, Aalen-Johansen, log-rank.

A case has a `time` > 0 and an `event`: 0 is censored, 1 the event; where risks
compete 1, 2, … are their causes. At one time events come before censorings.
"""

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

_NORMAL = 1.959963984540054  # quantile of 97.5 %


class Curve(NamedTuple):
  """A step function of time that is `start` before the first of its times.

  times: (m,) rising; values: (m,) from each time on, or with `left` after it;
  low, high: its 95 % interval; at_risk, events: at each time.
  """

  times: Float[np.ndarray, 'm']
  values: Float[np.ndarray, 'm']
  start: float = 1.0
  low: np.ndarray | None = None
  high: np.ndarray | None = None
  at_risk: np.ndarray | None = None
  events: np.ndarray | None = None
  left: bool = False

  def at(self, time, *, of='values'):
    """The value at times (*s,), or of 'low' or 'high'."""
    side = 'left' if self.left else 'right'
    place = np.searchsorted(self.times, np.asarray(time), side=side)
    values = np.concatenate([[self.start], np.asarray(getattr(self, of))])
    return values[place]


def checked(time, event):
  """(time (n,) float, event (n,) int) of a sample, or a ValueError.

  Refused: nothing at all, times that are not finite and above 0, events that
  are not whole numbers from 0.
  """
  time, event = np.asarray(time, float), np.asarray(event)
  if time.ndim != 1 or time.shape != event.shape or not time.size:
    raise ValueError(
      f'time {time.shape} and event {event.shape} are not one number per case'
    )
  bad = ~np.isfinite(time) | (time <= 0)
  if bad.any():
    raise ValueError(
      f'time of case {int(bad.argmax())} is {time[bad.argmax()]}: times are '
      'finite and above 0'
    )
  whole = np.asarray(event, float)
  bad = ~np.isfinite(whole) | (whole < 0) | (whole != np.rint(whole))
  if bad.any():
    raise ValueError(
      f'event of case {int(bad.argmax())} is {event[bad.argmax()]}: 0 is '
      'censored, 1 (2, …) the event'
    )
  return time, whole.astype(int)


def _counted(time, event, weights=None):
  """(distinct times, at risk, of each: weight of what `event` marks)."""
  weights = np.ones(len(time)) if weights is None else weights
  times, place = np.unique(time, return_inverse=True)
  leaving = np.bincount(place, weights, len(times))
  at_risk = np.cumsum(leaving[::-1])[::-1]
  return times, at_risk, np.bincount(place, weights * event, len(times))


def kaplan_meier(time, event, *, weights=None) -> Curve:
  """Probability to be without any event, Kaplan & Meier 1958.

  Its interval is Greenwood's on the log-minus-log scale, as lifelines and
  R's survfit(conf.type='log-log') have it. All causes count as the event.
  """
  time, event = checked(time, event)
  times, at_risk, events = _counted(time, event > 0, weights)
  share = events / at_risk
  values = np.cumprod(1 - share)
  with np.errstate(divide='ignore', invalid='ignore'):
    spread = np.cumsum(events / (at_risk * (at_risk - events)))
    reach = _NORMAL * np.sqrt(spread) / np.abs(np.log(values))
    low, high = values ** np.exp(reach), values ** np.exp(-reach)
  known = (values > 0) & (values < 1)
  low, high = np.where(known, low, values), np.where(known, high, values)
  return Curve(times, values, 1.0, low, high, at_risk, events)


def censoring(time, event, *, events_first=True, left=False) -> Curve:
  """Probability G not to be censored yet, by Kaplan-Meier.

  Who has an event at a time was no longer at risk to be censored at it; without
  `events_first` he was (R's survMetrics, survC1). `left` is G just before a
  time (R's riskRegression, survC1), otherwise it is G at it (scikit-survival).
  """
  time, event = checked(time, event)
  times, at_risk, events = _counted(time, event > 0)
  lost = _counted(time, event == 0)[2]
  exposed = at_risk - events if events_first else at_risk
  share = np.divide(
    lost, exposed, out=np.zeros_like(exposed), where=exposed > 0
  )
  values = np.cumprod(1 - share)
  return Curve(times, values, 1.0, None, None, exposed, lost, left)


def nelson_aalen(time, event, *, cause=None) -> Curve:
  """Cumulative hazard of a cause, or of all of them together."""
  time, event = checked(time, event)
  hit = event > 0 if cause is None else event == cause
  times, at_risk, events = _counted(time, hit)
  values = np.cumsum(events / at_risk)
  reach = _NORMAL * np.sqrt(np.cumsum(events / at_risk**2))
  with np.errstate(divide='ignore', invalid='ignore'):
    factor = np.where(values > 0, np.exp(reach / values), 1.0)
  bounds = values / factor, values * factor
  return Curve(times, values, 0.0, *bounds, at_risk, events)


def aalen_johansen(time, event, *, cause, weights=None) -> Curve:
  """Cumulative incidence of a cause where risks compete (1978).

  1 − Kaplan-Meier of the cause alone overstates it: that pretends that who had
  another event could still have this one. The interval is of Aalen's variance
  on the log-minus-log scale, as R's cmprsk.
  """
  time, event = checked(time, event)
  times, at_risk, events = _counted(time, event > 0, weights)
  own = _counted(time, event == cause, weights)[2]
  free = np.cumprod(1 - events / at_risk)
  before = np.concatenate([[1.0], free[:-1]])
  values = np.cumsum(before * own / at_risk)
  low, high = _incidence_bounds(values, before, at_risk, events, own)
  return Curve(times, values, 0.0, low, high, at_risk, own)


def _incidence_bounds(values, before, at_risk, events, own):
  """95 % of a cumulative incidence; sums of Aalen's variance, expanded."""
  with np.errstate(all='ignore'):
    a = events / (at_risk * (at_risk - events))
    a = np.where(np.isfinite(a), a, 0.0)
    b = before**2 * own * (at_risk - own) / at_risk**3
    c = before * own / at_risk**2
    variance = (
      values**2 * np.cumsum(a)
      - 2 * values * np.cumsum(values * a)
      + np.cumsum(values**2 * a)
      + np.cumsum(b)
      - 2 * values * np.cumsum(c)
      + 2 * np.cumsum(values * c)
    )
    deviation = np.sqrt(np.maximum(variance, 0))
    reach = _NORMAL * deviation / (values * np.log(values))
    low, high = values ** np.exp(-reach), values ** np.exp(reach)
  known = (values > 0) & (values < 1)
  return np.where(known, low, values), np.where(known, high, values)


class LogRank(NamedTuple):
  """Chi², its degrees of freedom, p; observed and expected by group."""

  statistic: float
  freedom: int
  p: float
  observed: np.ndarray
  expected: np.ndarray


def log_rank(time, event, group) -> LogRank:
  """Do groups survive alike? Mantel 1966, as R's survdiff.

  NaN without two groups, or without an event.
  """
  time, event = checked(time, event)
  event = event > 0
  names = np.unique(group)
  times, at_risk, events = _counted(time, event)
  each = [_counted(time[group == n], event[group == n]) for n in names]
  risk, seen = np.zeros((2, len(names), len(times)))
  for k, (own, left, hit) in enumerate(each):
    place = np.searchsorted(own, times)
    risk[k] = np.append(left, 0.0)[place]
    seen[k, np.searchsorted(times, own)] = hit
  expected = (risk * events / at_risk).sum(1)
  observed = seen.sum(1)
  if len(names) < 2 or not event.any():
    nan = float('nan')
    return LogRank(nan, len(names) - 1, nan, observed, expected)
  share = risk / at_risk
  with np.errstate(divide='ignore', invalid='ignore'):
    factor = np.where(
      at_risk > 1, events * (at_risk - events) / (at_risk - 1), 0.0
    )
  # Covariance of observed − expected; the last group follows from the others.
  cross = np.einsum('kt,lt,t->kl', share, share, factor)
  covariance = np.diag((share * factor).sum(1)) - cross
  difference = (observed - expected)[:-1]
  inverse = np.linalg.pinv(covariance[:-1, :-1])
  statistic = float(difference @ inverse @ difference)
  freedom = len(names) - 1
  p = float(scipy.stats.chi2.sf(statistic, freedom))
  return LogRank(statistic, freedom, p, observed, expected)


def restricted_mean(curve: Curve, tau: float) -> float:
  """Mean time without an event up to `tau`: the area below the curve."""
  inside = curve.times < tau
  edges = np.concatenate([[0.0], curve.times[inside], [tau]])
  heights = np.concatenate([[curve.start], curve.values[inside]])
  return float((np.diff(edges) * heights).sum())


def median(curve: Curve) -> float:
  """First time at which the curve is at one half or below; NaN if never."""
  below = np.flatnonzero(curve.values <= 0.5)
  return float(curve.times[below[0]]) if below.size else float('nan')
