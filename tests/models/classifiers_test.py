"""What every classification architecture must do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models
from medjax.models.layers import depth_rates

MOBILE = dict(
  stages=((1, 3, 1, 8, False, True, 1), (2, 3, 2, 8, True, False, 2))
)
RESNET = dict(stage_sizes=(1, 2), width=8, dropout=0.1, drop_path=0.2)
TINY = dict(
  lenet=models.LeNet5(3, dropout=0.1),
  alexnet=models.AlexNet(3, features=(4,) * 5, hidden=8, grid=2),
  vgg=models.VGG(
    3, (1, 1), width=4, hidden=8, grid=2, norm='batch', dropout=0.1
  ),
  resnet=models.ResNet(3, **RESNET),
  resnet_small=models.ResNet(
    3, **RESNET, stem='small', block='bottleneck', norm='group'
  ),
  mobilenet_v2=models.MobileNetV2(3, **MOBILE, last=16, drop_path=0.2),
  mobilenet_v3=models.MobileNetV3Small(3, **MOBILE, hidden=16, norm='instance'),
  densenet=models.DenseNet(3, (2, 1), growth=4, width=8, dropout=0.1),
  inception=models.InceptionV3(3, width=1 / 32),
  efficientnet=models.EfficientNet(
    3, width=0.25, depth=1.0, stages=((1, 3, 1, 16, 1), (2, 3, 2, 16, 2))
  ),
  convnext=models.ConvNeXt(3, (1, 1), width=4, kernel_size=3, dropout=0.1),
  vit=models.ViT(
    3, width=8, depth=2, heads=2, patch_size=8, image_size=24, dropout=0.1
  ),
)


def draw(model, x, seed):
  """Variables as random as an initialisation's, without compiling one."""
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    z = rng.normal(size=shape.shape).astype(shape.dtype)
    if path[-1].key in ('scale', 'var'):
      return 1 + np.abs(z) / 10
    fan = np.prod(shape.shape[:-1])
    return z * np.float32((2 / fan) ** 0.5 if fan > 1 else 0.1)

  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  return jax.tree_util.tree_map_with_path(leaf, shapes)


def outputs(model, variables, x):
  """Logits, maps and embedding in evaluation mode."""
  maps = model.apply(variables, x, features=True)
  return maps.pop('logits'), maps


def gradient(model, variables, x):
  """Of a loss of the logits in training mode."""

  def loss(params):
    y, _ = model.apply(
      {**variables, 'params': params}, x, train=True,
      mutable=['batch_stats'], rngs={'dropout': jax.random.key(1)},
    )  # fmt: skip
    return sum((z**2).sum() for z in jax.tree.leaves(y))

  return jax.grad(loss)(variables['params'])


@pytest.mark.parametrize('name', sorted(TINY.keys() - {'inception'}))
def test_an_ensemble_and_a_gradient_on_an_odd_image_alone(name):
  model = TINY[name]
  x = np.random.default_rng(0).normal(size=(1, 27, 18, 1)).astype('f')
  members = [draw(model, x, seed) for seed in (1, 2)]
  stacked = jax.tree.map(lambda *v: np.stack(v), *members)

  @jax.jit
  def run(stacked, member, x):
    of_members = jax.vmap(functools.partial(outputs, model), (0, None))
    return of_members(stacked, x), gradient(model, member, x)

  (y, maps), gradients = run(stacked, members[0], x)
  assert y.shape == (2, 1, 3)
  assert (y[0] != y[1]).any()
  pooled = maps.pop('pooled')
  for member, logits, embedding in zip(members, y, pooled, strict=True):
    head = member['params']['head']
    expected = embedding @ head['kernel'] + head['bias']
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
  sizes = [maps[f'stage_{i}'].shape[2:-1] for i in range(len(maps))]
  assert sizes == sorted(set(sizes), reverse=True)
  leaves = jax.tree.leaves(gradients)
  assert all(jnp.isfinite(g).all() for g in leaves)
  assert sum((g != 0).any() for g in leaves) > len(leaves) / 2


@pytest.mark.parametrize('name', sorted(TINY.keys() - {'inception'}))
def test_half_precision_on_odd_volumes(name):
  model = TINY[name].clone(dtype=jnp.bfloat16)
  shape = (2, 16, 18, 17, 2) if name == 'lenet' else (2, 9, 11, 10, 2)
  x = np.random.default_rng(0).normal(size=shape).astype('f')
  variables = draw(model, x, 0)
  assert {v.dtype for v in jax.tree.leaves(variables)} == {np.dtype('f4')}
  half, full = (
    functools.partial(outputs, m) for m in (model, model.clone(dtype=None))
  )
  y, maps = jax.jit(half)(variables, x)
  assert y.dtype == maps.pop('pooled').dtype == jnp.float32
  assert {v.dtype for v in maps.values()} == {jnp.dtype('bfloat16')}
  expected, _ = jax.jit(full)(variables, x)
  np.testing.assert_allclose(y, expected, atol=0.1 * jnp.abs(expected).max())


@pytest.mark.parametrize(
  'name', sorted(k for k, v in TINY.items() if hasattr(v, 'remat'))
)
def test_recomputation_changes_no_gradient(name):
  x = np.ones((1, 75, 75, 1) if name == 'inception' else (1, 9, 8, 1), 'f')
  kept, recomputed = (TINY[name].clone(remat=remat) for remat in (False, True))
  variables = draw(kept, x, 0)
  program = jax.make_jaxpr(functools.partial(gradient, recomputed))
  assert 'remat' in str(program(variables, x))
  if name == 'densenet':  # whose layers take several maps
    gradients = [
      jax.jit(functools.partial(gradient, m))(variables, x)
      for m in (kept, recomputed)
    ]
    scale = max(jnp.abs(g).max() for g in jax.tree.leaves(gradients))
    close = functools.partial(
      np.testing.assert_allclose, rtol=1e-3, atol=1e-5 * scale
    )
    jax.tree.map(close, *gradients)


# At 224 pixels (Inception 299, LeNet 32): sides and channels of the maps, and
# the embedding, by the tables of the papers.
MAPS = dict(
  LeNet5=((28, 6), (10, 16), (5, 16), 84),
  AlexNet=((55, 64), (27, 192), (13, 256), (6, 256), 4096),
  VGG16=(
    *((224, 64), (112, 128), (56, 256), (28, 512), (14, 512), (7, 512)), 4096
  ),
  ResNet34=((112, 64), (56, 64), (28, 128), (14, 256), (7, 512), 512),
  ResNet50=((112, 64), (56, 256), (28, 512), (14, 1024), (7, 2048), 2048),
  InceptionV3=((147, 64), (71, 192), (35, 288), (17, 768), (8, 2048), 2048),
  MobileNetV2=((112, 16), (56, 24), (28, 32), (14, 96), (7, 1280), 1280),
  MobileNetV3Small=((112, 16), (56, 16), (28, 24), (14, 48), (7, 576), 1024),
  MobileNetV3Large=((112, 16), (56, 24), (28, 40), (14, 112), (7, 960), 1280),
  DenseNet121=((112, 64), (56, 256), (28, 512), (14, 1024), (7, 1024), 1024),
  EfficientNetB0=((112, 16), (56, 24), (28, 40), (14, 112), (7, 1280), 1280),
  ConvNeXtT=((56, 96), (28, 192), (14, 384), (7, 768), 768),
  ViTS16=((14, 384), 384),
)  # fmt: skip


@pytest.mark.parametrize('name', MAPS)
def test_maps_are_those_of_the_paper(name):
  model = getattr(models, name)(num_classes=2)
  side = dict(LeNet5=32, InceptionV3=299).get(name, 224)
  x = jnp.ones((1, side, side, 1))
  init = functools.partial(model.init_with_output, features=True)
  found, _ = jax.eval_shape(init, jax.random.key(0), x)
  assert found.pop('logits').shape == (1, 2)
  assert found.pop('pooled').shape == (1, MAPS[name][-1])
  shapes = [found[f'stage_{i}'].shape for i in range(len(found))]
  assert shapes == [(1, n, n, c) for n, c in MAPS[name][:-1]]


def test_inception_gives_auxiliary_logits_in_training_only():
  model = models.InceptionV3(3, width=1 / 32)
  x = jnp.ones((2, 75, 75, 1))
  variables = jax.eval_shape(model.init, jax.random.key(0), x)
  apply = functools.partial(
    model.apply, train=True, mutable=['batch_stats'],
    rngs={'dropout': jax.random.key(0)},
  )  # fmt: skip
  y, _ = jax.eval_shape(apply, variables, x)
  assert [z.shape for z in y] == [(2, 3), (2, 3)]
  assert jax.eval_shape(model.apply, variables, x).shape == (2, 3)


def test_stochastic_depth_grows_to_its_rate():
  assert depth_rates(0.2, 3) == pytest.approx([0, 0.1, 0.2])
  assert depth_rates(0.2, 1) == [0]
  deep = models.ResNet(2, (2,), width=4, norm='group', drop_path=0.9999999)
  x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
  variables = deep.init(jax.random.key(0), x)
  dropped = deep.apply(
    variables, x, train=True, rngs={'dropout': jax.random.key(1)}
  )
  shallow = deep.clone(stage_sizes=(1,))
  np.testing.assert_allclose(dropped, shallow.apply(variables, x), rtol=1e-5)
  assert not np.allclose(deep.apply(variables, x), dropped, rtol=1e-2)


@pytest.mark.parametrize(
  ('model', 'shape', 'message'),
  [
    (models.LeNet5(2), (1, 15, 32, 1), '16 voxels'),
    (models.AlexNet(2), (1, 6, 9, 1), '7 voxels'),
    (models.InceptionV3(2), (1, 74, 90, 1), '75 pixels'),
    (models.InceptionV3(2), (1, 75, 75, 75, 1), '2-D'),
  ],
)
def test_an_unusable_image_is_refused(model, shape, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(model.init, jax.random.key(0), jnp.ones(shape))


@pytest.mark.parametrize('option', ['stem', 'block', 'norm'])
def test_an_unknown_option_is_refused(option):
  model = models.ResNet18(2, **{option: 'foo'})
  with pytest.raises(ValueError, match=f"{option} is .* not 'foo'"):
    jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
