"""Are predicted risks true? By groups at a time, and D-calibration."""

from typing import NamedTuple

import numpy as np
import scipy

from medjax.metrics.survival_curves import aalen_johansen, checked

_SAME = 1e-8  # risks that differ by less are tied, as in a concordance


class DCalibration(NamedTuple):
  """Chi² over the bins, its degrees of freedom, p, and cases by bin."""

  statistic: float
  freedom: int
  p: float
  bins: np.ndarray


def d_calibration(time, event, survival, *, bins=10) -> DCalibration:
  """Is the survival predicted at the own time uniform? Haider et al. 2020.

  survival: (n,), S(t_i | x_i) at each case's time. Who is censored with S is
  spread over the bins below S, as if the event came at random from then on. A
  small p says that the curves are not calibrated.
  """
  _, event = checked(time, event)
  s = np.clip(np.asarray(survival, float), 0, 1)
  edges = np.linspace(0, 1, bins + 1)
  own = np.minimum((s * bins).astype(int), bins - 1)
  counts = np.zeros((len(s), bins))
  counts[np.arange(len(s)), own] = event > 0
  lost = event == 0
  width = np.clip(s[:, None] - edges[:-1], 0, 1 / bins)
  spread = np.divide(width, s[:, None], out=np.zeros_like(width),
                     where=s[:, None] > 0)  # fmt: skip
  spread[s == 0, 0] = 1
  counts[lost] = spread[lost]
  observed = counts.sum(0)
  expected = len(s) / bins
  statistic = float(((observed - expected) ** 2 / expected).sum())
  p = float(scipy.stats.chi2.sf(statistic, bins - 1))
  return DCalibration(statistic, bins - 1, p, observed)


def risk_groups(risk, count):
  """Groups (n,) 0, 1, … of rising risk, as alike in size as ties allow.

  Cases of one risk are in one group, whatever their order.
  """
  order = np.argsort(risk, kind='stable')
  sizes = map(len, np.array_split(order, count))
  group = np.repeat(np.arange(count), [*sizes])
  jumps = np.flatnonzero(np.diff(np.asarray(risk)[order]) > _SAME) + 1
  found = np.empty(len(order), int)
  for tied in np.split(np.arange(len(order)), jumps):
    if len(tied):
      found[order[tied]] = group[tied[(len(tied) - 1) // 2]]
  return found


class AtHorizon(NamedTuple):
  """Predicted and observed risk by group, lowest first.

  low, high: 95 % of the observed (Aalen–Johansen of the group). ratio: observed
  over expected of all cases; its interval is that of the observed. n: by group.
  NaN: observed of a group that nobody is followed in until then, and intervals
  of who all, or none, had the event.
  """

  predicted: np.ndarray
  observed: np.ndarray
  low: np.ndarray
  high: np.ndarray
  n: np.ndarray
  ratio: float
  ratio_low: float
  ratio_high: float


def at_horizon(
  time, event, risk, horizon, *, cause=1, groups=5
) -> AtHorizon | None:
  """Predicted and observed risk of the event by `horizon`, by groups of risk.

  risk: (n,). None where nobody is followed until then.
  """
  time, event = checked(time, event)
  risk = np.asarray(risk, float)
  if not (time >= horizon).any():
    return None

  def observed(chosen):
    last = time[chosen] == time[chosen].max()
    if time[chosen].max() < horizon and (event[chosen][last] == 0).any():
      return [np.nan] * 3
    curve = aalen_johansen(time[chosen], event[chosen], cause=cause)
    low, high = (
      float(np.concatenate([[0.0], bound])[
        np.searchsorted(curve.times, horizon, side='right')
      ])
      for bound in (curve.low, curve.high)
    )  # fmt: skip
    bounds = [low, high] if low < high else [np.nan] * 2
    return [float(curve.at(horizon)), *bounds]

  group = risk_groups(risk, groups)
  parts = [np.flatnonzero(group == k) for k in np.unique(group)]
  table = np.array([observed(p) for p in parts])
  everybody = np.array(observed(np.arange(len(risk))))
  mean = risk.mean()
  scaled = everybody / mean if mean > 0 else np.full(3, np.nan)
  return AtHorizon(
    np.array([risk[p].mean() for p in parts]),
    *table.T,
    np.array([len(p) for p in parts]),
    *map(float, scaled),
  )
