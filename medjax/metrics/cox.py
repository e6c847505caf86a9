"""Cox regression of a table, by Newton's method: what networks must beat.

Also the baseline hazard, by which relative risks become survival.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.metrics.survival_curves import Curve, checked

_STEPS = 50
_WIDE = 15  # coefficients and errors of standardised columns stay below it


class Fit(NamedTuple):
  """Coefficients (f,), their standard errors, and the log-likelihood."""

  coefficients: Float[np.ndarray, 'f']
  errors: Float[np.ndarray, 'f']
  log_likelihood: float


def fit(covariates, time, event, *, ties='efron', ridge=0.0) -> Fit:
  """Maximises the partial likelihood − ridge/2 · |coefficients|².

  covariates: (n, f) without NaN. ties: 'efron', or 'breslow'.

  Raises:
    ValueError: without an event, or where the likelihood has no maximum (a
      column that tells the order of all events, or two that are the same).
  """
  x = np.asarray(covariates, float)
  time, event = checked(time, event)
  if not (event > 0).any():
    raise ValueError('Cox regression: no case has an event')
  if not np.isfinite(x).all():
    raise ValueError('Cox regression: a covariate is missing; fill it in')
  beta = np.zeros(x.shape[1])
  value, gradient, hessian = _likelihood(x, time, event, beta, ties)
  for _ in range(_STEPS):
    slope = gradient - ridge * beta
    curvature = hessian + ridge * np.eye(len(beta))
    try:
      step = np.linalg.solve(curvature, slope)
    except np.linalg.LinAlgError:
      raise ValueError(
        'Cox regression: two covariates say the same; leave one out'
      ) from None
    old = value - ridge * beta @ beta / 2
    for _ in range(30):  # halve a step that does not climb
      tried = beta + step
      with np.errstate(all='ignore'):  # a step that goes too far
        found = _likelihood(x, time, event, tried, ties)
      if found[0] - ridge * tried @ tried / 2 >= old - 1e-12:
        break
      step = step / 2
    beta, (value, gradient, hessian) = tried, found
    if np.abs(step).max() < 1e-10:
      break
  curvature = hessian + ridge * np.eye(len(beta))
  with np.errstate(invalid='ignore'):
    errors = np.sqrt(np.diag(np.linalg.pinv(np.nan_to_num(curvature))))
    wide = np.abs([beta, errors]) * x.std(0)
  if not (np.isfinite(value) and (wide < _WIDE).all()):
    raise ValueError(
      'Cox regression: no maximum, as a covariate tells the order of events; '
      'leave it out, or set ridge'
    )
  return Fit(beta, errors, float(value))


def log_likelihood(risk, time, event, *, ties='efron') -> float:
  """The log partial likelihood of log risks (n,).

  Or of risks that change in time, (n, n): row i is of everybody at the time of
  case i (extended Cox).
  """
  time, event = checked(time, event)
  risk = np.asarray(risk, float)
  if risk.ndim == 1:
    ones = np.ones(1)
    return float(_likelihood(risk[:, None], time, event, ones, ties)[0])
  total = 0.0
  for t in np.unique(time[event > 0]):
    here = np.flatnonzero((time == t) & (event > 0))
    still = time >= t
    # At one time, everybody's risk is what the row of any event says.
    everybody = risk[here[0]]
    now = time[still]
    part = _likelihood(
      everybody[still][:, None], now, (event > 0)[still] & (now == t),
      np.ones(1), ties,
    )  # fmt: skip
    total += float(part[0])
  return total


def _likelihood(x, time, event, beta, ties):
  """(value, gradient, minus the Hessian) at `beta`."""
  if ties not in ('efron', 'breslow'):
    raise ValueError(f"ties is 'efron' or 'breslow', not {ties!r}")
  order = np.argsort(-time, kind='stable')
  x, time, hit = x[order], time[order], (event > 0)[order]
  eta = x @ beta
  shift = eta.max()
  weight = np.exp(eta - shift)
  first = weight[:, None] * x
  value, gradient = 0.0, np.zeros(x.shape[1])
  hessian = np.zeros((x.shape[1],) * 2)
  s0, s1, s2 = 0.0, np.zeros_like(gradient), np.zeros_like(hessian)
  starts = np.flatnonzero(np.diff(time, prepend=np.inf))
  for begin, end in zip(starts, [*starts[1:], len(time)], strict=True):
    here = slice(begin, end)
    s0 += weight[here].sum()
    s1 = s1 + first[here].sum(0)
    s2 = s2 + first[here].T @ x[here]
    d = np.flatnonzero(hit[here]) + begin
    if not d.size:
      continue
    value += eta[d].sum()
    gradient += x[d].sum(0)
    t0, t1 = weight[d].sum(), first[d].sum(0)
    t2 = first[d].T @ x[d]
    for k in range(d.size):
      share = k / d.size if ties == 'efron' else 0.0
      a, b = s0 - share * t0, s1 - share * t1
      value -= np.log(a) + shift
      mean = b / a
      gradient -= mean
      hessian += (s2 - share * t2) / a - np.outer(mean, mean)
  return value, gradient, hessian


def baseline(risk, time, event, *, cause=1) -> Curve:
  """Cumulative baseline hazard of log risks (n,), Breslow 1974.

  Survival of log risk r is exp(−H(t) exp(r)). Other causes are censored.
  """
  time, event = checked(time, event)
  times, place = np.unique(time, return_inverse=True)
  weight = np.exp(np.asarray(risk, float))
  leaving = np.bincount(place, weight, len(times))
  at_risk = np.cumsum(leaving[::-1])[::-1]
  events = np.bincount(place, event == cause, len(times))
  seen = events > 0
  return Curve(times[seen], np.cumsum((events / at_risk)[seen]), 0.0)
