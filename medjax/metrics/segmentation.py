"""Overlap of two masks, from counts of voxels; numpy or jax arrays.

The functions ask an array for its own namespace, so the same lines run on the
host in float64 and under jit and vmap. See medjax.metrics for the table of
undefined, missed and false-positive cases.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Integer
from numpy import ndarray


class Counts(NamedTuple):
  """Voxels, of one shape: true positive, false positive, false negative."""

  tp: Any
  fp: Any
  fn: Any


def counts(
  prediction: Bool[Array | ndarray, '*s'],
  reference: Bool[Array | ndarray, '*s'],
) -> Counts:
  """Counts of two binary masks: scalars. vmap it over classes or a batch."""
  tp = (prediction & reference).sum()
  return Counts(tp, prediction.sum() - tp, reference.sum() - tp)


def label_counts(
  prediction: Integer[Array | ndarray, '*s'],
  reference: Integer[Array | ndarray, '*s'],
  *,
  num_classes: int,
) -> Counts:
  """Counts of two label maps, for classes 1 … num_classes - 1: (k,) each."""
  xp = prediction.__array_namespace__()
  each = [
    counts(prediction == k, reference == k) for k in range(1, num_classes)
  ]
  return Counts(*(xp.stack(parts) for parts in zip(*each, strict=True)))


def _divide(numerator, denominator):
  """NaN where the denominator is 0; no warning, no NaN in a gradient."""
  xp = denominator.__array_namespace__()
  defined = denominator > 0
  return xp.where(
    defined, numerator / xp.where(defined, denominator, 1), xp.nan
  )


def dice(c: Counts):
  """2 TP / (2 TP + FP + FN); NaN when both masks are empty."""
  return _divide(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def iou(c: Counts):
  """TP / (TP + FP + FN), the Jaccard index; NaN when both masks are empty."""
  return _divide(c.tp, c.tp + c.fp + c.fn)


def precision(c: Counts):
  """TP / (TP + FP); 0 for a miss, NaN when both masks are empty."""
  xp = c.tp.__array_namespace__()
  # An empty prediction of something that is there scores 0, not 0/0.
  return _divide(c.tp, xp.where(c.tp + c.fp > 0, c.tp + c.fp, c.fn))


def recall(c: Counts):
  """TP / (TP + FN), the sensitivity; NaN when the reference is empty."""
  return _divide(c.tp, c.tp + c.fn)


def volume_error(c: Counts):
  """(predicted - reference volume) / reference volume, signed.

  0 is right, -1 a miss, +1 twice too large; NaN when the reference is empty.
  """
  return _divide(c.fp - c.fn, c.tp + c.fn)
