"""Overlap of two masks, from counts of voxels; numpy or jax arrays.

The functions ask an array for its own namespace, so the same lines run on the
host in float64 and under jit and vmap. See medjax.metrics for the table of
undefined, missed and false-positive cases.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from medjax.metrics import inputs
from medjax.metrics.inputs import Labels, Mask


class Counts(NamedTuple):
  """Voxels, of one shape: true positive, false positive, false negative."""

  tp: Any
  fp: Any
  fn: Any


def counts(
  prediction: Mask, reference: Mask, *, valid: Mask | None = None
) -> Counts:
  """Counts of two masks (*s): scalars. vmap it over classes or a batch.

  Masks are bool, 0/1 or 0/255; voxels outside `valid` (*s) are left out.

  Raises:
    ValueError: for a label map, other numbers, or shapes that differ.
  """
  prediction, reference = inputs.masks(prediction, reference)
  if valid is not None:
    prediction, valid = inputs.masks(
      prediction, valid, names=('prediction', 'valid')
    )
    prediction, reference = prediction & valid, reference & valid
  tp = (prediction & reference).sum()
  return Counts(tp, prediction.sum() - tp, reference.sum() - tp)


def label_counts(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  valid: Mask | None = None,
) -> Counts:
  """Counts of two label maps, for classes 1 … num_classes - 1: (k,) each.

  Voxels outside `valid` (*s) are left out, whatever their label.

  Raises:
    ValueError: for labels outside the classes, or shapes that differ.
  """
  prediction, reference = inputs.label_maps(
    prediction, reference, num_classes=num_classes, valid=valid
  )
  xp = prediction.__array_namespace__()
  each = [
    counts(prediction == k, reference == k) for k in range(1, num_classes)
  ]
  return Counts(*(xp.stack(parts) for parts in zip(*each, strict=True)))


def _floats(c: Counts):
  """Counts as floats: unsigned ones would wrap, 32 bits overflow in 2 TP."""
  arrays = [np.asarray(x) if isinstance(x, int | float) else x for x in c]
  xp = arrays[0].__array_namespace__()
  dtype = jnp.float32 if xp is jnp else np.float64
  return Counts(*(x.astype(dtype) for x in arrays))


def _divide(numerator, denominator):
  """NaN where the denominator is 0; no warning, no NaN in a gradient."""
  xp = denominator.__array_namespace__()
  defined = denominator > 0
  return xp.where(
    defined, numerator / xp.where(defined, denominator, 1), xp.nan
  )


def dice(c: Counts):
  """2 TP / (2 TP + FP + FN); NaN when both masks are empty."""
  c = _floats(c)
  return _divide(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def iou(c: Counts):
  """TP / (TP + FP + FN), the Jaccard index; NaN when both masks are empty."""
  c = _floats(c)
  return _divide(c.tp, c.tp + c.fp + c.fn)


def precision(c: Counts):
  """TP / (TP + FP); 0 for a miss, NaN when both masks are empty."""
  c = _floats(c)
  xp = c.tp.__array_namespace__()
  # An empty prediction of something that is there scores 0, not 0/0.
  return _divide(c.tp, xp.where(c.tp + c.fp > 0, c.tp + c.fp, c.fn))


def recall(c: Counts):
  """TP / (TP + FN), the sensitivity; NaN when the reference is empty."""
  c = _floats(c)
  return _divide(c.tp, c.tp + c.fn)


def volume_error(c: Counts):
  """(predicted - reference volume) / reference volume, signed.

  0 is right, -1 a miss, +1 twice too large; NaN when the reference is empty.
  """
  c = _floats(c)
  return _divide(c.fp - c.fn, c.tp + c.fn)
