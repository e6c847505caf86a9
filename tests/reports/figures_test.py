"""Figures: what is drawn where."""

import numpy as np
import pytest

from medjax.reports import figures
from medjax.reports.figures import cases, images


def test_outlines_lie_on_the_edges_of_the_mask():
  from matplotlib.figure import Figure

  inside = np.zeros((6, 8), bool)
  inside[0:3, 2:5] = True  # touches the upper border
  ax = Figure().subplots()
  images.outline(ax, inside, 'k')
  (path,) = ax.collections[0].get_paths()
  box = path.get_extents()
  assert (box.x0, box.x1, box.y0, box.y1) == (1.5, 4.5, -0.5, 2.5)


def test_small_masks_are_shown_larger():
  mask = np.zeros((100, 200), int)
  case = {'mask': mask, 'prediction': mask}
  assert cases._frame(case) == (-0.5, 199.5, 99.5, -0.5)  # nothing to see
  mask[40:60, 100:120] = 1
  left, right, bottom, top = cases._frame(case)
  assert (left, right, bottom, top) == (92.5, 126.5, 66.5, 32.5)
  mask[5:95, 5:195] = 1
  assert cases._frame(case) == (-0.5, 199.5, 99.5, -0.5)


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.91249, '0.912'),
    (-0.5, '−0.500'),
    (12.34, '12.3'),
    (1234567, '1,234,567'),
    (None, '–'),
    (float('nan'), '–'),
  ],
)
def test_numbers_as_text(value, text):
  assert figures.number(value) == text
