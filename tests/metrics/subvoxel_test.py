"""Surface Dice by area: MONAI, DeepMind's published number, closed forms."""

import numpy as np
import pytest
from scipy import ndimage

from medjax.metrics import subvoxel as m


def _blob(shape, seed):
  rng = np.random.default_rng(seed)
  return ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > 0.1


def test_all_256_pieces_are_monais():
  utils = pytest.importorskip('monai.metrics.utils')
  spacing = (0.7, 1.0, 2.5)
  table, _ = utils.create_table_neighbour_code_to_surface_area(spacing, None)
  np.testing.assert_allclose(m._table(np.array(spacing)), table, atol=1e-6)


@pytest.mark.parametrize(
  ('shape', 'spacing'), [((14, 12), (1, 1)), ((14, 12), (0.5, 2)),
                         ((9, 8, 7), (1, 1, 1)), ((9, 8, 7), (0.7, 0.7, 3))]
)  # fmt: skip
def test_share_is_monais(shape, spacing):
  monai = pytest.importorskip('monai')
  torch = pytest.importorskip('torch')
  p, r = (_blob(shape, seed) for seed in (0, 1))
  a, b = (torch.as_tensor(x[None, None]) for x in (p, r))
  spacing = [float(x) for x in spacing]
  for tolerance in (0.0, 1.0):
    theirs = monai.metrics.compute_surface_dice(
      a, b, [tolerance], include_background=True, spacing=spacing,
      use_subvoxels=True,
    )  # fmt: skip
    ours = m.nsd(p, r, spacing=spacing, tolerance=tolerance)
    assert ours == pytest.approx(float(theirs), rel=1e-5)


def test_a_number_of_deepminds_tests():
  """A slab of 50 and one of 51 planes, 2 mm apart, 1 mm tolerance."""
  p, r = np.zeros((2, 100, 100, 100), bool)
  r[:50], p[:51] = True, True
  found = m.nsd(p, r, spacing=(2, 1, 1), tolerance=1.0)
  assert found == pytest.approx(0.836145008498, rel=1e-9)


def test_sizes_in_closed_form():
  one = np.zeros((5, 5), bool)
  one[2, 2] = True
  assert m.size(one, spacing=(3, 4)) == pytest.approx(4 * 2.5)
  z, y, x = np.indices((44, 44, 44)) - 21.5
  ball = x**2 + y**2 + z**2 < 20**2
  # Marching cubes of a binary ball is rough: a known 9 % too large.
  area = 4 * np.pi * 400
  assert area < m.size(ball, spacing=1) < 1.12 * area
  assert m.size(ball, spacing=2) == pytest.approx(4 * m.size(ball, spacing=1))


def test_empty_masks_and_what_is_refused():
  empty, full = np.zeros((4, 4), bool), np.ones((4, 4), np.uint8) * 255
  options = {'spacing': 1, 'tolerance': 1}
  assert np.isnan(m.nsd(empty, empty, **options))
  assert m.nsd(full, empty, **options) == 0
  assert m.nsd(full, full, **options) == 1
  with pytest.raises(ValueError, match='0/1 or 0/255'):
    m.nsd(full * 0 + 3, empty, **options)
  with pytest.raises(ValueError, match='2 or 3 axes'):
    m.nsd(empty[0], empty[0], **options)
  with pytest.raises(ValueError, match='tolerance must be'):
    m.nsd(full, full, spacing=1, tolerance=-1)
