"""Distances against scipy's, the Hausdorff loss against MONAI's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax import losses
from medjax.losses import distances


@pytest.mark.parametrize('shape', [(9, 1), (9, 8), (7, 6, 5)])
def test_distances_are_scipys(shape):
  mask = np.random.default_rng(0).random((2, *shape, 2)) < 0.1
  mask[:, 0, 0] = True  # scipy does not define the distance to nothing
  found = jax.jit(distances.squared_distance)(jnp.asarray(mask))
  for b in range(2):
    for k in range(2):
      expected = ndimage.distance_transform_edt(~mask[b, ..., k]) ** 2
      np.testing.assert_allclose(found[b, ..., k], expected, rtol=1e-6)
  empty = jnp.zeros((1, *shape, 1), bool)
  assert not distances.border_distance(empty).any()
  assert not distances.border_distance(~empty).any()


@pytest.mark.parametrize('shape', [(9, 8), (7, 6, 5)])
@pytest.mark.parametrize('multi_label', [False, True])
def test_hausdorff_is_monais(shape, multi_label):
  monai = pytest.importorskip('monai')
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(2)
  logits = rng.normal(size=(2, *shape, 3)).astype(np.float32)
  target = rng.integers(3, size=(2, *shape))
  hot = np.eye(3, dtype=np.float32)[target]
  theirs = monai.losses.HausdorffDTLoss(
    include_background=multi_label,
    sigmoid=multi_label,
    softmax=not multi_label,
    reduction='none',
  )(*(torch.as_tensor(np.moveaxis(x, -1, 1)) for x in (logits, hot)))
  ours = losses.hausdorff(
    jnp.asarray(logits), jnp.asarray(target), multi_label=multi_label
  )
  theirs = np.asarray(theirs).reshape(2, -1).mean(1)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_an_error_far_from_the_border_counts_more():
  target = jnp.zeros((1, 16, 16), int).at[:, 4:8, 4:8].set(1)
  near = target.at[:, 8, 4].set(1)
  far = target.at[:, 15, 15].set(1)
  value = lambda x: float(losses.hausdorff(60.0 * jnp.eye(2)[x], target)[0])
  assert value(target) == pytest.approx(0, abs=1e-6)
  assert 0 < value(near) < value(far)


def test_a_vector_has_no_border():
  with pytest.raises(ValueError, match='needs a map'):
    losses.hausdorff(jnp.zeros((2, 3)), jnp.zeros(2, int))
