import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax import optim

PARAMS = {
  'encoder': {'kernel': jnp.full((2, 2), 2.0), 'bias': jnp.ones(2)},
  'head': {'kernel': jnp.full((2, 1), -1.0), 'bias': jnp.zeros(1)},
}
GRADS = jax.tree.map(lambda p: 0.1 * jnp.ones_like(p), PARAMS)


def schedule_values(spec, steps=100):
  schedule = optim.make_schedule(0.1, spec, steps=steps)
  return np.array([float(schedule(k)) for k in range(steps)])


def test_cosine_with_warmup():
  values = schedule_values(dict(name='cosine', warmup_steps=10))
  np.testing.assert_allclose(values[0], 0.1 / 11, rtol=1e-5)
  assert values.argmax() == 10
  np.testing.assert_allclose(values[10], 0.1, rtol=1e-6)
  np.testing.assert_allclose(
    values[55], 0.1 * 0.5 * (1 + np.cos(np.pi * 45 / 90)), rtol=1e-5
  )


def test_cosine_ends_at_its_last_factor():
  values = schedule_values(dict(name='cosine', final=0.2))
  np.testing.assert_allclose(values[50], 0.1 * (1 + 0.2) / 2, rtol=1e-5)
  assert 0.02 < values[-1] < 0.0201


def test_poly_is_nnunets():
  values = schedule_values(dict(name='poly'))
  np.testing.assert_allclose(
    values, 0.1 * (1 - np.arange(100) / 100) ** 0.9, rtol=1e-5
  )


def test_step_falls_tenfold_at_half_and_three_quarters():
  values = schedule_values(dict(name='step'))
  np.testing.assert_allclose(
    values[[0, 49, 51, 74, 76]], [0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-5
  )


def test_constant_and_unknown():
  assert set(schedule_values(dict(name='constant'))) == {np.float32(0.1)}
  with pytest.raises(ValueError, match="did you mean 'cosine'"):
    schedule_values(dict(name='cosin'))


@pytest.mark.parametrize(
  'name',
  ['adam', 'adamw', 'sgd', 'rmsprop', 'lion', 'lars', 'adadelta', 'novograd'],
)
def test_any_optax_optimizer_by_name(name):
  tx = optim.make_optimizer(name, lambda k: 0.1)
  reference = getattr(optax, name)(0.1)
  if name in ('adamw', 'lion'):
    reference = getattr(optax, name)(0.1, weight_decay=0.0)
  found, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
  expected, _ = reference.update(GRADS, reference.init(PARAMS), PARAMS)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
  )


def test_weight_decay_spares_biases():
  for name in ('adamw', 'sgd', 'lamb', 'adadelta', 'novograd'):
    tx = optim.make_optimizer(name, lambda k: 1.0, weight_decay=0.5)
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS)
    if name in ('adamw', 'sgd'):
      np.testing.assert_allclose(updates['encoder']['kernel'], -1.0)
    assert (updates['encoder']['kernel'] < 0).all()
    np.testing.assert_array_equal(updates['encoder']['bias'], 0.0)


def test_clipping():
  tx = optim.make_optimizer('sgd', lambda k: 1.0, clip_norm=0.01)
  updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
  np.testing.assert_allclose(optax.global_norm(updates), 0.01, rtol=1e-5)


def test_layers_below_the_head_learn_more_slowly():
  order = [
    'params/token',  # of no module: with the layer before, or the first
    'params/stem/conv/kernel',
    'batch_stats/stem/norm/mean',
    'params/stem/norm/scale',
    'params/position',
    'params/backbone/block_0/kernel',
    'params/backbone/block_1/kernel',
    'params/head/kernel',
  ]
  factors = optim.layer_factors(order, 0.5)
  assert factors == {
    'token': 0.125, 'stem': 0.125, 'position': 0.125,
    'backbone/block_0': 0.25, 'backbone/block_1': 0.5, 'head': 1.0,
  }  # fmt: skip
  params = {
    'stem': {'conv': {'kernel_lora_a': jnp.ones((2, 2))}},
    'backbone': {'block_1': {'bias': jnp.ones(2)}},
    'head': {'bias': jnp.ones(2)},
  }
  tx = optim.make_optimizer('sgd', lambda k: 1.0, layer_factors=factors)
  updates, _ = tx.update(params, tx.init(params), params)
  found = [float(x.ravel()[0]) for x in jax.tree.leaves(updates)]
  assert found == [-0.5, -1.0, -0.125]


def test_unknown_names_and_arguments():
  with pytest.raises(ValueError, match="did you mean 'adamw'"):
    optim.make_optimizer('adamww', lambda k: 1.0)
  with pytest.raises(ValueError, match="did you mean 'momentum'"):
    optim.make_optimizer('sgd', lambda k: 1.0, momentun=0.9)
