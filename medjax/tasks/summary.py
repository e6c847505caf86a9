"""A summary: what tasks say about a list of rows."""

import numpy as np

from medjax import build
from medjax.tasks.task import Measure

_ABOUT = {'unit': '', 'higher': None}


def patients(rows):
  """Names the patient of each row, by whom is resampled, or else the case."""
  if not rows:
    raise ValueError('no cases to summarize')
  return [str(row.get('patient') or row.get('id', i)) for i, row in
          enumerate(rows)]  # fmt: skip


def check_monitor(monitor, measures):
  """Raises ValueError unless `monitor` is a score of which more is better."""
  known = [name for name, measure in measures.items() if measure.higher]
  if monitor not in known:
    raise ValueError(f'monitor={monitor!r} is none of {", ".join(known)}')


def classes(names, metrics, values, bounds, used, outcomes):
  """The 'classes' table: {class: {metric: {value, interval, n, …}}}.

  values and used (n of cases) are (metrics, k), bounds (metrics, k, 2);
  outcomes maps undefined/missed/false_positive to (metrics, k) or (k,).
  """
  shape = np.shape(values)
  outcomes = {k: np.broadcast_to(v, shape) for k, v in outcomes.items()}
  return {
    name: {
      metric: {
        'value': values[m, k],
        'interval': bounds[m, k],
        'n': int(used[m, k]),
        **{key: int(v[m, k]) for key, v in outcomes.items()},
      }
      for m, metric in enumerate(metrics)
    }
    for k, name in enumerate(names)
  }


def outside(name):
  """(name, Measure) of a function of masks, outside of medjax."""
  short, function, about = _named(name)
  of = lambda pair: function(pair.prediction, pair.reference, pair.spacing)
  return short, Measure(of, *about)


def outside_of_cases(name):
  """(name, Measure) of a function of all cases at once, outside of medjax.

  Its function is one of `Scores` and weights (*r, n), how often each case
  counts. On a resample where it raises ValueError it is undefined.
  """
  short, function, about = _named(name)

  def of(cases, weights):
    def once(times):
      rows = np.repeat(np.arange(len(times)), times.astype(int))
      try:
        return float(function(cases.probability[rows], cases.label[rows]))
      except ValueError:
        if (times == 1).all():
          raise
        return np.nan

    return np.apply_along_axis(once, -1, weights)

  return short, Measure(of, *about)


def _named(name):
  """(its short name, the function, title, unit and direction) of a metric."""
  if ':' not in name:
    raise ValueError(f"more_measures: {name!r} is not 'package.module:name'")
  function, short = build.lookup(build, name), name.partition(':')[2]
  title = getattr(function, 'title', short.replace('_', ' ').capitalize())
  unit, higher = (getattr(function, k, d) for k, d in _ABOUT.items())
  return short, function, (title, unit, higher)
