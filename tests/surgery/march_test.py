"""The eikonal equation against closed forms and another implementation."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.surgery import curved, march


def test_it_agrees_with_fast_marching():
  sitk = pytest.importorskip('SimpleITK')
  rng = np.random.default_rng(0)
  noise = ndimage.gaussian_filter(rng.normal(size=(26, 24, 20)), 3)
  cost, spacing = np.exp(6 * noise), (1.0, 1.25, 2.0)
  seeds = np.zeros(cost.shape, bool)
  seeds[13, 12, 10] = True
  found = march.arrival(
    jnp.asarray(cost, jnp.float32), jnp.asarray(seeds), spacing=spacing
  )
  image = sitk.GetImageFromArray((1 / cost).T)
  image.SetSpacing(spacing)
  other = sitk.FastMarchingImageFilter()
  other.SetTrialPoints([(13, 12, 10)])
  other.SetStoppingValue(1e9)
  other = sitk.GetArrayFromImage(other.Execute(image)).T
  np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-4)


def test_ways_go_around_walls_and_none_leads_through():
  cost = np.ones((21, 21, 9), np.float32)
  cost[10, :18] = np.inf
  seeds = np.zeros(cost.shape, bool)
  seeds[5, 5, 4] = True
  time = march.arrival(
    jnp.asarray(cost), jnp.asarray(seeds), spacing=(1.0, 1.0, 1.0)
  )
  way = march.descend(time, (15, 5, 4), (1.0, 1.0, 1.0))
  index = way.astype(int)
  assert np.isfinite(cost[tuple(index.T)]).all()
  assert tuple(index[-1]) == (5, 5, 4)
  length = np.linalg.norm(np.diff(way, axis=0), axis=-1).sum()
  shortest = 2 * np.hypot(5, 13)  # around the end of the wall
  assert shortest <= length < 1.15 * shortest
  cost[10] = np.inf
  time = march.arrival(
    jnp.asarray(cost), jnp.asarray(seeds), spacing=(1.0, 1.0, 1.0)
  )
  assert np.isinf(time[15, 5, 4])
  with pytest.raises(ValueError, match='no way leads there'):
    march.descend(time, (15, 5, 4), (1.0, 1.0, 1.0))


def test_smoothing_straightens_and_keeps_what_is_allowed():
  line = np.array([[i, 3.0 * (i % 2), 0] for i in range(20)])
  free = march.smoothed(line, lambda p: p[:, 0] > -1)
  assert np.abs(np.asarray(free)[:, 1] - np.linspace(0, 3, 20)).max() < 0.2
  high = march.smoothed(line, lambda p: p[:, 1] >= 1.0)
  assert (np.asarray(high)[1:, 1] >= 1.0).all() or np.allclose(high[0], line[0])


def test_bends_are_radii():
  turn = np.linspace(0, np.pi / 2, 60)
  arc = 40 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
  assert march.bend(arc) == pytest.approx(40, rel=0.01)
  straight = np.outer(np.linspace(0, 60, 61), [1.0, 0, 0])
  assert march.bend(straight) > 1e6 or np.isinf(march.bend(straight))


def test_a_lumen_is_followed_in_its_middle():
  shape, spacing = (50, 50, 12), (1.0, 1.0, 1.5)
  x, y, z = np.meshgrid(*map(np.arange, shape), indexing='ij')
  ring = np.hypot(x - 5, y - 5)
  mask = (ring - 30) ** 2 + ((z - 6) * 1.5) ** 2 <= 25
  start, end = np.array([35.0, 5, 9]), np.array([5.0, 35, 9])
  found = curved.lumen(mask, spacing, start, end)
  assert found.length == pytest.approx(30 * np.pi / 2, rel=0.06)
  assert found.bend == pytest.approx(30, rel=0.45)
  away = np.hypot(found.line[:, 0] - 5, found.line[:, 1] - 5) - 30
  assert np.abs(away).max() < 2.5
  assert 3.0 < found.width.mean() < 5.5
  with pytest.raises(ValueError, match='entry is 25 mm from the vessel'):
    curved.lumen(mask, spacing, np.array([5.0, 5, 9]), end)
  mask[24:29] = False
  with pytest.raises(ValueError, match='several pieces'):
    curved.lumen(mask, spacing, start, end)
