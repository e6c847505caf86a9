"""A 2-D network over slices is that network on every slice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models


@pytest.mark.parametrize('axis', [0, 2])
def test_each_slice_is_seen_by_itself(axis):
  network = models.UNet(3, (4, 6), deep_supervision=True)
  model = models.SliceWise(3, network, axis=axis)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 6, 6, 6, 1)), jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  one = {'params': variables['params']['network']}

  @jax.jit
  def both(x):
    slices = jnp.unstack(x, axis=1 + axis)
    each = [network.apply(one, s) for s in slices]
    levels = model.apply(variables, x, train=True)
    return model.apply(variables, x, features=True), each, levels

  found, each, levels = both(x)
  np.testing.assert_allclose(
    found['logits'], jnp.stack(each, 1 + axis), atol=1e-5
  )
  assert found['pooled'].shape == (2, 6)
  assert len(levels) == 1
  assert levels[0].shape == (2, 6, 6, 6, 3)


def test_what_has_no_slices_is_refused():
  x = jnp.zeros((1, 4, 4, 1))
  network = models.UNet(2, (4,))
  for model, image, message in (
    (models.SliceWise(2, network), x, '2 spatial axes'),
    (models.SliceWise(2, network, axis=3), x[..., None], 'axis 3'),
    (
      models.SliceWise(2, models.LeNet5(2)),
      jnp.zeros((1, 32, 32, 2, 1)),
      'LeNet5 gives no maps',
    ),
  ):
    with pytest.raises(ValueError, match=message):
      jax.eval_shape(model.init, jax.random.key(0), image)
