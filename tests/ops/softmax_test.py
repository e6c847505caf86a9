import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from medjax.ops.softmax import softmax


@pytest.mark.parametrize(
  'shape', [(5, 3), (2, 7, 1), (2, 7, 2), (1, 4, 5, 3), (2, 3, 4, 5, 4), (9, 6)]
)
@pytest.mark.parametrize('scale', [1, 1000])
def test_agrees_with_scipy_in_value_and_gradient(shape, scale):
  x = scale * np.random.default_rng(0).normal(size=shape)
  with jax.enable_x64(True):
    exact = jax.grad(lambda x: jnp.sin(jax.nn.softmax(x)).sum())(jnp.asarray(x))
  x32 = jnp.asarray(x, jnp.float32)
  exact_value = scipy.special.softmax(np.asarray(x32, float), axis=-1)
  np.testing.assert_allclose(jax.jit(softmax)(x32), exact_value, atol=1e-6)
  gradient = jax.jit(jax.grad(lambda x: jnp.sin(softmax(x)).sum()))(x32)
  np.testing.assert_allclose(gradient, exact, atol=2e-4 if scale > 1 else 1e-6)
  over = jax.vmap(softmax)(jnp.stack([x32, -x32]))
  np.testing.assert_allclose(over[0], exact_value, atol=1e-6)


def test_infinite_logits_and_half_precision():
  x = jnp.asarray([[[0.0, -jnp.inf, 0.0], [jnp.nan, 0.0, 0.0]]])
  found = jax.jit(softmax)(x)
  np.testing.assert_array_equal(found[0, 0], [0.5, 0, 0.5])
  assert jnp.isnan(found[0, 1]).all()
  assert softmax(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_only_a_cpu_moves_the_classes(text_for):
  logits = jnp.ones((2, 8, 3))
  assert 'transpose' in text_for('cpu', softmax, logits)
  assert 'transpose' not in text_for('cuda', softmax, logits)
