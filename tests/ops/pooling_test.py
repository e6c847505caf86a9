import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops.pooling import avg_pool, max_pool

CASES = [
  ((8, 9), 2, None, 0),
  ((8, 9, 7), 2, None, 0),
  ((9, 12), (3, 2), None, 0),
  ((11, 8), 3, 2, 1),
  ((7, 8, 9), 3, 2, 1),
  ((7, 9), 3, 1, 1),
]


def flax_arguments(size, window, strides, padding):
  rank = len(size)
  axes = lambda v: (v,) * rank if isinstance(v, int) else v
  window = axes(window)
  strides = window if strides is None else axes(strides)
  return window, strides, [(padding, padding)] * rank


@pytest.mark.parametrize('case', CASES, ids=str)
def test_max_pool_is_exact_in_value_and_gradient(case):
  size, window, strides, padding = case
  # All values differ, so that there are no ties.
  values = np.random.default_rng(0).permutation(2 * 3 * np.prod(size))
  x = jnp.asarray(values.reshape(2, *size, 3), jnp.float32) - 100

  def ours(x):
    y = max_pool(x, window, strides=strides, padding=padding)
    return (y**2).sum(), y

  def theirs(x):
    y = nn.max_pool(x, *flax_arguments(*case))
    return (y**2).sum(), y

  (got, y), (expected, z) = (
    jax.jit(jax.grad(f, has_aux=True))(x) for f in (ours, theirs)
  )
  np.testing.assert_array_equal(y, z)
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize('case', [c for c in CASES if not c[3]], ids=str)
def test_avg_pool_agrees_with_flax(case):
  x = jax.random.normal(jax.random.key(0), (2, *case[0], 3))
  expected = nn.avg_pool(x, *flax_arguments(*case))
  y = avg_pool(x, case[1], strides=case[2])
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_a_tie_splits_its_gradient_and_loses_nothing():
  x = jnp.zeros((1, 4, 4, 1))
  gradient = jax.grad(lambda x: max_pool(x, 2).sum())(x)
  np.testing.assert_array_equal(gradient, jnp.full_like(x, 0.25))


def test_under_vmap_and_in_bfloat16():
  x = jax.random.normal(jax.random.key(0), (3, 2, 6, 6, 1), jnp.bfloat16)
  y = jax.vmap(lambda x: max_pool(x, 2))(x)
  assert y.shape == (3, 2, 3, 3, 1)
  assert y.dtype == jnp.bfloat16
  assert avg_pool(x, 2).dtype == jnp.bfloat16


def test_a_window_larger_than_the_input_is_refused():
  with pytest.raises(ValueError, match='does not fit'):
    max_pool(jnp.ones((1, 2, 2, 1)), 3)
