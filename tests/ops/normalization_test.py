import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models import layers
from medjax.ops.normalization import moments, normalize


@pytest.mark.parametrize('shape', [(3, 5, 2), (1, 4, 6, 3), (2, 3, 5, 4, 1)])
@pytest.mark.parametrize('mean', [2, 3000])  # of standard deviation 3
def test_moments_agree_with_float64(shape, mean):
  x = np.random.default_rng(0).normal(mean, 3, shape).astype('f')
  axes = tuple(range(1, x.ndim - 1))
  got = jax.jit(moments)(x)
  x = x.astype('d')
  np.testing.assert_allclose(got[0], x.mean(axes), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(got[1], x.var(axes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('far', [100, 1000])  # standard deviations
def test_one_voxel_far_out_spoils_no_variance(far):
  x = np.random.default_rng(0).normal(0, 1, (1, 256, 256, 1)).astype('f')
  x[0, 0, 0] = far
  got = jax.jit(moments)(x)[1]
  np.testing.assert_allclose(got, x.astype('d').var((1, 2)), rtol=1e-5)


def test_a_constant_image_becomes_the_bias():
  x = jnp.full((2, 4, 4, 3), 7.0)
  bias = jnp.array([1.0, -2.0, 0.0])
  y = normalize(x, *moments(x), jnp.ones(3), bias, epsilon=1e-5)
  np.testing.assert_allclose(y, jnp.broadcast_to(bias, x.shape), atol=1e-4)


@pytest.mark.parametrize('rank', [1, 2, 3])
@pytest.mark.parametrize('dtype', [None, jnp.bfloat16])
def test_instance_norm_is_that_of_flax(rank, dtype):
  x = 0.5 + jax.random.normal(jax.random.key(0), (2, *(6, 5, 4)[:rank], 3))
  ours = layers.InstanceNorm(dtype=dtype)
  theirs = nn.InstanceNorm(epsilon=1e-5, dtype=dtype)
  variables = jax.tree.map(
    lambda p: p + jnp.arange(3.0), theirs.init(jax.random.key(1), x)
  )
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(ours.init(jax.random.key(1), x)) == shapes(variables)
  y = jax.jit(ours.apply)(variables, x)
  assert y.dtype == (dtype or jnp.float32)
  tolerance = dict(rtol=0, atol=1e-5 if dtype is None else 0.1)
  np.testing.assert_allclose(
    y.astype('f'), theirs.apply(variables, x).astype('f'), **tolerance
  )
  if dtype is None:
    loss = lambda m: lambda v, x: jnp.sin(m.apply(v, x)).sum()
    gradient = lambda m: jax.grad(loss(m), (0, 1))(variables, x)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-5),
      gradient(ours),
      gradient(theirs),
    )
    each = jax.vmap(lambda x: ours.apply(variables, x[None])[0])(x)
    np.testing.assert_allclose(each, y, atol=1e-6)
