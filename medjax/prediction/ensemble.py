"""Members' predictions as one: the mean of their probabilities, their spread.

A forward pass of several members gives their outputs side by side,
(…, members · K), so that windows are stitched and brought to a grid as those of
one model are. What follows here is of a slab: no more of it is held as floats.
"""

import numpy as np

from medjax.metrics.uncertainty import uncertainty

MEASURES = ('entropy', 'mutual_information')


def apart(side_by_side, members):
  """(…, members · K) → (members, …, K)."""
  x = np.asarray(side_by_side)
  return np.moveaxis(x.reshape(*x.shape[:-1], members, -1), -2, 0)


def mean(side_by_side, members):
  """(…, members · K) → (…, K)."""
  return apart(side_by_side, members).mean(0)


def surrounded(side_by_side, members):
  """Probabilities (…, members · K) of exclusive classes, changed in place.

  Where they are all 0, as around a cropped sample, is background.
  """
  outside = ~side_by_side.any(-1)
  side_by_side[outside, :: side_by_side.shape[-1] // members] = 1
  return side_by_side


def decode(task, members, probabilities):
  """A record for each voxel (…,): the label of the mean, and how sure it is.

  `foreground` is where the mean or any member has a label.
  """
  each = apart(probabilities, members)
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


def read(task, members, found):
  """(prediction, {measure: numbers}) of what members predict of a case.

  `found` are the records of the voxels of a map, or probabilities
  (members · K,). The measures are medjax.metrics.uncertainty's, in nats; a map
  of them comes with one of the foreground.
  """
  if found.dtype.names:
    return found['labels'], {k: found[k] for k in ('foreground', *MEASURES)}
  each = apart(found, members).astype(float)
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
    if name in measures
  }
