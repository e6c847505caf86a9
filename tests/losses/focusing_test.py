"""Balance of the focal loss, and the unified one, against others."""

import jax.numpy as jnp
import numpy as np
import pytest

from medjax import losses


def _data(k=2, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(2, 6, 5, k)).astype(np.float32)
  return jnp.asarray(logits), jnp.asarray(rng.integers(k, size=(2, 6, 5)))


def _first(x):
  return pytest.importorskip('torch').as_tensor(np.moveaxis(np.array(x), -1, 1))


def _per_example(x):
  return np.asarray(x).reshape(2, -1).mean(1)


@pytest.mark.parametrize('alpha', [0.0, 0.25, 0.9])
def test_alpha_weighs_positives_as_in_torchvision_and_monai(alpha):
  monai = pytest.importorskip('monai')
  logits, target = _data(3)
  hot = np.eye(3, dtype=np.float32)[target]
  theirs = monai.losses.FocalLoss(
    gamma=2.0, alpha=alpha, include_background=True, reduction='none'
  )(_first(logits), _first(hot))
  ours = losses.focal(logits, jnp.asarray(hot), alpha=alpha, multi_label=True)
  np.testing.assert_allclose(ours, _per_example(theirs), rtol=1e-5)


def test_alpha_is_the_paper_in_numbers():
  """Lin et al. 2017, eq. 5, of p = .9 right and wrong."""
  z = jnp.log(jnp.array([[9.0]]))
  f = lambda y: losses.focal(z, jnp.array([[y]]), alpha=0.25, multi_label=True)
  assert float(f(1.0)[0]) == pytest.approx(0.25 * 0.01 * -np.log(0.9), rel=1e-4)
  assert float(f(0.0)[0]) == pytest.approx(0.75 * 0.81 * -np.log(0.1), rel=1e-4)


def test_pos_weight_is_torchs():
  torch = pytest.importorskip('torch')
  logits, target = _data(3)
  hot = np.eye(3, dtype=np.float32)[target]
  expected = torch.nn.functional.binary_cross_entropy_with_logits(
    torch.as_tensor(np.array(logits)),
    torch.as_tensor(hot),
    weight=torch.as_tensor([1.0, 0.5, 2.0]),
    pos_weight=torch.as_tensor([3.0, 1.0, 0.2]),
    reduction='none',
  )
  options = {'class_weights': (1, 0.5, 2), 'pos_weight': (3, 1, 0.2)}
  hot = jnp.asarray(hot)
  ours = losses.binary_cross_entropy(logits, hot, **options)
  np.testing.assert_allclose(ours, _per_example(expected), rtol=1e-5)
  ours = losses.focal(logits, hot, gamma=0.0, multi_label=True, **options)
  np.testing.assert_allclose(ours, _per_example(expected), rtol=1e-5)


def test_balance_of_sigmoids_is_refused_for_softmax():
  logits, target = _data()
  for options in ({'alpha': 0.25}, {'pos_weight': (1, 2)}):
    with pytest.raises(ValueError, match='for softmax give class_weights'):
      losses.focal(logits, target, **options)
  with pytest.raises(ValueError, match='alpha must be from 0 to 1'):
    losses.focal(logits, target, alpha=2.0, multi_label=True)
  with pytest.raises(ValueError, match='pos_weight has 1 numbers, not 2'):
    losses.focal(logits, target, pos_weight=(2.0,), multi_label=True)


@pytest.mark.parametrize('weight', [0.0, 0.5, 1.0])
def test_unified_focal_is_the_authors(weight):
  """MONAI's parts, but its mean over classes is the authors' sum."""
  monai = pytest.importorskip('monai')
  parts = monai.losses.unified_focal_loss
  logits, target = _data(seed=1)
  z = np.asarray(logits, float)
  p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
  p, y = _first(p), _first(np.eye(2)[target])
  for i in range(2):
    pair = p[i : i + 1], y[i : i + 1]
    focal = parts.AsymmetricFocalLoss(delta=0.6, gamma=0.5)(*pair)
    other = parts.AsymmetricFocalTverskyLoss(delta=0.6, gamma=0.5)(*pair)
    expected = weight * 2 * float(focal) + (1 - weight) * float(other)
    ours = losses.unified_focal(logits, target, weight=weight, smooth=1e-7)[i]
    assert float(ours) == pytest.approx(expected, rel=1e-4)


def test_unified_focal_of_one_label_is_that_of_two_classes():
  logits, target = _data(seed=2)
  pair = logits[..., 1:] - logits[..., :1], target[..., None]
  np.testing.assert_allclose(
    losses.unified_focal(*pair, multi_label=True),
    losses.unified_focal(logits, target),
    rtol=1e-5,
  )
