"""What the runs of a curve say together: means, intervals, paired tests.

A score of a method at a number of labels is the mean over its seeds. Intervals
and tests draw seeds and test patients anew, together, the same for what is
compared: both what was labelled and who was tested are of chance.
"""

import collections

import numpy as np

from medjax.metrics import bootstrap, paired

_RESAMPLES = 1000


class Scored:
  """Scores of rows: {(method, count, seed): rows of the test split}.

  Raises ValueError where the runs did not test the same cases.
  """

  def __init__(self, task, rows, *, seed=0):
    if not hasattr(task, 'statistic'):
      raise ValueError(
        f'{type(task).__name__}: a curve is of a classification or segmentation'
      )
    self._rows = {
      k: sorted(each, key=lambda row: row['id']) for k, each in rows.items()
    }
    ids = {tuple(r['id'] for r in each) for each in self._rows.values()}
    if len(ids) > 1:
      raise ValueError('the runs tested different cases: take a new --workdir')
    self.task, self.monitor = task, task.monitor
    first = next(iter(self._rows.values()))
    self._groups = [row['patient'] for row in first]
    self.methods = list(dict.fromkeys(m for m, _, _ in rows))
    self.seeds = sorted({s for _, _, s in rows})
    self._drawn, self._seeds = self._draw(seed)
    self._values = {k: self._value(each) for k, each in self._rows.items()}

  def counts(self, method):
    """The numbers of labels at which a method has all seeds, rising."""
    found = collections.Counter(n for m, n, _ in self._rows if m == method)
    return sorted(n for n, times in found.items() if times == len(self.seeds))

  def each(self, method, count):
    """The score of each seed."""
    return [float(self._values[method, count, s][0]) for s in self.seeds]

  def mean(self, method, count):
    """(mean, low, high): over the seeds, and what it might have been."""
    values = self._together(method, count)
    return values[0], *_bounds(values[1:])

  def difference(self, method, control, count):
    """(b - a, low, high, p, Wilcoxon's p or None) of method b and control a."""
    apart = self._together(method, count) - self._together(control, count)
    return (
      apart[0],
      *_bounds(apart[1:]),
      _p(apart[1:]),
      self._wilcoxon(method, control, count),
    )

  def area(self, method, counts):
    """Mean height of a curve over the logarithm of its labels: (1 + r,)."""
    heights = np.stack([self._together(method, n) for n in counts])
    x = np.log(counts)
    if len(counts) < 2:
      return heights[0]
    return np.trapezoid(heights, x, axis=0) / (x[-1] - x[0])

  def areas(self, method, control):
    """(b, b - a, low, high, p) of the areas, over the counts both have."""
    counts = [n for n in self.counts(method) if n in self.counts(control)]
    b, a = (self.area(m, counts) for m in (method, control))
    return b[0], b[0] - a[0], *_bounds((b - a)[1:]), _p((b - a)[1:])

  def _draw(self, seed):
    """Weights (1 + r, n) of cases, the first the plain ones; seeds (r, s)."""
    groups = self._groups
    weights = bootstrap.resamples(groups, n_resamples=_RESAMPLES, seed=seed)
    drawn = np.concatenate([np.ones((1, len(groups))), *weights])
    rng, count = np.random.default_rng(seed), len(self.seeds)
    return drawn, rng.integers(count, size=(_RESAMPLES, count))

  def _value(self, rows):
    """The score of a run for each drawing of cases."""
    statistic, _ = self.task.statistic(rows, None)
    return np.asarray(statistic(self._drawn)[self.monitor], float)

  def _together(self, method, count):
    """The mean over seeds: plain, then of each drawing of cases and seeds."""
    each = np.stack([self._values[method, count, s] for s in self.seeds], 1)
    rows = np.arange(1, len(each))[:, None]
    return np.concatenate([[each[0].mean()], each[rows, self._seeds].mean(1)])

  def _wilcoxon(self, method, control, count):
    """Of the cases' own scores, the mean over seeds and classes; or None."""
    if self.monitor not in self._rows[method, count, self.seeds[0]][0]:
      return None

    def of(name):
      runs = [
        [np.nanmean(np.atleast_1d(row[self.monitor])) for row in rows]
        for rows in (self._rows[name, count, s] for s in self.seeds)
      ]
      return np.mean(runs, 0)

    apart = of(method) - of(control)
    return paired.wilcoxon(paired.group_mean(apart, self._groups))


def _bounds(values):
  low, high = np.nanquantile(values, (0.025, 0.975))
  return float(low), float(high)


def _p(differences):
  """Two-sided share of drawings on the other side of zero."""
  known = differences[~np.isnan(differences)]
  side = min((known <= 0).sum(), (known >= 0).sum())
  return float(min(1.0, 2 * (side + 1) / (len(known) + 1)))
