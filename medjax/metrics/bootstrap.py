"""Bootstrap intervals, resampled by patient and computed all at once.

A resample is a weight per case: how often its patient was drawn. A statistic
that takes weights (r, n) and is vectorised over r is then evaluated for
hundreds of resamples in a few array operations.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy  # its stats takes half a second: not before it is used
from jaxtyping import Bool, Float, Real

Values = Real[np.ndarray, 'n *k'] | Bool[np.ndarray, 'n *k']

# Elements of one (r, n) block of weights: bounds the memory for large sets.
_BLOCK = 2**20
_SAME = 1e-12
# Patients from which on percentile intervals hold what they promise, nearly.
ENOUGH = 30


def _member(groups):
  """The number of each case's group, 0 to g - 1."""
  groups = np.asarray(groups)
  if groups.dtype.kind == 'f' and np.isnan(groups).any():
    raise ValueError('groups: a case has no patient (NaN)')
  return np.unique(groups, return_inverse=True)[1]


def resamples(
  groups: Sequence | np.ndarray, *, n_resamples: int = 1000, seed: int = 0
) -> Iterator[Float[np.ndarray, 'r n']]:
  """Blocks of weights (r, n), n_resamples rows in all.

  Whole groups (patients) are drawn with replacement, as many as there are, so
  the cases of one patient stay together (Field & Welsh 2007, cluster
  bootstrap). The rows depend on the seed only, not on the size of the blocks.
  """
  member = _member(groups)
  size = int(member.max()) + 1
  rng = np.random.default_rng(seed)
  rows = max(1, _BLOCK // len(member))
  for start in range(0, n_resamples, rows):
    r = min(rows, n_resamples - start)
    drawn = rng.integers(size, size=(r, size)) + size * np.arange(r)[:, None]
    times = np.bincount(drawn.ravel(), minlength=r * size).reshape(r, size)
    yield times[:, member].astype(float)


def intervals(
  statistic: Callable[[np.ndarray], dict[str, np.ndarray]],
  groups: Sequence | np.ndarray,
  *,
  n_resamples: int = 1000,
  level=0.95,
  method: str = 'percentile',
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Intervals of each named statistic: (*k,) → (*k, 2).

  `statistic(weights (r, n))` gives a dict of (r, *k). Resamples on which it is
  NaN are left out. NaN where all are, for fewer than two groups, and where all
  resamples agree, as where every case is right or one patient has a class:
  nothing can be said of the spread. With n_resamples=0 all are NaN.

  method: 'percentile', or 'expanded' for few patients: percentiles further out,
  by as much as a t-interval is wider than a normal one without n - 1
  (Hesterberg 2015). benchmarks/coverage.py measures both; see caution().
  """
  tails = _tails(level, method, len(np.unique(_member(groups))))
  if not n_resamples:
    once = statistic(np.ones((1, len(groups))))
    return {k: np.full((*v.shape[1:], 2), np.nan) for k, v in once.items()}
  blocks = [
    statistic(w) for w in resamples(groups, n_resamples=n_resamples, seed=seed)
  ]
  several = len(np.unique(np.asarray(groups))) > 1
  result = {}
  for name in blocks[0]:
    values = np.concatenate([block[name] for block in blocks])
    bounds = np.full((*values.shape[1:], 2), np.nan)
    defined = np.asarray(~np.isnan(values).all(0))
    if several and defined.any():
      known = values[:, defined]
      defined[defined] = np.nanmax(known, 0) - np.nanmin(known, 0) > _SAME
    if several and defined.any():
      kept = np.nanquantile(values[:, defined], tails, axis=0)
      bounds[defined] = np.moveaxis(kept, 0, -1)
    result[name] = bounds
  return result


def _tails(level, method, groups):
  """Shares of resamples below the interval's ends."""
  if method not in ('percentile', 'expanded'):
    raise ValueError(f"method is 'percentile' or 'expanded', not {method!r}")
  tails = np.array([(1 - level) / 2, (1 + level) / 2])
  if method == 'percentile' or groups < 2:
    return tails
  reach = scipy.stats.t.ppf(tails, groups - 1) * (groups / (groups - 1)) ** 0.5
  return scipy.stats.norm.cdf(reach)


def caution(groups: Sequence | np.ndarray) -> str | None:
  """A line to stand beside intervals of fewer than 30 patients, else None."""
  patients = int(_member(groups).max(initial=-1)) + 1
  if patients >= ENOUGH:
    return None
  return (
    f'{patients} patients: intervals of fewer than {ENOUGH} hold the truth '
    'less often than they say'
  )


def ratio(numerator, denominator) -> Float[np.ndarray, '...']:
  """Numerator / denominator, NaN where the denominator is not positive."""
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.asarray(
      np.where(denominator > 0, numerator / denominator, np.nan)
    )


def weighted_mean(
  values: Values, weights: Real[np.ndarray, '*r n'] | Bool[np.ndarray, '*r n']
) -> Float[np.ndarray, '...']:
  """Mean over cases of the values that are defined: (*r, *k).

  NaN where none is.
  """
  values, weights = np.asarray(values, float), np.asarray(weights, float)
  flat = values.reshape(len(values), -1)
  defined = ~np.isnan(flat)
  total = weights @ np.where(defined, flat, 0.0)
  count = weights @ defined.astype(float)
  return ratio(total, count).reshape((*weights.shape[:-1], *values.shape[1:]))
