import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import build, models

BACKBONE = models.ResNet(7, (1,), width=4, stem='small', norm='group')
MODEL = models.Fusion(3, BACKBONE, hidden=6, dropout=0.2)
WAYS = ('concat', 'gated', 'film', 'attention', 'late')
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(4, 8, 8, 1)).astype('f')
TABLE = RNG.normal(size=(4, 5)).astype('f')
TEXT = RNG.normal(size=(4, 9)).astype('f')


def made(model, *inputs):
  return jax.jit(model.init)(jax.random.key(0), *inputs)


@pytest.fixture(scope='module')
def variables():
  return made(MODEL, IMAGE, TABLE)


def dense(params, name, x):
  return x @ params[name]['kernel'] + params[name]['bias']


def embeddings(params):
  """Of image and table by hand, the second image and third table missing."""
  own = BACKBONE.clone(num_classes=0).apply(
    {'params': params['backbone']}, IMAGE, features=True
  )
  filled = np.concatenate([TABLE, np.zeros_like(TABLE)], 1)
  image, table = (
    dense(params, 'image', own['pooled']),
    dense(params, 'table', filled),
  )
  image = np.where(np.arange(4)[:, None] == 1, params['absent_image'], image)
  table = np.where(np.arange(4)[:, None] == 2, params['absent_table'], table)
  return image, table


def some_missing():
  image, table = IMAGE.copy(), TABLE.copy()
  image[1], table[2] = np.nan, np.nan
  return image, table


@pytest.mark.parametrize('fuse', ['concat', 'gated', 'film', 'late'])
def test_is_what_its_docstring_says(fuse):
  model = MODEL.clone(fuse=fuse)
  params = made(model, IMAGE, TABLE)['params']
  image, table = embeddings(params)
  relu = lambda x: np.maximum(x, 0)
  both = np.concatenate([image, table], 1)
  if fuse == 'concat':
    seen = relu(dense(params, 'hidden', relu(both)))
  elif fuse == 'gated':
    gates = dense(params, 'gates', both).reshape(4, 2, 6)
    gates = np.exp(gates) / np.exp(gates).sum(1, keepdims=True)
    seen = (gates * np.tanh(np.stack([image, table], 1))).sum(1)
  elif fuse == 'film':
    film = dense(params, 'film', relu(table))
    seen = relu((1 + film[:, :6]) * image + film[:, 6:])
    seen = relu(dense(params, 'hidden', seen))
  else:
    seen = both
  if fuse == 'late':
    by_image = dense(params, 'head_image', image)
    by_table = dense(params, 'head_table', table)
    logits = np.array((by_image + by_table) / 2)
    logits[1], logits[2] = by_table[1], by_image[2]
  else:
    logits = dense(params, 'head', seen)
  found = model.apply({'params': params}, *some_missing(), features=True)
  np.testing.assert_allclose(found['pooled'], seen, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found['logits'], logits, rtol=1e-4, atol=1e-5)
  assert found['stage_0'].shape == (4, 8, 8, 4)


@pytest.mark.parametrize('fuse', WAYS)
def test_what_is_missing_is_not_seen_and_the_gradient_is_finite(fuse):
  """Several images, a table and a text; any of it, or all, is missing."""
  model = MODEL.clone(fuse=fuse)
  inputs = (IMAGE, TABLE, -IMAGE, TEXT)
  params = made(model, *inputs)['params']
  assert {'backbone', 'backbone_1', 'image_1', 'table_1'} <= set(params)
  run = jax.jit(lambda *inputs: model.apply({'params': params}, *inputs))
  whole = run(*inputs)
  for i, x in enumerate(inputs):
    nothing = np.full_like(x, np.nan)
    other = run(*inputs[:i], nothing, *inputs[i + 1 :])
    assert jnp.isfinite(other).all()
    assert jnp.abs(other - whole).max() > 1e-4
  alone = run(*(np.full_like(x, np.nan) for x in inputs))
  assert jnp.isfinite(alone).all()
  np.testing.assert_allclose(alone, alone[:1].repeat(4, 0), atol=1e-6)

  def loss(params, inputs):
    y = model.apply(
      {'params': params}, *inputs, train=True,
      rngs={'dropout': jax.random.key(1)},
    )  # fmt: skip
    return (y**2).sum()

  missing = [np.array(x) for x in inputs]
  missing[0][0], missing[3][1:] = np.nan, np.nan
  for g in jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1)))(params, missing)):
    assert jnp.isfinite(g).all()


def test_training_leaves_inputs_out_but_never_all():
  model = MODEL.clone(fuse='late', dropout=0.0, drop=0.7)
  params = made(model, IMAGE, TABLE)['params']
  alone = lambda i: model.apply(
    {'params': params},
    *(x if i == j else x * np.nan for j, x in enumerate((IMAGE, TABLE))),
  )
  choices = [model.apply({'params': params}, IMAGE, TABLE), alone(0), alone(1)]
  train = jax.jit(
    lambda key: model.apply(
      {'params': params}, IMAGE, TABLE, train=True, rngs={'dropout': key}
    )
  )
  drawn = np.stack([train(jax.random.key(i)) for i in range(100)])
  error = np.stack([np.abs(drawn - c).max(-1) for c in choices])
  assert error.min(0).max() < 1e-4  # each of the three, and nothing else
  share = np.bincount(error.argmin(0).ravel(), minlength=3) / error[0].size
  both = 0.3**2 + 0.7**2  # neither left: then nothing is left out
  np.testing.assert_allclose(share, [both, 0.21, 0.21], atol=0.08)


def test_a_missing_column_is_not_zero(variables):
  missing = TABLE.copy()
  missing[:, 2] = np.nan
  zero = np.where(np.isnan(missing), 0, missing)
  run = jax.jit(MODEL.apply)
  y, z = run(variables, IMAGE, missing), run(variables, IMAGE, zero)
  assert jnp.abs(y - z).max() > 1e-3


def test_over_members_and_in_half_precision(variables):
  members = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), variables)
  run = jax.jit(jax.vmap(MODEL.apply, (0, None, None)))
  y = run(members, IMAGE, TABLE)
  one = jax.jit(MODEL.apply)(variables, IMAGE, TABLE)
  np.testing.assert_allclose(y[0], one, rtol=1e-4, atol=1e-5)
  for fuse in WAYS:
    half = MODEL.clone(dtype=jnp.bfloat16, fuse=fuse)
    z, _ = jax.eval_shape(
      half.init_with_output, jax.random.key(0), IMAGE, TABLE
    )
    assert z.dtype == jnp.float32


def test_of_a_config_and_of_volumes():
  backbone = build.build(models, dict(name='LeNet5'), num_classes=2)
  spec = dict(name='Fusion', backbone=backbone)
  model = build.build(models, spec, num_classes=2)
  init = functools.partial(jax.eval_shape, model.init_with_output)
  y, _ = init(jax.random.key(0), jnp.ones((2, 16, 16, 16, 1)), TABLE[:2])
  assert y.shape == (2, 2)


def test_what_cannot_be_joined_is_refused():
  init = lambda model, *x: jax.eval_shape(model.init, jax.random.key(0), *x)
  for table in (TABLE[0], TABLE[:2]):
    with pytest.raises(ValueError, match=r'covariates are \(b, f\)'):
      init(MODEL, IMAGE, table)
  with pytest.raises(ValueError, match="'film' needs an image and a table"):
    init(MODEL.clone(fuse='film'), IMAGE, IMAGE)
  with pytest.raises(ValueError, match='needs a backbone'):
    init(models.Fusion(2), IMAGE)
  with pytest.raises(ValueError, match=r"fuse='add' is none of concat"):
    MODEL.clone(fuse='add')
  with pytest.raises(ValueError, match=r'drop=1 is a rate'):
    MODEL.clone(drop=1)
