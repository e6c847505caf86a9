"""Times that patients outlive with a stated confidence: a part of survival."""

import numpy as np

from medjax.metrics import conformal
from medjax.metrics.paired import group_mean
from medjax.tasks import summary as task_summary
from medjax.tasks import survival_scores

# Whether bounds hold whatever the censoring, or only if that tells nothing.
WAYS = ('any', 'independent')


def decided(cases, patients):
  """What the cases of validation (`survival_scores.Rows`) say, JSON-able."""
  weight = conformal.censoring_weight(cases.time, cases.event)
  _, patient = np.unique(patients, return_inverse=True)
  return {
    'reached': (1 - cases.own).tolist(),
    'weight': weight.tolist(),
    'patients': patient.tolist(),
  }


def limit(calibration, *, level, method='any', by_class=False):
  """(`conformal.survival_limit`, of how many patients) of a calibration.

  Raises ValueError where validation decided nothing of the kind.
  """
  conformal.check_level(level)
  if method not in WAYS:
    raise ValueError(f'--sets={method} is none of {", ".join(WAYS)}')
  if by_class:
    raise ValueError('survival has no classes: leave --by_class')
  part = calibration.conformal or {}
  if 'patients' not in part:
    raise ValueError(
      'this run has no conformal scores: evaluate again, with '
      '--mode=evaluate; of a cross-validation each fold has its own'
    )
  reached, weight = (np.array(part[k], float) for k in ('reached', 'weight'))
  weight = weight if method == 'independent' else None
  found = conformal.survival_limit(
    reached, level=level, weight=weight, patients=part['patients']
  )
  return found, len(set(part['patients']))


def recalled(row):
  """A completed row, of a line of per_case.csv, {column: text}."""
  curves = {
    k: float(v)
    for k, v in row.items()
    if k.startswith(('risk', 'survival', 'incidence'))
  }
  time, event = float(row['time']), int(float(row['event']))
  return {'time': time, 'event': event, **curves}


def answer(task, incidence, calibration, **how):
  """{'lower_bound': time} of the incidence (causes, t) of a case."""
  highest, _ = limit(calibration, **how)
  free_of = np.sum(incidence, 0)[None]
  (bound,) = conformal.survival_bound(free_of, task.grid, highest)
  return {'lower_bound': float(bound)}


def measured(task, rows, calibration, *, level, method='any', by_class=False):
  """How many of completed rows outlived their bounds, JSON-able.

  {'coverage', 'unknown', 'bound', 'n', 'calibrated_on', 'warning'}: who was
  censored before the bound, the share 'unknown', is stood for by those who had
  an event (weights of inverse probability, of the censoring of training).
  'bound' is the median of them.
  """
  about = {'method': method, 'by_class': by_class, 'level': level}
  highest, count = limit(calibration, **about)
  cases = survival_scores.Rows(task, rows)
  bound = conformal.survival_bound(1 - cases.free, cases.grid, highest)
  g, _ = survival_scores.censoring(cases, calibration)
  weight = conformal.censoring_weight(cases.time, cases.event, g)
  early = cases.time < bound
  missed = group_mean(weight * early, task_summary.patients(rows))
  share = float(1 - missed.mean())
  error = (missed.var() / len(missed) + level * (1 - level) / count) ** 0.5
  return {
    **about,
    'n': len(missed),
    'calibrated_on': count,
    'coverage': share,
    'unknown': float((early & (cases.event == 0)).mean()),
    'bound': float(np.median(bound)),
    'warning': '' if share >= level - 2 * error else (
      f'Lower bounds at {level:g} were outlived by {share:.3f} of the '
      'patients: below what they say. The validation cases, on which they were '
      'calibrated, differ from these.'
    ),
  }  # fmt: skip


def summary(task, rows, calibration):
  """{'sets': [table of each way]} at the task's level, or a 'note' why not."""
  if not (calibration and calibration.conformal):
    return {}
  tables = []
  for method in WAYS:
    about = {'method': method, 'by_class': False, 'level': task.level}
    try:
      tables.append(measured(task, rows, calibration, **about))
    except ValueError as e:
      tables.append({**about, 'note': str(e)})
  return {'sets': tables}
