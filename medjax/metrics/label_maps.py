"""Metrics of two label maps, class by class: the short way to a number.

    metrics.dice(prediction, reference, num_classes=3)  # classes 1 and 2

Maps (*s) hold 0 … num_classes - 1, whatever their type; 0 is the background and
has no value. Results are (num_classes - 1,), NaN where the table of
medjax.metrics leaves them undefined. Voxels outside `valid` (*s) are left out;
of the distances they count as background in both maps. Labels outside the
classes and shapes that differ are a ValueError.
"""

import numpy as np
from jaxtyping import Array, Float

from medjax.metrics import inputs, segmentation, surface
from medjax.metrics.inputs import Labels, Mask

PerClass = Float[Array | np.ndarray, 'k']


def _overlap(function, prediction, reference, num_classes, valid):
  return function(
    segmentation.label_counts(
      prediction, reference, num_classes=num_classes, valid=valid
    )
  )


def _distances(function, prediction, reference, num_classes, spacing, valid):
  pair = inputs.label_maps(
    prediction, reference, num_classes=num_classes, valid=valid
  )
  prediction, reference = map(np.asarray, pair)
  values = [
    function(
      surface.surface_distances(
        prediction == k, reference == k, spacing=spacing
      )
    )
    for k in range(1, num_classes)
  ]
  return np.array(values, float)


def dice(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  valid: Mask | None = None,
) -> PerClass:
  """Dice of each class: 2 TP / (2 TP + FP + FN)."""
  f = segmentation.dice
  return _overlap(f, prediction, reference, num_classes, valid)


def iou(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  valid: Mask | None = None,
) -> PerClass:
  """Intersection over union of each class, the Jaccard index."""
  f = segmentation.iou
  return _overlap(f, prediction, reference, num_classes, valid)


def precision(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  valid: Mask | None = None,
) -> PerClass:
  """Share of the predicted voxels of each class that are right."""
  f = segmentation.precision
  return _overlap(f, prediction, reference, num_classes, valid)


def recall(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  valid: Mask | None = None,
) -> PerClass:
  """Share of the reference's voxels of each class that are found."""
  f = segmentation.recall
  return _overlap(f, prediction, reference, num_classes, valid)


def volume_error(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  valid: Mask | None = None,
) -> PerClass:
  """Signed relative error of the volume of each class."""
  f = segmentation.volume_error
  return _overlap(f, prediction, reference, num_classes, valid)


def hausdorff(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  spacing,
  valid: Mask | None = None,
) -> PerClass:
  """Hausdorff distance of each class, mm; spacing (n,) in mm."""
  f = surface.hausdorff
  return _distances(f, prediction, reference, num_classes, spacing, valid)


def hd95(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  spacing,
  valid: Mask | None = None,
) -> PerClass:
  """95th percentile of the Hausdorff distance of each class, mm."""
  f = surface.hd95
  return _distances(f, prediction, reference, num_classes, spacing, valid)


def assd(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  spacing,
  valid: Mask | None = None,
) -> PerClass:
  """Average symmetric surface distance of each class, mm."""
  f = surface.assd
  return _distances(f, prediction, reference, num_classes, spacing, valid)


def masd(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  spacing,
  valid: Mask | None = None,
) -> PerClass:
  """Mean of the two directed mean surface distances of each class, mm."""
  f = surface.masd
  return _distances(f, prediction, reference, num_classes, spacing, valid)


def nsd(
  prediction: Labels,
  reference: Labels,
  *,
  num_classes: int,
  spacing,
  tolerance,
  valid: Mask | None = None,
) -> PerClass:
  """Normalised surface Dice of each class, on surface voxels."""

  def f(distances):
    return surface.nsd(distances, tolerance=tolerance)

  return _distances(f, prediction, reference, num_classes, spacing, valid)
