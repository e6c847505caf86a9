"""What each input of a fusion is worth: without it, and with other cases'."""

from collections.abc import Sequence

import numpy as np

from medjax.data import absent
from medjax.files import plain
from medjax.metrics import bootstrap
from medjax.tasks import summary

# Of an input: it is missing; all others are; it is that of another case.
WAYS = ('without', 'only', 'permuted')


class Changed(Sequence):
  """The samples of a split, of which an input is missing, or another case's."""

  def __init__(self, samples, inputs, way, name, seed=0):
    self._samples, self._name = samples, name
    self._lost = {
      'without': (name,),
      'only': tuple(other for other in inputs if other != name),
      'permuted': (),
    }[way]
    self._order = None
    if way == 'permuted':
      self._order = _elsewhere(len(samples), seed)

  def __len__(self):
    return len(self._samples)

  def __getitem__(self, index):
    sample = self._samples[index]
    if self._order is not None:
      other = self._samples[self._order[index]]
      sample = {**sample, self._name: other[self._name]}
    return absent.without(sample, self._lost)


def _elsewhere(n, seed):
  """An order in which nothing is at its own place."""
  order = np.random.default_rng(seed).permutation(n)
  found = np.empty(n, int)
  found[order] = np.roll(order, 1)  # one cycle
  return found


def changes(inputs):
  """[(way, input)] of what is tried; of two 'only' is 'without' the other."""
  ways = [way for way in WAYS if way != 'only' or len(inputs) > 2]
  return [(way, name) for way in ways for name in inputs]


def summarize(task, rows, changed, beside, *, calibration=None, seed=0):
  """What metrics.json says of the inputs, JSON-able.

  rows: of the split as it is. changed: {(way, input): rows}. beside: rows of
  the tabular baseline, or None. Each has the score that is the task's monitor,
  its interval, and how far that of the fusion is above it, by patient.
  """
  statistic = lambda each: task.monitored(each, calibration)
  lines = [_line('fusion', '', rows, None, statistic, seed)]
  if beside is not None:
    lines.append(_line('baseline', '', beside, rows, statistic, seed))
  for (way, which), each in changed.items():
    lines.append(_line(way, which, each, rows, statistic, seed))
  return plain({'score': task.monitor, 'lines': lines})


def _line(way, which, rows, fusion, statistic, seed):
  of_rows = statistic(rows)
  found = {'score': of_rows}
  if fusion is not None:
    of_fusion = statistic(_in_order(fusion, rows))
    found['difference'] = lambda w: of_fusion(w) - of_rows(w)
  one = np.ones((1, len(rows)))
  bounds = bootstrap.intervals(
    lambda w: {k: np.asarray(f(w)) for k, f in found.items()},
    summary.patients(rows),
    seed=seed,
  )
  line = {'way': way, 'input': which}
  for key, function in found.items():
    line[key] = {
      'value': float(np.asarray(function(one))[0]),
      'interval': bounds[key],
    }
  return line


def _in_order(fusion, rows):
  """The fusion's rows in the order of others of the same cases."""
  by_id = {row['id']: row for row in fusion}
  missing = [row['id'] for row in rows if row['id'] not in by_id]
  if missing or len(rows) != len(fusion):
    raise ValueError(
      'the tabular baseline has other cases than the run: delete its folder, '
      'tabular, and train again'
    )
  return [by_id[row['id']] for row in rows]
