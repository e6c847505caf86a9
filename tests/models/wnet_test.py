"""W-Net: what its two U-Nets see, give and learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models
from medjax.tasks import Segmentation

KEY = jax.random.key(0)
SMALL = dict(features=(4, 6), norm='instance')


def one():
  return models.UNet(2, (4, 6), activation='relu', residual=True)


@pytest.mark.parametrize('shape', [(1, 9, 12, 3), (2, 5, 8, 6, 1)])
def test_the_second_network_sees_the_image_and_the_first_s_logits(shape):
  model = models.WNet(2, **SMALL)
  x = jax.random.normal(KEY, shape)
  variables = jax.jit(model.init)(KEY, x)
  params = variables['params']

  first = one().apply({'params': params['first']}, x)
  both = jnp.concatenate([x, first], -1)
  second = one().apply({'params': params['second']}, both)
  # Operation by operation: programs may round what they fuse otherwise.
  apply = functools.partial(model.apply, variables, x)
  jax.tree.map(np.testing.assert_array_equal, apply(), second)
  found = apply(train=True)
  jax.tree.map(np.testing.assert_array_equal, found, (second, first))
  maps = apply(train=True, features=True)
  assert {'stage_0', 'stage_1', 'decoder_0', 'pooled'} < set(maps)
  jax.tree.map(np.testing.assert_array_equal, maps['logits'], found)
  with jax.enable_x64(True):  # else rounding alone is a few millionths
    wide = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)
    program = jax.jit(functools.partial(model.apply, train=True))
    compiled = program(wide(variables), wide(x))
    expected = model.apply(wide(variables), wide(x), train=True)
    for one_of, by_hand in zip(compiled, expected, strict=True):
      np.testing.assert_allclose(one_of, by_hand, rtol=1e-5, atol=1e-6)


def test_both_networks_learn_from_the_mask():
  model = models.WNet(2, **SMALL)
  x = jax.random.normal(KEY, (2, 8, 8, 1))
  batch = {'image': x, 'mask': (x[..., 0] > 0).astype(jnp.int32)}
  params = jax.jit(model.init)(KEY, x)['params']

  def gradient(weights):
    task = Segmentation(num_classes=2, level_weights=weights)

    def loss(params):
      forward = lambda image: model.apply({'params': params}, image, train=True)
      return task.loss(forward, batch).mean()

    return jax.jit(jax.grad(loss))(params)

  def size(tree):
    return sum(float(jnp.abs(g).sum()) for g in jax.tree.leaves(tree))

  only_first = gradient((0.0, 1.0))
  assert size(only_first['second']) == 0
  assert size(only_first['first']) > 0
  assert size(gradient((1.0, 1.0))['second']) > 0


def test_its_size_is_that_of_the_paper():
  x = jnp.ones((1, 64, 64, 3))
  params = jax.eval_shape(models.WNet(2).init, KEY, x)['params']
  assert 60_000 < sum(p.size for p in jax.tree.leaves(params)) < 70_000
