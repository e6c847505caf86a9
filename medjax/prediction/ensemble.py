"""Members' predictions as one: the mean of their probabilities, their spread.

A forward pass of several members gives their probabilities side by side,
(…, members · K), so that windows are stitched and brought to a grid as those of
one model are. What follows here is of a slab: no more of it is held as floats.
"""

import numpy as np

from medjax.metrics.uncertainty import uncertainty

MEASURES = ('entropy', 'mutual_information')


def _members(task, probabilities):
  """(…, members · K) → (members, …, K)."""
  p = np.asarray(probabilities)
  p = p.reshape(*p.shape[:-1], -1, task.num_outputs)
  return np.moveaxis(p, -2, 0)


def decode(task, probabilities):
  """A record for each voxel (…,): the label of the mean, and how sure it is.

  `foreground` is where the mean or any member has a label.
  """
  each = _members(task, probabilities)
  labels = task.decode(each.mean(0))
  found = {
    'labels': labels,
    'foreground': (labels > 0) | (task.decode(each) > 0).any(0),
    **_measures(task, each),
  }
  types = [(name, value.dtype) for name, value in found.items()]
  records = np.empty(labels.shape, types)
  for name, value in found.items():
    records[name] = value
  return records


def read(task, found):
  """(prediction, {measure: numbers}) of what members predict of a case.

  `found` are the records of a dense task's voxels, or probabilities
  (members · K,). The measures are medjax.metrics.uncertainty's, in nats; a map
  of them comes with one of the foreground.
  """
  if task.dense:
    return found['labels'], {k: found[k] for k in ('foreground', *MEASURES)}
  each = _members(task, found).astype(float)
  return each.mean(0), _measures(task, each)


def _measures(task, each):
  found = uncertainty(each, exclusive=task.exclusive)
  return {name: getattr(found, name) for name in MEASURES}


def means(measures):
  """Each measure of a case as one number.

  A map's is the mean over its foreground; NaN where that is empty.
  """
  inside = measures.get('foreground', np.True_)
  return {
    name: float(np.mean(measures[name], where=inside))
    if inside.any()
    else np.nan
    for name in MEASURES
  }
