"""Scores by subgroup of an evaluated split: `data.subgroups`."""

import dataclasses

import numpy as np

from medjax.data import groups as groups_lib
from medjax.files import plain
from medjax.metrics import subgroups
from medjax.tasks import summary

_COLUMN = 'group_{}'  # of per_case.csv


def read(cases, names):
  """[{column: group}] of the cases of a split, in order."""
  return [
    {_COLUMN.format(name): group for name, group in found.items()}
    for found in groups_lib.groups_of(cases, names)
  ]


def summarize(task, rows, names, *, calibration=None, seed=0):
  """What metrics.json says of the subgroups of rows, JSON-able.

  {'groups': [{'attribute', 'name', 'n', 'patients', 'positives', 'scores',
  'verdict'}], 'worst'}: every attribute by itself and two crossed. `worst` is
  the group with the least of the task's monitor, of those large enough. A
  'note' in place of all for a task that has no scores by group.
  """
  if not hasattr(task, 'statistic'):
    return {'note': f'{type(task).__name__} has no scores by subgroup'}
  statistic, positive = task.statistic(rows, calibration)
  tested = dict(task.grouped)
  found = subgroups.compare(
    statistic,
    _members(rows, names),
    summary.patients(rows),
    tested=tested,
    higher={name: task.measures[name].higher for name in tested},
    positive=positive,
    seed=seed,
  )
  first = task.monitor if task.monitor in tested else next(iter(tested))
  known = [g for g in found if g.scores and np.isfinite(g.scores[first].value)]
  worst = min(known, key=lambda g: g.scores[first].value, default=None)
  return plain(
    {
      'groups': [dataclasses.asdict(g) for g in found],
      'worst': worst and [worst.attribute, worst.name],
      'by': first,
    }
  )


def _members(rows, names):
  """{(attribute, group): its cases (n,)}, and those of two attributes."""
  members = {}
  for name in names:
    column = np.array([row[_COLUMN.format(name)] for row in rows])
    # What is not known comes last.
    order = sorted(set(column), key=lambda g: (g == groups_lib.UNKNOWN, g))
    members |= {(name, str(group)): column == group for group in order}
  return {**members, **subgroups.crossed(members)}
