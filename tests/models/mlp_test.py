import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models


def test_linear_without_layers():
  x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  model = models.MLP(2, hidden=())
  out, variables = model.init_with_output(jax.random.key(0), x)
  head = variables['params']['head']
  expected = x @ head['kernel'][:3] + head['bias']
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_what_is_missing_is_the_mean_and_is_said():
  model = models.MLP(1, hidden=(4,))
  x = jnp.array([[0.5, jnp.nan], [0.5, 0.0]])
  variables = model.init(jax.random.key(1), x)
  a, b = model.apply(variables, x)
  assert np.isfinite(a).all()
  assert a != b  # zero is another value than none


@pytest.mark.parametrize('model', [models.MLP(1), models.CoxTime(4)])
def test_a_picture_is_no_table(model):
  with pytest.raises(ValueError, match='a table is'):
    model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def test_the_hazard_at_the_ends_of_intervals():
  model = models.CoxTime(4, hidden=(8,))
  x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
  at_ends, variables = model.init_with_output(jax.random.key(0), x)
  times = jnp.array([[0.25, 0.5, 0.75, 1.0]] * 3)
  np.testing.assert_allclose(
    at_ends, model.apply(variables, x, times=times), atol=1e-6
  )
  other = model.apply(variables, x, times=times * 0.9)
  assert np.abs(other - at_ends).max() > 1e-4


def test_cox_time_beside_an_image():
  backbone = models.ResNet(3, (1,), width=4, stem='small')
  model = models.CoxTime(4, hidden=(8,), backbone=backbone)
  out = model.init_with_output(
    jax.random.key(0), jnp.zeros((2, 8, 8, 1)), times=jnp.zeros((2, 7))
  )[0]
  assert out.shape == (2, 7)
