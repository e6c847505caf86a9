"""Runs whose cases have survival curves: of a task of survival."""

import numpy as np

from medjax.metrics import bootstrap, concordance
from medjax.metrics import survival_curves as curves
from medjax.metrics import survival_error as error
from medjax.reports import rows as rows_lib
from medjax.reports.comparison.result import Comparison, Line

_TIMES = 50  # of the integrated Brier score


def compare_survival(a, b, patients, *, measures, names) -> Comparison:
  """Compares rows with time, event, and survival/TIME or incidence_1/TIME.

  Differences of Harrell's and Antolini's C, of the area under the ROC at the
  quartiles of event times, and of the integrated Brier score, of each cause,
  with intervals by a paired bootstrap over patients. The censoring distribution
  is that of the compared cases.
  """
  time, event = _outcome(a, b, names)
  g = curves.censoring(time, event)
  lines, judged, notes = [], None, []
  causes = _causes(a, b, names)
  for k, columns in enumerate(causes, start=1):
    if not (event == k).any():
      notes.append(f'No case has an event of cause {k}: it is left out.')
      continue
    wanted = np.unique(
      np.quantile(time[event == k], np.linspace(0.1, 0.9, _TIMES))
    )
    wanted = wanted[error.usable(time, wanted, g)]
    pair = [
      _Run(rows, column, risk, time, event, k, wanted, g, name)
      for rows, (column, risk), name in zip((a, b), columns, names, strict=True)
    ]
    of = '' if len(causes) == 1 else f'cause {k}'
    each, bounds = _lines(pair, patients, of)
    lines += each
    judged = judged or (pair, bounds, f'Brier score over time {of}'.strip())
  (x, y), bounds, value = judged
  return Comparison(
    ids=[row['id'] for row in a],
    patients=patients,
    lines=lines,
    value=value,
    a=x.error,
    b=y.error,
    groups={'': (x.error, y.error, bounds)},
    measures=measures,
    notes=[
      *notes,
      'Paired bootstrap over patients. Brier score: integrated over '
      f'{len(wanted)} times, from the first to the last tenth of the events; '
      'censoring distribution of these cases; lower is better.',
    ],
  )


class _Run:
  """The scores of one run, ready for weights of cases."""

  def __init__(self, rows, column, risk, time, event, k, wanted, g, name):
    found = rows_lib.by_class(rows, column, where=name)
    grid = np.array([float(t) for t in found])
    curve = np.stack([*found.values()], -1)
    (risks,) = rows_lib.by_class(rows, risk, where=name).values()
    if np.isnan(curve).any() or np.isnan(risks).any():
      raise ValueError(f'{name}: a case has no curve or risk; evaluate again')
    free = curve if column == 'survival' else 1 - curve
    self.pairs = {
      'harrell': concordance.harrell_pairs(time, event, risks, cause=k),
      'antolini': concordance.antolini_pairs(time, event, free, grid, cause=k),
    }
    at = concordance.at_times(free, grid, wanted)
    each = error.brier_cases(time, event, 1 - at, wanted, cause=k, censored=g)
    self.error = error.integrated(wanted, each)
    quartiles = np.quantile(time[event == k], (0.25, 0.5, 0.75))
    quartiles = quartiles[error.usable(time, quartiles, g)]
    at = concordance.at_times(free, grid, quartiles)
    self.ranked = [
      error.ranked_pairs(time, event, 1 - s, t, cause=k, censored=g)
      for t, s in zip(quartiles, at.T, strict=True)
    ]

  def statistics(self, weights):
    """Scores (*r,) of weights of cases (*r, n)."""
    w = np.asarray(weights, float)
    found = {name: pairs.mean(w) for name, pairs in self.pairs.items()}
    if self.ranked:
      found['auc'] = np.mean([pairs.mean(w) for pairs in self.ranked], 0)
    found['ibs'] = bootstrap.ratio((w * self.error).sum(-1), w.sum(-1))
    return found


def _lines(pair, patients, of):
  """A line for each score, and the interval of the last, of the errors."""

  def statistic(weights):
    x, y = (run.statistics(weights) for run in pair)
    return {k: y[k] - x[k] for k in x}

  bounds = bootstrap.intervals(statistic, patients, n_resamples=2000)
  once = np.ones(len(patients))
  x, y = (run.statistics(once) for run in pair)
  lines = [
    Line(
      metric=k,
      of=of,
      a=float(x[k]),
      b=float(y[k]),
      difference=float(y[k] - x[k]),
      interval=tuple(map(float, bounds[k])),
      n=len(patients),
    )
    for k in x
  ]
  return lines, bounds['ibs']


def _outcome(a, b, names):
  """(time, event) of the cases, which both runs say alike."""
  tables = [
    rows_lib.numbers(rows, ['time', 'event'], where=name)
    for rows, name in zip((a, b), names, strict=True)
  ]
  differ = ~np.isclose(*tables, rtol=1e-5).all(1)
  if differ.any():
    raise ValueError(
      f'{int(differ.sum())} cases have another time or event in A than in B, '
      f'as case {a[int(differ.argmax())]["id"]}: they are not of one data set'
    )
  time, event = tables[0].T
  if not (event > 0).any():
    raise ValueError('none of the cases has an event: nothing can be compared')
  return time, event.astype(int)


def _causes(a, b, names):
  """[((column, risk) of A, of B)] for each cause."""
  each = []
  for rows in (a, b):
    found = rows_lib.measured(rows)
    several = [k for k in found if k.startswith('incidence_')]
    each.append(
      [(k, f'risk_{k.removeprefix("incidence_")}') for k in several]
      or [('survival', 'risk')]
    )
  if len(each[0]) != len(each[1]):
    raise ValueError(
      f'{names[0]} knows {len(each[0])} causes of an event, {names[1]} '
      f'{len(each[1])}: compare runs of the same'
    )
  return list(zip(*each, strict=True))
