"""Losses against torch, MONAI and float64 numpy; gradients, masks, shapes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from medjax import losses

K = 3
SPATIAL = [(), (5, 4), (4, 3, 2)]
ALL = ('cross_entropy', 'binary_cross_entropy', 'focal', 'dice', 'tversky')


def _data(spatial, b=2, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(b, *spatial, K)).astype(np.float32) * 2
  return jnp.asarray(logits), jnp.asarray(rng.integers(K, size=(b, *spatial)))


def _one_hot(target):
  return np.eye(K)[np.asarray(target)]


def _channels_first(x):
  return np.moveaxis(np.asarray(x), -1, 1)


def _torch(x):
  return pytest.importorskip('torch').as_tensor(np.array(x))


def _mean(x):
  return np.asarray(x).reshape(len(x), -1).mean(1)


@pytest.mark.parametrize('spatial', SPATIAL)
@pytest.mark.parametrize('weights', [(), (1, 2.5, 0.5)])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_is_torchs(spatial, weights, smoothing):
  functional = pytest.importorskip('torch').nn.functional
  logits, target = _data(spatial)
  expected = functional.cross_entropy(
    _torch(_channels_first(logits)),
    _torch(target).long(),
    weight=_torch(np.float32(weights)) if weights else None,
    label_smoothing=smoothing,
    reduction='none',
  )
  kwargs = {'class_weights': weights, 'label_smoothing': smoothing}
  actual = losses.cross_entropy(logits, target, **kwargs)
  np.testing.assert_allclose(actual, _mean(expected), rtol=1e-5)
  soft = losses.cross_entropy(logits, jnp.asarray(_one_hot(target)), **kwargs)
  np.testing.assert_allclose(soft, actual, rtol=1e-6)


def test_cross_entropy_of_mixed_labels_is_linear():
  logits, a = _data(())
  b = (a + 1) % K
  mixed = jnp.asarray(0.3 * _one_hot(a) + 0.7 * _one_hot(b))
  expected = 0.3 * losses.cross_entropy(logits, a)
  expected += 0.7 * losses.cross_entropy(logits, b)
  actual = losses.cross_entropy(logits, mixed)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize('spatial', SPATIAL)
def test_binary_cross_entropy_is_torchs(spatial):
  functional = pytest.importorskip('torch').nn.functional
  logits, target = _data(spatial)
  hot = _one_hot(target).astype(np.float32)
  expected = functional.binary_cross_entropy_with_logits(
    _torch(logits),
    _torch(hot * 0.8 + 0.1),
    weight=_torch(np.float32([1, 2, 0.5])),
    reduction='none',
  )
  actual = losses.binary_cross_entropy(
    logits,
    jnp.asarray(hot),
    class_weights=(1, 2, 0.5),
    label_smoothing=0.2,
  )
  np.testing.assert_allclose(actual, _mean(expected), rtol=1e-5)


@pytest.mark.parametrize('gamma', [0, 0.5, 2.0])
@pytest.mark.parametrize('multi_label', [False, True])
def test_focal_is_the_formula_in_float64(gamma, multi_label):
  logits, target = _data((5, 4))
  z, y = np.float64(logits), _one_hot(target)
  if multi_label:
    p = special.expit(z)
    each = y * (1 - p) ** gamma * -np.log(p)
    each += (1 - y) * p**gamma * -np.log1p(-p)
    expected = _mean(each)
  else:
    p = special.softmax(z, -1)
    expected = _mean((y * (1 - p) ** gamma * -np.log(p)).sum(-1))
  actual = losses.focal(logits, target, gamma=gamma, multi_label=multi_label)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize('multi_label', [False, True])
def test_focal_is_monais(multi_label):
  monai = pytest.importorskip('monai')
  logits, target = _data((4, 3, 2))
  expected = monai.losses.FocalLoss(
    gamma=2.0, use_softmax=not multi_label, reduction='none'
  )(_torch(_channels_first(logits)), _torch(_channels_first(_one_hot(target))))
  expected = np.asarray(expected)
  expected = expected.mean((1, 2, 3, 4)) * (1 if multi_label else K)
  actual = losses.focal(logits, target, multi_label=multi_label)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize('spatial', SPATIAL[1:])
@pytest.mark.parametrize('multi_label', [False, True])
@pytest.mark.parametrize('background', [False, True])
@pytest.mark.parametrize('batch', [False, True])
def test_dice_and_tversky_are_monais(spatial, multi_label, background, batch):
  monai = pytest.importorskip('monai')
  logits, target = _data(spatial)
  common = {
    'include_background': background or multi_label,
    'softmax': not multi_label,
    'sigmoid': multi_label,
    'batch': batch,
    'smooth_nr': 1e-5,
    'smooth_dr': 1e-5,
    'reduction': 'none',
  }
  options = {
    'multi_label': multi_label,
    'background': background,
    'batch': batch,
  }
  y = _torch(_channels_first(_one_hot(target)))
  z = _torch(_channels_first(logits))
  expected = np.asarray(monai.losses.DiceLoss(**common)(z, y))
  expected = expected.reshape(1 if batch else 2, -1).mean(1)
  actual = losses.dice(logits, target, **options)
  assert actual.shape == (2,)
  np.testing.assert_allclose(actual, np.broadcast_to(expected, 2), rtol=1e-5)
  expected = np.asarray(
    monai.losses.TverskyLoss(alpha=0.3, beta=0.7, **common)(z, y)
  )
  expected = expected.reshape(1 if batch else 2, -1).mean(1)
  actual = losses.tversky(logits, target, **options)
  np.testing.assert_allclose(actual, np.broadcast_to(expected, 2), rtol=1e-5)


def test_dice_is_nnunets_formula_in_float64():
  logits, target = _data((6, 5))
  p = special.softmax(np.float64(logits), -1)[..., 1:]
  y = _one_hot(target)[..., 1:]
  overlap, sums = (p * y).sum((1, 2)), (p + y).sum((1, 2))
  expected = 1 - ((2 * overlap + 1e-5) / (sums + 1e-5)).mean(-1)
  np.testing.assert_allclose(losses.dice(logits, target), expected, rtol=1e-5)


def test_tversky_with_halves_is_dice():
  logits, target = _data((6, 5))
  actual = losses.tversky(logits, target, alpha=0.5, beta=0.5, smooth=1e-6)
  expected = losses.dice(logits, target, smooth=2e-6)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_value_and_gradient_are_finite(name, dtype):
  """Empty masks, full masks, and logits that saturate."""
  function = getattr(losses, name)
  total = lambda z, y: function(z, y).sum()
  value_and_grad = jax.jit(jax.value_and_grad(total))
  base, _ = _data((4, 4))
  for scale, label in itertools.product((0.0, 1.0, 200.0), (0, 1)):
    logits = (base * scale).astype(dtype)
    value, gradient = value_and_grad(logits, jnp.full((2, 4, 4), label))
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    assert np.isfinite(value)
    assert np.isfinite(np.float32(gradient)).all()


@pytest.mark.parametrize('label', [0, 1])
@pytest.mark.parametrize('gamma', [0.5, 1])
@pytest.mark.parametrize('multi_label', [False, True])
def test_focal_gradient_is_finite_when_certain(label, gamma, multi_label):
  def loss(logits):
    target = jnp.array([label])
    options = {'gamma': gamma, 'multi_label': multi_label}
    return losses.focal(logits, target, **options).sum()

  gradient = jax.grad(loss)(jnp.array([[200.0, -200.0, -200.0]]))
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('spatial', SPATIAL)
def test_jit_vmap_and_examples_are_independent(name, spatial):
  function = getattr(losses, name)
  logits, target = _data(spatial, b=3)
  values = function(logits, target)
  assert values.shape == (3,)
  np.testing.assert_allclose(jax.jit(function)(logits, target), values, 1e-5)
  alone = [function(logits[i : i + 1], target[i : i + 1])[0] for i in range(3)]
  np.testing.assert_allclose(values, alone, rtol=1e-5)
  mapped = jax.vmap(lambda z, y: function(z[None], y[None])[0])(logits, target)
  np.testing.assert_allclose(values, mapped, rtol=1e-5)


def test_batch_dice_of_absent_class_uses_the_other_examples():
  logits, _ = _data((4, 4))
  target = jnp.zeros((2, 4, 4), int).at[1, 1, 1].set(2)
  pooled = losses.dice(logits, target, batch=True)
  assert pooled[0] == pooled[1]
  p = special.softmax(np.float64(logits), -1)[..., 1:]
  y = _one_hot(target)[..., 1:]
  overlap, sums = (p * y).sum((0, 1, 2)), (p + y).sum((0, 1, 2))
  expected = 1 - ((2 * overlap + 1e-5) / (sums + 1e-5)).mean()
  np.testing.assert_allclose(pooled, expected, rtol=1e-5)


@pytest.mark.parametrize('name', ['focal', 'dice', 'tversky'])
def test_gradient_descends(name):
  logits, target = _data((6, 6))
  function = getattr(losses, name)
  step = jax.jit(jax.grad(lambda z: function(z, target).sum()))
  before = function(logits, target).sum()
  for _ in range(20):
    logits = logits - 5 * step(logits)
  assert function(logits, target).sum() < before * 0.8
