import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import build, models

BACKBONE = models.ResNet(7, (1,), width=4, stem='small', norm='group')
MODEL = models.Fusion(3, BACKBONE, hidden=6, dropout=0.2)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(4, 8, 8, 1)).astype('f')
TABLE = RNG.normal(size=(4, 5)).astype('f')


@pytest.fixture(scope='module')
def variables():
  quick = {'xla_backend_optimization_level': 0}
  init = jax.jit(MODEL.init, compiler_options=quick)
  return init(jax.random.key(0), IMAGE, TABLE)


def test_is_the_embedding_and_the_table_through_an_mlp(variables):
  table = TABLE.copy()
  table[0, 1] = table[2, :] = np.nan
  found = MODEL.apply(variables, IMAGE, table, features=True)
  params = variables['params']
  assert set(params) == {'backbone', 'table', 'hidden', 'head'}
  assert 'head' not in params['backbone']
  own = BACKBONE.clone(num_classes=0).apply(
    {'params': params['backbone']}, IMAGE, features=True
  )
  dense = lambda name, x: x @ params[name]['kernel'] + params[name]['bias']
  filled = np.concatenate([np.nan_to_num(table), np.isnan(table)], 1)
  side = np.maximum(dense('table', filled), 0)
  joined = np.concatenate([own['pooled'], side], 1)
  hidden = np.maximum(dense('hidden', joined), 0)
  np.testing.assert_allclose(found['pooled'], hidden, rtol=1e-5, atol=1e-6)
  expected = dense('head', hidden)
  np.testing.assert_allclose(found['logits'], expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(found['stage_0'], own['stage_0'])
  logits = MODEL.apply(variables, IMAGE, table)
  np.testing.assert_array_equal(logits, found['logits'])


def test_missing_is_not_zero_and_has_a_finite_gradient(variables, quick):
  missing = TABLE.copy()
  missing[:, 2] = np.nan
  zero = np.where(np.isnan(missing), 0, missing)

  def loss(params, table):
    y = MODEL.apply(
      {'params': params}, IMAGE, table, train=True,
      rngs={'dropout': jax.random.key(1)},
    )  # fmt: skip
    return (y**2).sum()

  gradient = quick(jax.grad(loss, (0, 1)))
  of_params, of_table = gradient(variables['params'], missing)
  for g in jax.tree.leaves((of_params, of_table)):
    assert jnp.isfinite(g).all()
  assert not of_table[:, 2].any()
  assert of_table.any()
  run = quick(MODEL.apply)
  y, z = run(variables, IMAGE, missing), run(variables, IMAGE, zero)
  assert jnp.abs(y - z).max() > 1e-3


def test_over_members_and_in_half_precision(variables, quick):
  members = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), variables)
  run = quick(jax.vmap(MODEL.apply, (0, None, None)))
  y = run(members, IMAGE, TABLE)
  one = quick(MODEL.apply)(variables, IMAGE, TABLE)
  np.testing.assert_allclose(y[0], one, rtol=1e-4, atol=1e-5)
  half = MODEL.clone(dtype=jnp.bfloat16)
  z = jax.eval_shape(half.apply, variables, IMAGE, TABLE)
  assert z.dtype == jnp.float32


def test_of_a_config_and_of_volumes():
  backbone = build.build(models, dict(name='LeNet5'), num_classes=2)
  spec = dict(name='Fusion', backbone=backbone)
  model = build.build(models, spec, num_classes=2)
  init = functools.partial(jax.eval_shape, model.init_with_output)
  y, _ = init(jax.random.key(0), jnp.ones((2, 16, 16, 16, 1)), TABLE[:2])
  assert y.shape == (2, 2)


def test_tables_of_another_shape_are_refused():
  for table in (TABLE[0], TABLE[:2]):
    with pytest.raises(ValueError, match=r'covariates are \(b, f\)'):
      jax.eval_shape(MODEL.init, jax.random.key(0), IMAGE, table)
