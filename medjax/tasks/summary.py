"""A summary: what tasks say about a list of rows."""

import numpy as np


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
