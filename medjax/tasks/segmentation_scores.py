"""Scores of a segmentation: its tables of metrics, and what they are read off.

A metric is a row of one of the tables below, and then in every report.
"""

from typing import NamedTuple

import numpy as np

from medjax.metrics import pixels, segmentation, surface
from medjax.tasks.task import Measure


class Pair(NamedTuple):
  """A predicted and a reference mask of one class, as the metrics see them."""

  counts: segmentation.Counts
  distances: surface.SurfaceDistances
  nsd_tolerance: float
  prediction: np.ndarray
  reference: np.ndarray
  spacing: np.ndarray


# A row makes a metric, in every report; the most wanted stand first.
MEASURES = {
  'dice': Measure(lambda p: segmentation.dice(p.counts), 'Dice'),
  'nsd': Measure(
    lambda p: surface.nsd(p.distances, tolerance=p.nsd_tolerance), 'NSD'
  ),
  'hd95': Measure(lambda p: surface.hd95(p.distances), 'HD95', 'mm', False),
  'assd': Measure(lambda p: surface.assd(p.distances), 'ASSD', 'mm', False),
  'iou': Measure(lambda p: segmentation.iou(p.counts), 'IoU'),
  'precision': Measure(lambda p: segmentation.precision(p.counts), 'Precision'),
  'recall': Measure(
    lambda p: segmentation.recall(p.counts), 'Recall (sensitivity)'
  ),
  'volume_error': Measure(
    lambda p: segmentation.volume_error(p.counts),
    'Volume error (signed, relative)',
    higher=None,
  ),
}
# Of the pixels of a case by their probability, where there is one class only;
# they are not looked at while a model is trained.
RANKINGS = {
  'auroc': Measure(pixels.auroc, 'AUROC of pixels'),
  'auprc': Measure(pixels.average_precision, 'Average precision of pixels'),
}
_LEVELS = 2**16 - 1  # of `ranks`


def pair(whole, known, box, spacing, nsd_tolerance):
  """The `Pair` of a predicted and a reference mask, compared inside a box."""
  prediction, reference = whole[box], known[box]
  return Pair(
    segmentation.counts(prediction, reference),
    surface.surface_distances(prediction, reference, spacing=spacing),
    nsd_tolerance,
    whole,
    known,
    spacing,
  )


def ranks(probability):
  """The place (*s,) uint16 of each pixel by its probability."""
  return (probability.clip(0, 1) * _LEVELS).astype(np.uint16)


def ranking(places, truth, inside):
  """The `RANKINGS` of pixels (*s,) with these `ranks`, counted `inside`."""
  counted = pixels.histogram(truth, places / np.float32(_LEVELS), valid=inside)
  return {k: np.array([m.function(counted)]) for k, m in RANKINGS.items()}


def outcomes(values):
  """Cases per class, read off the metrics by the table of medjax.metrics."""
  row = {name: values[:, i] for i, name in enumerate(MEASURES)}
  undefined = np.isnan(row['dice'])
  return {
    'undefined': undefined.sum(0),
    # Only an empty prediction is a whole reference volume short.
    'missed': (row['volume_error'] == -1).sum(0),
    'false_positive': (np.isnan(row['recall']) & ~undefined).sum(0),
  }
