"""Figures of pages: each takes plain data and gives a matplotlib Figure.

Or None, where the data hold nothing to show. Made under style(); neither
pyplot nor a display is used, and matplotlib is imported by the first figure.
"""

from medjax.reports.figures import survival
from medjax.reports.figures.cases import segmentation_case
from medjax.reports.figures.decisions import (
  confusion,
  discrimination,
  reliability,
)
from medjax.reports.figures.distribution import boxes, distributions
from medjax.reports.figures.images import contours, image_grid
from medjax.reports.figures.learning import learning_curves
from medjax.reports.figures.look import style
from medjax.reports.figures.paired import paired_differences

__all__ = [
  'boxes',
  'confusion',
  'contours',
  'discrimination',
  'distributions',
  'image_grid',
  'learning_curves',
  'paired_differences',
  'reliability',
  'segmentation_case',
  'style',
  'survival',
]
