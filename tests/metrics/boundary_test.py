"""Boundary IoU: drawn rims, and the surface as its narrowest case."""

import numpy as np
import pytest
from scipy import ndimage

from medjax.metrics import boundary as m
from medjax.metrics import surface


def _blob(seed, shape=(12, 11)):
  rng = np.random.default_rng(seed)
  return ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > 0


@pytest.mark.parametrize('shape', [(12, 11), (8, 9, 7)])
def test_one_voxel_wide_it_is_the_iou_of_the_surfaces(shape):
  p, r = _blob(0, shape), _blob(1, shape)
  a, b = surface.surface(p), surface.surface(r)
  np.testing.assert_array_equal(m.rim(p, spacing=1, width=1), a)
  expected = (a & b).sum() / (a | b).sum()
  assert m.boundary_iou(p, r, spacing=1, width=1) == pytest.approx(expected)


def test_wide_enough_it_is_the_iou():
  p, r = _blob(0), _blob(1)
  expected = (p & r).sum() / (p | r).sum()
  assert m.boundary_iou(p, r, spacing=1, width=99) == pytest.approx(expected)


def test_a_large_square_moved_by_one():
  """IoU 90/110 forgives; of the rims 1 wide, 36 voxels each, 18 are shared."""
  p = np.zeros((14, 14), bool)
  p[2:12, 2:12] = True
  r = np.roll(p, 1, 1)
  assert m.boundary_iou(p, r, spacing=1, width=1) == pytest.approx(18 / 54)
  thick = m.boundary_iou(p, r, spacing=(0.5, 0.5), width=1.0)
  assert thick == m.boundary_iou(p, r, spacing=1, width=2)


def test_empty_masks_and_what_is_refused():
  empty, full = np.zeros((4, 4), bool), np.ones((4, 4), np.uint8) * 255
  assert np.isnan(m.boundary_iou(empty, empty, spacing=1, width=1))
  assert m.boundary_iou(full, empty, spacing=1, width=1) == 0
  assert m.boundary_iou(full, full, spacing=1, width=1) == 1
  with pytest.raises(ValueError, match='0/1 or 0/255'):
    m.boundary_iou(full * 0 + 3, empty, spacing=1, width=1)
  with pytest.raises(ValueError, match='width must be positive'):
    m.boundary_iou(full, full, spacing=1, width=0)
