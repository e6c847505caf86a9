"""Growth of a volume: log-volumes that rise along a line, of each patient."""

from typing import NamedTuple

import numpy as np
import scipy

_LEAST = 1e-24  # variance of a log-volume that is taken for 0


class Growth(NamedTuple):
  """A mixed model of log-volumes, fitted by REML.

  rate: mean growth of the log-volume per unit of time, with its standard error;
  spread: standard deviation of the rate between patients; noise: of a measured
  log-volume. rates, errors: of each patient, shrunk towards the mean, in the
  order of `patients`; freedom: degrees of it that the noise is known by, those
  of the t of their intervals.
  """

  rate: float
  error: float
  spread: float
  noise: float
  patients: tuple
  rates: np.ndarray
  errors: np.ndarray
  freedom: int


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
  Errors hold that the variances are estimates, too (Prasad & Rao 1990).
  Patients of one volume say nothing of growth, and are left out.

  Raises:
    ValueError: for a volume that is not above 0, for fewer than two patients
      with two times, and where none has three volumes.
  """
  parts = _parts(volume, time, patient)
  s = np.array([(t**2).sum() for _, t, _ in parts])
  b = np.array([(t * y).sum() for _, t, y in parts]) / s
  rest = sum(((y - slope * t) ** 2).sum()
             for (_, t, y), slope in zip(parts, b, strict=True))  # fmt: skip
  freedom = sum(len(t) - 2 for _, t, _ in parts)
  # Volumes exactly on lines would have no noise, and its logarithm no end.
  rest = max(rest, freedom * _LEAST)

  def deviance(logs):
    noise, spread = np.exp(logs)
    v = spread + noise / s
    mean = (b / v).sum() / (1 / v).sum()
    value = np.log(v).sum() + ((b - mean) ** 2 / v).sum()
    value += np.log((1 / v).sum())
    return value + freedom * np.log(noise) + rest / noise

  start = max(rest / freedom, 1e-8), max(np.var(b), 1e-8)
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
  square = spread * (1 - own) + (1 - own) ** 2 * error**2
  errors = np.sqrt(square + _of_variances(spread, noise, s, freedom))
  return Growth(
    float(mean),
    float(error),
    float(np.sqrt(spread)),
    float(np.sqrt(noise)),
    tuple(name for name, *_ in parts),
    rates,
    errors,
    freedom,
  )


def _parts(volume, time, patient):
  """[(patient, times, log-volumes)] of who has two times, less their means.

  Levels are fixed: what is left of a patient are differences to the means.
  """
  volume, time = np.asarray(volume, float), np.asarray(time, float)
  if not (np.isfinite(volume) & (volume > 0)).all():
    raise ValueError('growth: volumes are above 0; leave out what was not seen')
  if not np.isfinite(time).all():
    raise ValueError('growth: a time is missing')
  names, place = np.unique(np.asarray(patient), return_inverse=True)
  parts = []
  for k, name in enumerate(names):
    t, y = time[place == k], np.log(volume[place == k])
    if len(t) > 1 and np.ptp(t) > 0:
      parts.append((name, t - t.mean(), y - y.mean()))
  if len(parts) < 2:
    raise ValueError('growth: needs two patients with volumes at two times')
  if all(len(t) == 2 for _, t, _ in parts):
    # Through two points goes a line, whatever the noise.
    raise ValueError(
      'growth: every patient has two volumes, so that noise and true rates '
      'cannot be told apart; add a third volume of some'
    )
  return parts


def _of_variances(spread, noise, s, freedom):
  """Squared error (k,) of rates that the two variances, being guesses, add.

  Twice the delta method's: once, as they move a rate; and once more, as the
  error at guessed variances is too small by as much (Prasad & Rao 1990).
  """
  ratio = spread / noise  # in units of the noise, so that nothing overflows
  v = ratio + 1 / s
  terms = np.stack([1 / v, 1 / (s * v)])
  information = terms @ terms.T / 2
  information[1, 1] += freedom / 2
  slope = np.stack([1 / (s * v**2), -ratio / (s * v**2)])
  moved = (slope * np.linalg.solve(information, slope)).sum(0)
  return 2 * noise * moved * v


def doubling_time(rate, error, freedom=np.inf) -> DoublingTime:
  """ln 2 / rate, and what a 95 % interval of the rate makes of it.

  freedom: of the t that the interval is of, as `Growth` says it of patients'.
  """
  reach = float(scipy.stats.t.ppf(0.975, freedom)) * error
  low, high = rate - reach, rate + reach
  with np.errstate(divide='ignore'):
    value, fast, slow = (float(np.log(2) / np.float64(r))
                         for r in (rate, high, low))  # fmt: skip
  return DoublingTime(value, fast, slow)
