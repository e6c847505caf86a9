"""Centrelines: topology by counting cells, drawn tubes, clDice."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from medjax.metrics import centreline as m


def _blobs(shape, seed):
  rng = np.random.default_rng(seed)
  return ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > 0.02


def _euler(mask):
  """Corners less edges plus squares less cubes, of closed voxels."""
  mask, total = np.pad(mask, 1).astype(int), 0
  for axes in itertools.product((False, True), repeat=mask.ndim):
    cells = mask
    for axis in np.flatnonzero(axes):
      cells = np.maximum(np.delete(cells, -1, axis), np.delete(cells, 0, axis))
    total += (-1) ** (mask.ndim - sum(axes)) * cells.sum()
  return total


@pytest.mark.parametrize('shape', [(25, 30), (14, 15, 13)])
@pytest.mark.parametrize('seed', range(3))
def test_pieces_holes_and_tunnels_stay(shape, seed):
  mask = _blobs(shape, seed)
  line = m.centreline(mask)
  assert not (line & ~mask).any()
  assert line.sum() < 0.5 * mask.sum()
  corners = np.ones((3,) * len(shape))
  assert ndimage.label(line, corners)[1] == ndimage.label(mask, corners)[1]
  holes = [ndimage.label(~np.pad(x, 1))[1] for x in (line, mask)]
  assert holes[0] == holes[1]
  assert _euler(line) == _euler(mask)
  np.testing.assert_array_equal(m.centreline(line), line)


def test_a_ring_becomes_a_circle_in_its_middle():
  z, y, x = np.indices((9, 40, 40)) - np.array([4, 20, 20])[:, None, None, None]
  away = np.hypot(np.hypot(y, x) - 14, z)
  line = m.centreline(away < 3.5)
  assert away[line].max() < 1.8
  assert 2 * 14 * 2 < line.sum() < 2 * np.pi * 14 * 1.5


def test_cl_dice_of_drawn_lines():
  line = np.zeros((15, 15), bool)
  line[7, 2:13] = True
  thick = ndimage.binary_dilation(line, np.ones((3, 3)))
  assert m.cl_dice(line, line) == m.cl_dice(thick, thick) == 1
  assert m.cl_dice(thick, line) > 0.9
  half = line.copy()
  half[:, 8:] = False  # 6 of 11
  assert m.cl_dice(half, line) == pytest.approx(2 * 6 / 11 / (1 + 6 / 11))
  assert m.cl_dice(np.roll(line, 3, 0), line) == 0


def test_empty_masks_and_what_is_refused():
  empty, full = np.zeros((4, 4), bool), np.ones((4, 4), np.uint8) * 255
  assert np.isnan(m.cl_dice(empty, empty))
  assert m.cl_dice(full, empty) == m.cl_dice(empty, full) == 0
  with pytest.raises(ValueError, match='0/1 or 0/255'):
    m.cl_dice(full * 0 + 3, empty)
  with pytest.raises(ValueError, match='2 or 3 axes'):
    m.centreline(np.zeros(4, bool))
