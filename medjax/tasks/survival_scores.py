"""Scores of survival: its table of metrics, and what a report draws of it."""

import numpy as np

from medjax.metrics import bootstrap, concordance
from medjax.metrics import survival_calibration as calibration_lib
from medjax.metrics import survival_curves as curves_lib
from medjax.metrics import survival_error as error
from medjax.tasks import summary
from medjax.tasks.task import Measure

MEASURES = {
  'antolini': Measure(None, "Antolini's C"),
  'harrell': Measure(None, "Harrell's C"),
  'uno': Measure(None, "Uno's C"),
  'ibs': Measure(None, 'Integrated Brier score', higher=False),
  'auc': Measure(None, 'Time-dependent AUC, mean'),
  'd_calibration': Measure(None, 'D-calibration, p', higher=None),
}
BY_CAUSE = ('antolini', 'harrell', 'uno', 'ibs', 'auc')
_GROUPS = 3  # of risk, in the report
_CASES = 6  # whose curves are drawn
_TICKS = 6  # at which numbers at risk are written


def keys(task):
  """(column of the risk, columns of the incidence) of each cause."""
  if task.causes == 1:
    return [('risk', 'survival')]
  return [(f'risk_{k}', f'incidence_{k}') for k in range(1, task.causes + 1)]


def written(time):
  """A time as columns are named by it, '12.5'."""
  return f'{time:.7g}'


def spread(name, grid, values):
  """{'survival/12.5': …}: values (t,) as columns of a table."""
  times = map(written, grid)
  return {f'{name}/{t}': float(v) for t, v in zip(times, values, strict=True)}


class Rows:
  """Completed rows as arrays: of each cause its incidence (n, t)."""

  def __init__(self, task, rows):
    self.task, self.grid = task, task.grid
    self.time, self.event = (
      np.array([row[k] for row in rows]) for k in task.fields
    )
    table = lambda name: np.array(
      [[row[k] for k in spread(name, self.grid, self.grid)] for row in rows],
      float,
    )
    self.free = table('survival')
    self.risk, self.incidence = [], []
    for risk, name in keys(task):
      self.risk.append(np.array([row[risk] for row in rows], float))
      found = table(name)
      self.incidence.append(1 - found if name == 'survival' else found)

  @property
  def own(self):
    """Predicted survival of each case at its own time (n,)."""
    return np.diag(concordance.at_times(self.free, self.grid, self.time))

  def at(self, k, times):
    """Incidence of cause k at other times, (n, m)."""
    return 1 - concordance.at_times(1 - self.incidence[k], self.grid, times)


def summarize(task, rows, calibration, *, seed, n_resamples):
  """What `Survival.summarize` returns, before it is made plain."""
  options = {'seed': seed, 'n_resamples': n_resamples}
  scored = _scored(task, rows, calibration, **options)
  cases, parts = scored['cases'], scored['parts']
  point, bounds = scored['point'], scored['bounds']
  scores = dict(zip(BY_CAUSE, point[:, 0], strict=True))
  d = calibration_lib.d_calibration(cases.time, cases.event, cases.own)
  scores['d_calibration'] = d.p
  intervals = dict(zip(BY_CAUSE, bounds[:, 0], strict=True))
  found = {
    'n': len(rows),
    'patients': scored['patients'],
    'scores': scores,
    'intervals': intervals | {'d_calibration': [np.nan, np.nan]},
    'about': {
      name: part.about for name, part in zip(task.named_causes, parts,
                                             strict=True)
    },
    'survival': _drawn(cases, parts, d),
  }  # fmt: skip
  if task.causes > 1:
    used = np.full(point.shape, len(rows))
    found['classes'] = summary.classes(
      task.named_causes, BY_CAUSE, point, bounds, used,
      {'undefined': np.where(np.isnan(point), len(rows), 0)},
    )  # fmt: skip
    found['support'] = {
      name: int((cases.event == k + 1).sum())
      for k, name in enumerate(task.named_causes)
    }
  if 'landmark' in rows[0]:
    found.setdefault('classes', {}).update(
      by_landmark(task, rows, calibration, **options)
    )
  return found


def by_landmark(task, rows, calibration, **options):
  """The table of classes of each landmark: {'death, from 1': …}."""
  found = {}
  for s in sorted({row['landmark'] for row in rows}):
    own = [row for row in rows if row['landmark'] == s]
    table = _scored(task, own, calibration, **options)
    for k, name in enumerate(task.named_causes):
      found[f'{name}, from {s:g}'] = {
        metric: {
          'value': table['point'][m, k],
          'interval': table['bounds'][m, k],
          'n': len(own),
        }
        for m, metric in enumerate(BY_CAUSE)
      }
  return found


def monitored(task, rows, calibration):
  """What `Survival.monitored` returns."""
  cases = Rows(task, rows)
  part = _Cause(cases, 0, *censoring(cases, calibration))
  return lambda weights: part.statistics(weights)[task.monitor]


def _scored(task, rows, calibration, *, seed, n_resamples):
  """Scores (metrics, causes) of rows, their intervals, and how they came."""
  groups, cases = summary.patients(rows), Rows(task, rows)
  g, source = censoring(cases, calibration)
  parts = [_Cause(cases, k, g, source) for k in range(task.causes)]

  def statistic(weights):
    found = [part.statistics(weights) for part in parts]
    stack = lambda name: np.stack([f[name] for f in found], -1)
    return {'table': np.stack([stack(name) for name in BY_CAUSE], -2)}

  bounds = bootstrap.intervals(
    statistic, groups, n_resamples=n_resamples, seed=seed
  )
  return {
    'cases': cases,
    'parts': parts,
    'patients': len(set(groups)),
    'point': statistic(np.ones(len(rows)))['table'],
    'bounds': bounds['table'],
  }


def censoring(cases, calibration):
  """(G, whose it is)."""
  known = calibration and calibration.censoring
  if known:
    times, values = map(np.array, known)
    return curves_lib.Curve(times, values), 'the training cases'
  return curves_lib.censoring(cases.time, cases.event), 'these cases'


class _Cause:
  """The scores of one cause, ready for weights of cases."""

  def __init__(self, cases, k, g, source):
    self.cases, self.k, self.g = cases, k, g
    time, event, task = cases.time, cases.event, cases.task
    options = {'cause': k + 1}
    risk, curve = cases.risk[k], cases.incidence[k]
    self.pairs = {
      'antolini': concordance.antolini_pairs(
        time, event, 1 - curve, cases.grid, **options
      ),
      'harrell': concordance.harrell_pairs(time, event, risk, **options),
      'uno': concordance.uno_pairs(
        time, event, risk, tau=task.tau, censored=g, **options
      ),
    }
    wanted = cases.grid[
      (cases.grid >= task.quantile(0.1)) & (cases.grid <= task.tau)
    ]
    keep = error.usable(time, wanted, g)
    self.times = wanted[keep]
    self.errors = error.brier_cases(
      time, event, cases.at(k, self.times), self.times, censored=g, **options
    )
    # What predicting the same for everybody would cost.
    same = curves_lib.aalen_johansen(time, event, cause=k + 1).at(self.times)
    self.reference = error.brier_cases(
      time, event, np.tile(same, (len(time), 1)), self.times, censored=g,
      **options,
    ).mean(0)  # fmt: skip
    horizons = np.array(task.shown_horizons)
    inside = error.usable(time, horizons, g)
    ranked = {
      float(t): error.ranked_pairs(time, event, r, t, censored=g, **options)
      for t, r in zip(
        horizons[inside], cases.at(k, horizons[inside]).T, strict=True
      )
    }
    # One without an event before it, say, has no area.
    every = np.ones(len(time))
    ranked = {t: p for t, p in ranked.items() if np.isfinite(p.mean(every))}
    self.horizons, self.ranked = np.array([*ranked]), [*ranked.values()]
    n, used = len(time), int((self.pairs['harrell'].weight > 0).sum())
    self.about = {
      'tau': task.tau,
      'censoring_from': source,
      'ties': 'risks 1/2; at one time events come before censorings',
      'n_pairs': used,
      'n_dropped': n * (n - 1) // 2 - used,
      'n_times': len(self.times),
      'n_times_dropped': int((~keep).sum()),
      'horizons': [float(t) for t in self.horizons],
      'horizons_dropped': [float(t) for t in horizons if t not in ranked],
      'events': int((event == k + 1).sum()),
      'brier_of_no_model': float(error.integrated(self.times, self.reference)),
    }

  def statistics(self, weights):
    """Scores (*r,) of weights of cases (*r, n)."""
    w = np.asarray(weights, float)
    found = {name: pairs.mean(w) for name, pairs in self.pairs.items()}
    each = error.integrated(self.times, self.errors)
    found['ibs'] = bootstrap.ratio((w * each).sum(-1), w.sum(-1))
    areas = [pairs.mean(w) for pairs in self.ranked]
    found['auc'] = np.mean(areas, 0) if areas else np.full(w.shape[:-1], np.nan)
    return found


def _drawn(cases, parts, d):
  """What the figures of the report show, as numbers."""
  task = cases.task
  order = np.argsort(cases.risk[0], kind='stable')
  labels = calibration_lib.risk_groups(cases.risk[0], _GROUPS)
  last = float(cases.time.max())
  ticks = np.linspace(0, last, _TICKS)
  thirds = []
  for i, name in enumerate(('low', 'middle', 'high')):
    chosen = np.flatnonzero(labels == i)
    if not len(chosen):
      continue
    time, event = cases.time[chosen], cases.event[chosen]
    curve = curves_lib.kaplan_meier(time, event)
    thirds.append({
      'name': name,
      'n': len(chosen),
      **_steps(curve),
      'at_risk': [int((time >= t).sum()) for t in ticks],
      'mean': cases.free[chosen].mean(0),
    })  # fmt: skip
  test = curves_lib.log_rank(cases.time, cases.event, labels)
  places = np.linspace(0, len(order) - 1, min(_CASES, len(order)))
  shown = order[places.round().astype(int)]
  return {
    'unit': task.time_unit,
    'grid': cases.grid,
    'ticks': ticks,
    'causes': list(task.named_causes),
    'thirds': thirds,
    'log_rank': {'statistic': test.statistic, 'p': test.p},
    'd_calibration': {'bins': d.bins, 'statistic': d.statistic, 'p': d.p},
    'brier': [
      {
        'times': p.times,
        'values': p.errors.mean(0),
        'reference': p.reference,
      }
      for p in parts
    ],
    'incidence': [_incidence(cases, k) for k in range(task.causes)],
    'calibration': [_horizons(cases, p) for p in parts],
    'cases': [
      {
        'place': round(100 * float(rank) / max(len(order) - 1, 1)),
        'time': cases.time[i],
        'event': int(cases.event[i]),
        'survival': cases.free[i],
        'incidence': [found[i] for found in cases.incidence],
      }
      for rank, i in zip(places, shown, strict=True)
    ],
  }


def _steps(curve, most=200):
  """A step function for a picture: at most so many of its points."""
  size = min(len(curve.times), most)
  kept = np.linspace(0, len(curve.times) - 1, size).round().astype(int)
  return {
    'times': curve.times[kept],
    'values': curve.values[kept],
    'low': curve.low[kept],
    'high': curve.high[kept],
  }


def _incidence(cases, k):
  """Observed (Aalen–Johansen) and mean predicted incidence of a cause."""
  curve = curves_lib.aalen_johansen(cases.time, cases.event, cause=k + 1)
  return {**_steps(curve), 'predicted': cases.incidence[k].mean(0)}


def _horizons(cases, part):
  """Calibration of a cause at the horizons."""
  found = []
  for t, risk in zip(
    part.horizons, cases.at(part.k, part.horizons).T, strict=True
  ):
    groups = int(np.clip(len(risk) // 20, 2, 5))
    at = calibration_lib.at_horizon(
      cases.time, cases.event, risk, t, cause=part.k + 1, groups=groups
    )
    if at is not None:
      found.append({'horizon': float(t), **at._asdict()})
  return found
