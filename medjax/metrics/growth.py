"""Growth of a volume: log-volumes that rise along a line, of each patient."""

from typing import NamedTuple

import numpy as np
import scipy

_NORMAL = 1.959963984540054


class Growth(NamedTuple):
  """A mixed model of log-volumes, fitted by REML.

  rate: mean growth of the log-volume per unit of time, with its standard error;
  spread: standard deviation of the rate between patients; noise: of a measured
  log-volume. rates, errors: of each patient, shrunk towards the mean, in the
  order of `patients`.
  """

  rate: float
  error: float
  spread: float
  noise: float
  patients: tuple
  rates: np.ndarray
  errors: np.ndarray


class DoublingTime(NamedTuple):
  """Time in which a volume doubles, and its 95 % interval.

  Negative is the time in which it halves. Where the interval of the rate holds
  0, both doubling and halving are possible: then high < low, and the times that
  fit are those above `low` (doubling) and below `high` (halving).
  """

  value: float
  low: float
  high: float


def fit(volume, time, patient) -> Growth:
  """Mixed model log v = a_i + (b + b_i) t + e of volumes (n,) > 0.

  Each patient has a level of its own, which is fixed, and a rate that is drawn
  from a normal distribution (Laird & Ware 1982); the two variances by REML.
  Patients of one volume say nothing of growth, and are left out.

  Raises:
    ValueError: for a volume that is not above 0, and for fewer than two
      patients with two times.
  """
  volume, time = np.asarray(volume, float), np.asarray(time, float)
  if not (np.isfinite(volume) & (volume > 0)).all():
    raise ValueError('growth: volumes are above 0; leave out what was not seen')
  if not np.isfinite(time).all():
    raise ValueError('growth: a time is missing')
  names, place = np.unique(np.asarray(patient), return_inverse=True)
  # Levels are fixed: what is left of a patient are differences to the means.
  parts = []
  for k, name in enumerate(names):
    t, y = time[place == k], np.log(volume[place == k])
    if len(t) > 1 and np.ptp(t) > 0:
      parts.append((name, t - t.mean(), y - y.mean()))
  if len(parts) < 2:
    raise ValueError('growth: needs two patients with volumes at two times')
  s = np.array([(t**2).sum() for _, t, _ in parts])
  b = np.array([(t * y).sum() for _, t, y in parts]) / s
  rest = sum(((y - slope * t) ** 2).sum()
             for (_, t, y), slope in zip(parts, b, strict=True))  # fmt: skip
  freedom = sum(len(t) - 2 for _, t, _ in parts)

  def deviance(logs):
    noise, spread = np.exp(logs)
    v = spread + noise / s
    mean = (b / v).sum() / (1 / v).sum()
    value = np.log(v).sum() + ((b - mean) ** 2 / v).sum()
    value += np.log((1 / v).sum())
    return value + freedom * np.log(noise) + rest / noise

  start = max(rest / max(freedom, 1), 1e-8), max(np.var(b), 1e-8)
  found = scipy.optimize.minimize(
    deviance, np.log(start), method='Nelder-Mead',
    options={'xatol': 1e-8, 'fatol': 1e-10, 'maxiter': 4000},
  )  # fmt: skip
  noise, spread = np.exp(found.x)
  v = spread + noise / s
  weight = 1 / v
  mean, error = (b * weight).sum() / weight.sum(), weight.sum() ** -0.5
  own = spread / v  # how much of a patient's own slope is believed
  rates = mean + own * (b - mean)
  errors = np.sqrt(spread * (1 - own) + (1 - own) ** 2 * error**2)
  return Growth(
    float(mean),
    float(error),
    float(np.sqrt(spread)),
    float(np.sqrt(noise)),
    tuple(name for name, *_ in parts),
    rates,
    errors,
  )


def doubling_time(rate, error) -> DoublingTime:
  """ln 2 / rate, and what a 95 % interval of the rate makes of it."""
  low, high = rate - _NORMAL * error, rate + _NORMAL * error
  with np.errstate(divide='ignore'):
    value, fast, slow = (float(np.log(2) / np.float64(r))
                         for r in (rate, high, low))  # fmt: skip
  return DoublingTime(value, fast, slow)
