"""Detection of lesions: connected components, matched one to one; host.

A lesion is a component of a mask. A predicted and a true one match where their
IoU is above a threshold; the pairs are those of the largest total IoU, each in
one pair at most (above 0.5 there is no choice: Kirillov et al. 2019):

    m = lesions.match(prediction, reference, threshold=0.1)
    lesions.f1(m), lesions.panoptic_quality(m)

Over cases add the counts first (`lesions.counts`), so that a case with twenty
lesions is not worth one with one.
"""

from typing import NamedTuple

import numpy as np
import scipy  # its optimize takes a quarter of a second: not before it is used
from jaxtyping import Float, Integer
from scipy import ndimage

from medjax.metrics import inputs, segmentation
from medjax.metrics.inputs import Mask


class Matching(NamedTuple):
  """Lesions of a case: (prediction, reference) pairs, from 0, and their IoU."""

  pairs: Integer[np.ndarray, 'm 2']
  iou: Float[np.ndarray, 'm']
  predictions: int
  references: int


def components(
  mask: Mask, *, faces: bool = False
) -> tuple[Integer[np.ndarray, '*s'], int]:
  """Components of a mask numbered from 1, and how many there are.

  Voxels that touch in a face, an edge or a corner belong together; with `faces`
  only those that share a face.
  """
  mask = np.asarray(inputs.mask(mask))
  rank = 1 if faces else mask.ndim
  structure = ndimage.generate_binary_structure(mask.ndim, rank)
  labels, number = ndimage.label(mask, structure)
  return labels, int(number)


def overlaps(
  predicted: Integer[np.ndarray, '*s'], reference: Integer[np.ndarray, '*s']
) -> Float[np.ndarray, 'p r']:
  """IoU of each predicted with each true component, both numbered from 1."""
  inputs.same_shape(predicted, reference, names=('predicted', 'reference'))
  p, r = int(predicted.max(initial=0)), int(reference.max(initial=0))
  both = np.bincount(
    predicted.ravel().astype(np.int64) * (r + 1) + reference.ravel(),
    minlength=(p + 1) * (r + 1),
  ).reshape(p + 1, r + 1)
  shared = both[1:, 1:]
  union = both.sum(1)[1:, None] + both.sum(0)[None, 1:] - shared
  return shared / np.maximum(union, 1)


def match(
  prediction: Mask,
  reference: Mask,
  *,
  threshold=0.5,
  faces: bool = False,
) -> Matching:
  """Matches components of an IoU above the threshold; 0: any overlap."""
  if not 0 <= threshold < 1:
    raise ValueError(f'threshold must be from 0 to below 1, not {threshold}')
  prediction, reference = inputs.masks(prediction, reference)
  predicted, p = components(prediction, faces=faces)
  true, r = components(reference, faces=faces)
  iou = overlaps(predicted, true)
  allowed = np.where(iou > threshold, iou, 0)
  rows, columns = scipy.optimize.linear_sum_assignment(allowed, maximize=True)
  kept = allowed[rows, columns] > 0
  pairs = np.stack([rows[kept], columns[kept]], -1)
  return Matching(pairs, iou[rows[kept], columns[kept]], p, r)


def counts(m: Matching) -> segmentation.Counts:
  """Lesions found, invented and missed."""
  found = len(m.pairs)
  return segmentation.Counts(
    np.float64(found),
    np.float64(m.predictions - found),
    np.float64(m.references - found),
  )


def f1(m: Matching) -> float:
  """2 TP / (2 TP + FP + FN) of lesions; NaN where there are none at all."""
  return float(segmentation.dice(counts(m)))


def sensitivity(m: Matching) -> float:
  """Share of the true lesions found; NaN where there are none."""
  return float(segmentation.recall(counts(m)))


def precision(m: Matching) -> float:
  """Share of the predicted lesions that are true; 0 for a miss."""
  return float(segmentation.precision(counts(m)))


def segmentation_quality(m: Matching) -> float:
  """Mean IoU of the pairs; NaN without one."""
  return float(m.iou.mean()) if len(m.iou) else float('nan')


def panoptic_quality(m: Matching) -> float:
  """Σ IoU / (TP + FP / 2 + FN / 2): f1 · segmentation_quality.

  Kirillov et al. 2019, eq. 1, at their threshold 0.5. NaN where there is no
  lesion at all.
  """
  total = m.predictions + m.references
  return float(2 * m.iou.sum() / total) if total else float('nan')
