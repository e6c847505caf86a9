"""Cases → predictions → the metrics of each case."""

import collections
import json
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from medjax.prediction import ensemble

# Ids that a message names before it says how many more there are.
_NAMED = 5


class NoReferenceError(ValueError):
  """No case has what its prediction could be compared with."""


def evaluate_cases(predictor, task, samples, *, visit=None):
  """One row of metrics per case that has a reference, from all processes.

  Each process predicts its share of the samples. `visit(case, prediction, row)`
  sees each as it comes. Rows are compared with those of the samples'
  `references`, if there are any. Maps of which the model gives no numbers are
  missed: without foreground; a line names them. Raises NoReferenceError where
  no case has a reference, ValueError where there are numbers of none, or none
  of one that is no map.
  """
  waiting, rows = collections.deque(), []

  def referenced():
    for i in range(jax.process_index(), len(samples), jax.process_count()):
      sample = samples[i]
      if all(field in sample['raw'] for field in task.fields):
        waiting.append((i, sample))
        yield sample

  def add(found, **more):
    place, sample = waiting.popleft()
    row = _row(task, place, sample['raw'], found) | more
    if visit:
      visit(sample['raw'], found.prediction, row)
    rows.append(row)

  def refused(error):
    if 'mask' in task.fields:
      add(predictor.nothing(waiting[0][1]), refused=str(error))
    else:  # raised by all processes, of which none may wait for another
      rows.append({'case': waiting.popleft()[0], 'refused': str(error)})

  for _, found in predictor(referenced(), refused=refused):
    add(found)
  rows = _gathered(rows)
  if not rows:
    raise NoReferenceError(
      f'none of {len(samples)} cases has a {" and a ".join(task.fields)} to be '
      'compared with'
    )
  _check_refused(task, rows)
  if (references := getattr(samples, 'references', None)) is not None:
    rows = task.compared(rows, evaluate_cases(predictor, task, references))
  return rows


def _row(task, place, case, found):
  ranked = {} if found.ranks is None else {'ranks': found.ranks}
  return {
    'case': place,
    'id': case['id'],
    'patient': case['patient'],
    **task.metrics(found.prediction, case, **ranked),
    **(ensemble.means(found.uncertainty) if found.uncertainty else {}),
    **_kept(task, found, case),
  }


def _check_refused(task, rows):
  """Names the maps that count as missed; raises ValueError for other cases."""
  refused = [row for row in rows if 'refused' in row]
  if not refused:
    return
  lines = [row.pop('refused') for row in refused]
  if len(refused) == len(rows) or 'mask' not in task.fields:
    raise ValueError(f'{lines[0]} ({len(refused)} of {len(rows)} cases)')
  if jax.process_index() == 0:
    names = ', '.join(row['id'] for row in refused[:_NAMED])
    more = f' and {len(refused) - _NAMED} more'
    print(
      f'medjax: the model gives no numbers of {len(refused)} of {len(rows)} '
      'cases, but NaN or infinity; they count as missed: '
      f'{names}{more if len(refused) > _NAMED else ""}',
      file=sys.stderr,
    )


def _kept(task, found, case):
  """What a row holds until all that validation decides is decided."""
  kept = {'signature': found.signature, 'logits': found.logits}
  if found.probabilities is not None:
    kept['missed'] = task.missed(found.probabilities, case)
  return {name: value for name, value in kept.items() if value is not None}


def _gathered(rows):
  """The rows of all processes, in the order of the cases."""
  if jax.process_count() > 1:
    # numpy values → lists, and text → bytes of one length everywhere.
    text = json.dumps(rows, default=lambda x: np.asarray(x).tolist())
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(data.size))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = []
    for part, size in zip(
      multihost_utils.process_allgather(padded), sizes, strict=True
    ):
      for row in json.loads(part[: int(size)].tobytes()):
        rows.append({k: _array(v) for k, v in row.items()})
  return sorted(rows, key=lambda row: row['case'])


def _array(value):
  return np.asarray(value) if isinstance(value, list | float) else value
