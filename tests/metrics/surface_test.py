"""Surface distances against brute force, MONAI and SimpleITK."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import distance

from medjax.metrics import surface as m

CASES = [
  ((9, 8), (1.0, 1.0)),
  ((9, 8), (0.5, 2.0)),
  ((7, 8, 6), (1.0, 1.0, 1.0)),
  ((7, 8, 6), (0.7, 0.7, 5.0)),
]


def _masks(shape, seed=0):
  """Two smooth blobs that differ, one of them cut by the image's border."""
  rng = np.random.default_rng(seed)
  fields = (
    ndimage.gaussian_filter(rng.normal(size=shape), 1.0) for _ in range(2)
  )
  return tuple(field > np.quantile(field, 0.7) for field in fields)


def _metrics(p, r, spacing, tolerance=1.0):
  d = m.surface_distances(p, r, spacing=spacing)
  return m.hausdorff(d), m.hd95(d), m.assd(d), m.nsd(d, tolerance=tolerance)


@pytest.mark.parametrize('shape', [(9, 8), (7, 8, 6), (1, 8, 6), (5,)])
def test_surface_is_the_mask_less_its_erosion(shape):
  for mask in _masks(shape):
    expected = mask & ~ndimage.binary_erosion(mask)
    np.testing.assert_array_equal(m.surface(mask), expected)
  full = np.ones((5, 5), bool)
  assert m.surface(full).sum() == 16


@pytest.mark.parametrize(('shape', 'spacing'), CASES)
@pytest.mark.parametrize('seed', range(3))
def test_all_four_are_brute_force(shape, spacing, seed):
  p, r = _masks(shape, seed)
  a, b = (np.argwhere(x & ~ndimage.binary_erosion(x)) * spacing for x in (p, r))
  between = distance.cdist(a, b)
  to_r, to_p = between.min(1), between.min(0)
  near = (to_r <= 1 + 1e-6).sum() + (to_p <= 1 + 1e-6).sum()
  expected = [
    max(to_r.max(), to_p.max()),
    max(np.percentile(to_r, 95), np.percentile(to_p, 95)),
    np.concatenate([to_r, to_p]).mean(),
    near / (len(to_r) + len(to_p)),
  ]
  np.testing.assert_allclose(_metrics(p, r, spacing), expected, rtol=1e-12)


@pytest.mark.parametrize(('shape', 'spacing'), CASES)
def test_all_four_are_monais(shape, spacing):
  monai = pytest.importorskip('monai')
  torch = pytest.importorskip('torch')
  p, r = _masks(shape, seed=3)
  a, b = (torch.as_tensor(x[None, None].astype(np.float32)) for x in (p, r))
  common = {'include_background': True, 'spacing': spacing}
  expected = [
    monai.metrics.compute_hausdorff_distance(a, b, **common),
    monai.metrics.compute_hausdorff_distance(a, b, percentile=95, **common),
    monai.metrics.compute_average_surface_distance(
      a, b, symmetric=True, **common
    ),
    monai.metrics.compute_surface_dice(a, b, [1.0], **common),
  ]
  expected = [float(value) for value in expected]
  np.testing.assert_allclose(_metrics(p, r, spacing), expected, rtol=1e-5)


def _sitk(array, spacing):
  sitk = pytest.importorskip('SimpleITK')
  image = sitk.GetImageFromArray(array.astype(np.uint8))
  image.SetSpacing([float(s) for s in spacing[::-1]])
  return image


@pytest.mark.parametrize(('shape', 'spacing'), CASES)
def test_hausdorff_and_average_are_simpleitks_on_the_surfaces(shape, spacing):
  sitk = pytest.importorskip('SimpleITK')
  p, r = _masks(shape, seed=4)
  filter_ = sitk.HausdorffDistanceImageFilter()
  filter_.Execute(_sitk(m.surface(p), spacing), _sitk(m.surface(r), spacing))
  d = m.surface_distances(p, r, spacing=spacing)
  assert m.hausdorff(d) == pytest.approx(
    filter_.GetHausdorffDistance(), rel=1e-5
  )
  means = d.to_reference.mean(), d.to_prediction.mean()
  assert (
    m.masd(d)
    == np.mean(means)
    == pytest.approx(filter_.GetAverageHausdorffDistance(), rel=1e-5)
  )


def test_simpleitk_differs_on_filled_masks_with_a_hole():
  """The stated difference: inside the other mask is distance 0 there."""
  sitk = pytest.importorskip('SimpleITK')
  p = np.zeros((11, 11), bool)
  p[1:10, 1:10] = True
  r = p.copy()
  r[5, 5] = False
  filter_ = sitk.HausdorffDistanceImageFilter()
  filter_.Execute(_sitk(p, (1, 1)), _sitk(r, (1, 1)))
  assert filter_.GetHausdorffDistance() == pytest.approx(1)
  d = m.surface_distances(p, r, spacing=(1, 1))
  assert m.hausdorff(d) == pytest.approx(3)


def test_shifted_plate_has_the_distance_of_the_shift():
  p = np.zeros((12, 6, 6), bool)
  p[3] = True
  r = np.roll(p, 2, axis=0)
  values = _metrics(p, r, (1.5, 1, 1), tolerance=3.0)
  np.testing.assert_allclose(values, (3, 3, 3, 1))
  assert _metrics(p, r, (1.5, 1, 1), tolerance=2.9)[3] == 0


def test_tolerance_bears_the_rounding_of_a_float32_spacing():
  p, r = np.zeros((2, 5, 5), bool)
  p[1, 1] = r[2, 1] = True
  spacing = np.float32([0.1, 0.1]).astype(float)  # 0.10000000149
  assert _metrics(p, r, spacing, tolerance=0.1)[3] == 1


def test_empty_masks_follow_the_table():
  empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
  nan = np.nan
  for p, r, expected in (
    (empty, empty, (nan, nan, nan, nan)),
    (empty, full, (nan, nan, nan, 0)),
    (full, empty, (nan, nan, nan, 0)),
    (full, full, (0, 0, 0, 1)),
  ):
    np.testing.assert_array_equal(_metrics(p, r, (1, 1)), expected)


def test_one_voxel_each():
  p, r = np.zeros((2, 4, 4, 4), bool)
  p[0, 0, 0] = r[3, 0, 3] = True
  np.testing.assert_allclose(_metrics(p, r, (1, 1, 2))[:3], [45**0.5] * 3)


def test_non_contiguous_views_and_bounding_box():
  p, r = _masks((14, 12, 8), seed=5)
  views = p[::2, :, ::-1], r[::2, :, ::-1]
  copies = [x.copy() for x in views]
  np.testing.assert_array_equal(
    _metrics(*views, (1, 2, 3)), _metrics(*copies, (1, 2, 3))
  )
  mask = np.zeros((6, 5), bool)
  assert mask[m.bounding_box(mask)].size == 0
  mask[2:4, 1] = True
  assert m.bounding_box(mask) == (slice(2, 4), slice(1, 2))


def test_masd_weighs_both_surfaces_alike():
  d = m.SurfaceDistances(np.array([1.0]), np.array([2.0, 4.0, 3.0]))
  assert m.masd(d) == 2
  assert m.assd(d) == 2.5
  assert np.isnan(m.masd(m.SurfaceDistances(np.zeros(0), np.ones(2))))


@pytest.mark.parametrize('tolerance', [-1, np.nan])
def test_bad_tolerance_is_an_error(tolerance):
  mask = np.ones((3, 3), bool)
  d = m.surface_distances(mask, mask, spacing=1)
  with pytest.raises(ValueError, match='tolerance must be 0 mm or more'):
    m.nsd(d, tolerance=tolerance)


@pytest.mark.parametrize('spacing', [(1, 0), (1, np.nan), (-1, 1)])
def test_bad_spacing_is_an_error(spacing):
  mask = np.ones((3, 3), bool)
  with pytest.raises(ValueError, match='spacing must be positive'):
    m.surface_distances(mask, mask, spacing=spacing)
