"""Overlap losses beyond Dice and Tversky, against MONAI and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import losses

K = 3


def _data(spatial, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(2, *spatial, K)).astype(np.float32)
  target = rng.integers(K, size=(2, *spatial))
  soft = rng.dirichlet(np.ones(K), size=(2, *spatial)).astype(np.float32)
  return jnp.asarray(logits), jnp.asarray(target), soft


def _first(x):
  return pytest.importorskip('torch').as_tensor(np.moveaxis(np.array(x), -1, 1))


def _theirs(name, logits, target, *, smooth=1e-5, multi=False, **options):
  monai = pytest.importorskip('monai')
  activation = {'sigmoid': True} if multi else {'softmax': True}
  function = getattr(monai.losses, name)(
    include_background=multi or options.pop('background', False),
    smooth_nr=smooth,
    smooth_dr=smooth,
    reduction='none',
    **activation,
    **options,
  )
  value = np.asarray(function(_first(logits), _first(target)))
  rows = 1 if options.get('batch') else 2
  return np.broadcast_to(value.reshape(rows, -1).mean(1), 2)


@pytest.mark.parametrize('spatial', [(6, 5), (4, 3, 2)])
@pytest.mark.parametrize('multi', [False, True])
@pytest.mark.parametrize('batch', [False, True])
def test_variants_are_monais(spatial, multi, batch):
  logits, target, soft = _data(spatial)
  hot = np.eye(K, dtype=np.float32)[target]
  ours = {'multi_label': multi, 'batch': batch}
  theirs = {'multi': multi, 'batch': batch}
  weights = [1.0, 2.0, 0.5]
  for a, b in (
    (
      losses.jaccard(logits, target, smooth=1e-3, **ours),
      _theirs('DiceLoss', logits, hot, smooth=2e-3, jaccard=True, **theirs),
    ),
    (
      losses.dice(logits, target, squared=True, **ours),
      _theirs('DiceLoss', logits, hot, squared_pred=True, **theirs),
    ),
    (
      losses.dice(logits, jnp.asarray(soft), **ours),
      _theirs('DiceLoss', logits, soft, soft_label=True, **theirs),
    ),
    (
      losses.tversky(logits, jnp.asarray(soft), **ours),
      _theirs(
        'TverskyLoss', logits, soft, soft_label=True, alpha=0.3, beta=0.7,
        **theirs,
      ),
    ),
    (
      losses.dice(logits, target, class_weights=weights, **ours),
      _theirs(
        'DiceLoss', logits, hot, weight=weights if multi else weights[1:],
        **theirs,
      ),
    ),
    (
      losses.generalised_dice(logits, target, **ours),
      _theirs('GeneralizedDiceLoss', logits, hot, **theirs),
    ),
  ):  # fmt: skip
    np.testing.assert_allclose(a, b, rtol=2e-5)


def test_generalised_dice_of_absent_classes_is_monais():
  logits, target, _ = _data((6, 5))
  for absent in (jnp.where(target == 2, 1, target), target * 0):
    hot = np.eye(K, dtype=np.float32)[absent]
    for background in (False, True):
      ours = losses.generalised_dice(logits, absent, background=background)
      assert np.isfinite(ours).all()
      if background or absent.any():
        theirs = _theirs(
          'GeneralizedDiceLoss', logits, hot, background=background
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
      else:  # false positives of an empty map are punished, where MONAI's is 0
        assert (np.asarray(ours) > 0.9).all()


@pytest.mark.parametrize('name', ['dice', 'jaccard', 'tversky'])
def test_a_soft_target_is_its_own_best(name):
  """By Σpy the best of y = .6 would be p = 1."""
  y = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (1, 5, 5, 1)))
  f = lambda z: getattr(losses, name)(z, y, multi_label=True).sum()
  best = jnp.log(y / (1 - y))
  assert float(f(best)) == pytest.approx(0, abs=1e-6)
  for seed in range(3):
    noise = jax.random.normal(jax.random.key(seed), best.shape)
    assert f(best + 0.3 * noise) > f(best)
  assert f(best + 5) > f(best)


def test_jaccard_is_intersection_over_union():
  target = jnp.zeros((1, 4, 4), int).at[0, :2].set(1)
  sure = 50.0 * jnp.eye(2)[jnp.zeros((1, 4, 4), int).at[0, 1:3].set(1)]
  ours = losses.jaccard(sure, target, smooth=0.0)
  assert float(ours[0]) == pytest.approx(1 - 4 / 12)
