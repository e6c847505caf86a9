"""MixStyle: statistics mixed in training, nothing changed in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models
from medjax.finetune import mixstyle, style


def test_mixed_features_have_mixed_statistics():
  x = np.random.default_rng(0).normal(size=(6, 5, 7, 3)).astype(np.float32)
  x *= np.arange(1, 7)[:, None, None, None]
  out = np.asarray(style.mixed(jax.random.key(1), x, p=1.0, alpha=1.0))
  unit = lambda y: (
    (y - y.mean((1, 2), keepdims=True)) / y.std((1, 2), keepdims=True)
  )
  np.testing.assert_allclose(unit(out), unit(x), atol=1e-3)
  spread = out.std((1, 2))
  low, high = x.std((1, 2)).min(0), x.std((1, 2)).max(0)
  assert (spread > 0.99 * low).all()
  assert (spread < 1.01 * high).all()
  assert np.abs(spread - x.std((1, 2))).max() > 0.3
  same = style.mixed(jax.random.key(1), x, p=0.0, alpha=1.0)
  np.testing.assert_array_equal(same, x)


def test_a_model_mixes_while_it_trains_only():
  plain = models.ResNet18(num_classes=2, width=4)
  model = mixstyle(plain, p=1.0)
  x = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))
  variables = model.init(jax.random.key(1), x, train=False)
  own = plain.init(jax.random.key(1), x, train=False)
  jax.tree.map(
    np.testing.assert_array_equal, variables['params'], own['params']
  )
  np.testing.assert_allclose(
    model.apply(variables, x), plain.apply(own, x), atol=1e-6
  )

  def train(m, v, seed):
    return m.apply(
      v, x, train=True, rngs={'dropout': jax.random.key(seed)},
      mutable=['batch_stats'],
    )[0]  # fmt: skip

  a, b = (train(model, variables, seed) for seed in (0, 1))
  assert jnp.abs(a - b).max() > 1e-3
  np.testing.assert_allclose(train(plain, own, 0), train(plain, own, 1))


def test_a_target_that_matches_nothing():
  model = mixstyle(models.ResNet18(num_classes=2, width=4), target='nowhere')
  with pytest.raises(ValueError, match="'nowhere' matches no module"):
    model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)), train=False)
