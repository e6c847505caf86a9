"""Figures of pages: each takes plain data and gives a matplotlib Figure.

Or None, where the data hold nothing to show. Made under style(); neither
pyplot nor a display is used, and matplotlib is imported by the first figure.
"""

from medjax.reports.figures import survival
from medjax.reports.figures.cases import segmentation_case
from medjax.reports.figures.cuts import cuts, picture
from medjax.reports.figures.decisions import (
  confusion,
  discrimination,
  reliability,
)
from medjax.reports.figures.distribution import boxes, distributions
from medjax.reports.figures.doubt import (
  by_severity,
  corrupted,
  risk_coverage,
)
from medjax.reports.figures.efficiency import label_curves
from medjax.reports.figures.images import contours, image_grid
from medjax.reports.figures.learning import learning_curves
from medjax.reports.figures.look import style
from medjax.reports.figures.maps import attributions, overlaid
from medjax.reports.figures.paired import paired_differences
from medjax.reports.figures.searching import (
  importances,
  parallel,
  search_curves,
  search_history,
)

__all__ = [
  'attributions',
  'boxes',
  'by_severity',
  'confusion',
  'contours',
  'corrupted',
  'cuts',
  'discrimination',
  'distributions',
  'image_grid',
  'importances',
  'label_curves',
  'learning_curves',
  'overlaid',
  'paired_differences',
  'parallel',
  'picture',
  'reliability',
  'risk_coverage',
  'search_curves',
  'search_history',
  'segmentation_case',
  'style',
  'survival',
]
