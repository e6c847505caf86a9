"""Columns of a table that give the label away."""

import numpy as np
import scipy  # its stats takes half a second: not before it is used

LIMIT = 0.99  # the area under the ROC of a column alone that is no finding
_FEWEST = 5  # cases of a class


def columns(values, labels, names):
  """[(name, AUROC)] of the columns that tell a class, or a label, alone.

  values: (n, f), NaN where missing. labels: (n,) of classes, each against the
  rest, or (n, k) of 0 and 1. Either direction counts; classes of fewer than
  five cases do not.
  """
  values, labels = np.asarray(values, float), np.asarray(labels)
  if labels.ndim == 1:
    labels = labels[:, None] == np.unique(labels)
  found = []
  for name, column in zip(names, values.T, strict=True):
    known = ~np.isnan(column)
    areas = [_area(column[known], truth[known] > 0) for truth in labels.T]
    best = max((max(a, 1 - a) for a in areas if a is not None), default=0.0)
    if best > LIMIT:
      found.append((name, best))
  return found


def _area(column, truth):
  """Of the ROC, by ranks; None of too few."""
  count = int(truth.sum())
  if min(count, truth.size - count) < _FEWEST:
    return None
  ranks = scipy.stats.rankdata(column)[truth].sum()
  return (ranks - count * (count + 1) / 2) / (count * (truth.size - count))
