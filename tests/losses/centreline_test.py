"""clDice and its soft skeleton against MONAI and drawn lines."""

import jax.numpy as jnp
import numpy as np
import pytest

from medjax import losses
from medjax.losses.centreline import soft_skeleton


def _first(x):
  return pytest.importorskip('torch').as_tensor(np.moveaxis(np.array(x), -1, 1))


@pytest.mark.parametrize('shape', [(9, 8), (7, 6, 5)])
def test_soft_skeleton_is_monais(shape):
  cldice = pytest.importorskip('monai.losses.cldice')
  x = np.random.default_rng(0).random((1, *shape, 2)).astype(np.float32)
  theirs = np.moveaxis(cldice.soft_skel(_first(x), 3).numpy(), 1, -1)
  ours = soft_skeleton(jnp.asarray(x), iterations=3)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('shape', [(9, 8), (7, 6, 5)])
def test_cl_dice_is_monais_of_one_example(shape):
  cldice = pytest.importorskip('monai.losses.cldice')
  rng = np.random.default_rng(1)
  logits = jnp.asarray(rng.normal(size=(2, *shape, 2)).astype(np.float32))
  target = jnp.asarray(rng.integers(2, size=(2, *shape)))
  ours = losses.cl_dice(logits, target)
  p = jnp.exp(logits) / jnp.exp(logits).sum(-1, keepdims=True)
  y = np.eye(2, dtype=np.float32)[target]
  for i in range(2):
    pair = _first(y[i : i + 1, ..., 1:]), _first(p[i : i + 1, ..., 1:])
    theirs = cldice.SoftclDiceLoss(iter_=3)(*pair)
    assert float(ours[i]) == pytest.approx(float(theirs), rel=2e-4)


def test_a_gap_costs_and_a_thicker_vessel_does_not():
  line = jnp.zeros((1, 15, 15), int).at[:, 7, 2:13].set(1)
  thick = jnp.zeros((1, 15, 15), int).at[:, 6:9, 1:14].set(1)
  gap = thick.at[:, :, 6:9].set(0)
  value = lambda x: float(
    losses.cl_dice(60.0 * jnp.eye(2)[x], line, smooth=1e-3)[0]
  )
  assert value(line) == pytest.approx(0, abs=1e-3)
  assert value(thick) < 0.1
  assert value(gap) > value(thick) + 0.1


def test_a_vector_has_no_centreline():
  with pytest.raises(ValueError, match='needs a map'):
    losses.cl_dice(jnp.zeros((2, 3)), jnp.zeros(2, int))
