import csv
import functools
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

from medjax import engine, experiment, finetune, models, optim
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.finetune import adapted
from medjax.predict import predict
from medjax.run.checkpoint import best_variables
from medjax.run.writer import Writer
from medjax.train import train

WAYS = ('linear_probe', 'bitfit', 'lora', 'bottleneck')
SHAPE = (2, 8, 8, 1)
INPUTS = (jax.ShapeDtypeStruct(SHAPE, np.float32),)


class Net(nn.Module):
  """What could notice a frozen part: batch norms, dropout, a block."""

  num_classes: int = 3

  @nn.compact
  def __call__(self, x, *, train=False):
    for i in range(2):
      x = nn.Conv(8, (3, 3), use_bias=False, name=f'conv_{i}')(x)
      norm = nn.BatchNorm(use_running_average=not train, name=f'norm_{i}')
      x = nn.relu(norm(x))
    x = Block(name='block_0')(x)
    x = nn.Dropout(0.1, deterministic=not train)(x.mean((1, 2)))
    return nn.Dense(self.num_classes, name='head')(x)


class Block(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(8, name='dense')(x)


class Task:
  over_batch = False

  def loss(self, forward, batch):
    outputs = forward(batch['image'])
    return optax.softmax_cross_entropy_with_integer_labels(
      outputs, batch['label']
    )


def flat(tree):
  """{'collection/path': leaf}."""
  return flatten_dict(tree, sep='/')


def init(model):
  return model.init(jax.random.key(0), jnp.ones(SHAPE))


def shapes(model):
  return jax.eval_shape(lambda: init(model))


def images(key=1, shape=SHAPE):
  return jax.random.normal(jax.random.key(key), shape)


def filled(variables):
  """Noise for what is zero at first."""
  leaves, tree = jax.tree.flatten(variables['params'])
  keys = jax.random.split(jax.random.key(9), len(leaves))
  noise = [
    x + 0.3 * jax.random.normal(k, x.shape)
    for k, x in zip(keys, leaves, strict=True)
  ]
  return {**variables, 'params': tree.unflatten(noise)}


def run(model, steps, *, devices=1, tx=None, state=None):
  """(states before each step and after the last, losses)."""
  mesh = engine.make_mesh(jax.devices()[:devices])
  tx = tx or optim.make_optimizer('adam', lambda k: 1e-2)
  if state is None:
    state = engine.create_state(
      model, tx, INPUTS, jax.random.key(0), mesh, ema=True
    )

  train_step = engine.make_train_step(
    model, Task(), tx, lambda k, b: b, mesh, ema_decay=0.5
  )
  states, losses = [jax.device_get(state)], []
  for step in range(int(state.step), steps):
    rng = np.random.default_rng(step)
    batch = {
      'image': rng.normal(size=(8, 8, 8, 1)).astype(np.float32),
      'label': rng.integers(0, 3, 8).astype(np.int32),
    }
    state, metrics = train_step(
      state, engine.empty_metrics(mesh), batch, jax.random.key(1)
    )
    states.append(jax.device_get(state))
    losses.append(float(metrics.loss.compute()))
  return states, losses


def changed(before, after):
  """Paths of the parameters and statistics that differ, '*' for adapters."""
  parts = lambda s: flat({'params': s.params, **s.variables})
  before, after = parts(before), parts(after)
  return {k for k in before if not np.array_equal(before[k], after[k])}


@pytest.mark.parametrize('way', WAYS)
def test_begins_as_the_model_it_wraps(way):
  x = images()
  wrapped = getattr(finetune, way)(Net())
  plain = Net().init(jax.random.key(0), x)
  variables = wrapped.init(jax.random.key(0), x)
  expected = Net().apply(plain, x)
  np.testing.assert_array_equal(wrapped.apply(variables, x), expected)
  if way == 'bottleneck':  # stays in the network
    return
  merged = adapted.merge(variables)
  assert jax.tree.structure(merged) == jax.tree.structure(plain)
  jax.tree.map(np.testing.assert_array_equal, merged, plain)


def test_what_trains():
  trained = {
    way: set(flat(shapes(getattr(finetune, way)(Net()))['params']))
    for way in WAYS
  }
  head = {'head/kernel', 'head/bias'}
  biases = {'norm_0/bias', 'norm_1/bias', 'block_0/dense/bias'}
  low_rank = {
    f'{layer}/kernel_lora_{factor}'
    for layer in ('conv_0', 'conv_1', 'block_0/dense')
    for factor in 'ab'
  }
  adapter = {
    f'block_0/adapter/{layer}/{leaf}'
    for layer in ('down', 'up')
    for leaf in ('kernel', 'bias')
  }
  assert trained == {
    'linear_probe': head,
    'bitfit': head | biases,
    'lora': head | low_rank,
    'bottleneck': head | adapter,
  }
  assert finetune.full(Net()) == Net()


def test_the_low_rank_update_is_what_hu_et_al_say():
  """W x + alpha / rank · B A x, here for a convolution of two maps' rank."""
  model = nn.Conv(6, (3, 3), use_bias=False)
  x = images(shape=(2, 9, 9, 4))
  wrapped = finetune.lora(model, rank=2, alpha=6.0, train=())
  # A module at the top has no head: all of it is frozen.
  wrapped = adapted.Adapted(model, ('',), lora=wrapped.lora)
  variables = filled(wrapped.init(jax.random.key(0), x))
  a, b = (variables['params'][f'kernel_lora_{k}'] for k in 'ab')
  assert (a.shape, b.shape) == ((36, 2), (2, 6))
  down = jax.lax.conv_general_dilated(
    x, a.reshape(3, 3, 4, 2), (1, 1), 'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )  # fmt: skip
  frozen = {'params': {'kernel': variables['frozen']['kernel']}}
  expected = model.apply(frozen, x) + 6.0 / 2 * down @ b
  found = wrapped.apply(variables, x)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  merged = model.apply(adapted.merge(variables), x)
  np.testing.assert_allclose(merged, found, atol=1e-5)


@pytest.mark.parametrize(
  ('shape', 'factors'),
  [
    ((3, 3, 64, 128), (576, 128)),
    ((3, 3, 3, 1, 32), (27, 32)),  # depthwise
    ((768, 12, 64), (768, 768)),  # attention: into heads
    ((12, 64, 768), (768, 768)),  # and out of them
    ((5, 7), (5, 7)),
  ],
)
def test_kernels_as_matrices(shape, factors):
  added = adapted.Lora(4, 4.0, 'kernel')
  leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
  trained, _ = jax.eval_shape(
    added.init, jax.random.key(0), {'dense/kernel': leaf}
  )
  a, b = trained['dense/kernel_lora_a'], trained['dense/kernel_lora_b']
  assert (a.shape, b.shape) == ((factors[0], 4), (4, factors[1]))


@pytest.mark.parametrize('way', ['linear_probe', 'lora', 'bottleneck'])
def test_only_what_trains_changes_and_has_optimizer_state(way):
  model = getattr(finetune, way)(Net())
  states, _ = run(model, 3)
  paths = {f'params/{k}' for k in flat(states[0].params)}
  # Neither the frozen kernels nor any batch norm's statistics.
  assert changed(states[0], states[-1]) == paths
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  assert count(states[0].opt_state) == 2 * count(states[0].params) + 2
  assert count(states[0].ema) == count(states[0].params)


def test_frozen_batch_norm_uses_its_running_statistics():
  x = 3 + images()
  model = finetune.full(Net(), freeze=('_0/', 'norm_1/scale'))
  variables = init(model)
  _, now = model.apply(
    variables, x, train=True, rngs={'dropout': jax.random.key(0)},
    mutable=list(variables),
  )  # fmt: skip
  before, after = flat(variables), flat(now)
  stats = {k for k in before if not np.array_equal(before[k], after[k])}
  # Of norm_1 the bias trains.
  assert stats == {'batch_stats/norm_1/mean', 'batch_stats/norm_1/var'}
  # The same where the model says it in the call, and not to the layer.
  frozen = adapted.Adapted(nn.Sequential([nn.BatchNorm()]), ('',))
  ones = {'layers_0': {'mean': jnp.ones(1), 'var': jnp.ones(1)}}
  layer = {'layers_0': {'scale': jnp.ones(1), 'bias': jnp.zeros(1)}}
  variables = {'params': {}, 'frozen': layer, 'batch_stats': ones}
  y = frozen.apply(variables, x, use_running_average=False)
  np.testing.assert_allclose(y, x - 1, atol=1e-4)


def test_devices_do_not_matter():
  model = finetune.lora(Net(), train=('head', 'norm'))
  one, eight = (run(model, 3, devices=n) for n in (1, 8))
  np.testing.assert_allclose(one[1], eight[1], atol=1e-5)


def test_recomputed_blocks_are_adapted_once():
  small = functools.partial(models.UNet, 2, (2, 4), norm='batch')
  paths = [
    set(flat(shapes(finetune.bottleneck(small(remat=remat)))))
    for remat in (False, True)
  ]
  assert paths[0] == paths[1]
  adapters = [k for k in paths[0] if k.endswith('adapter/up/kernel')]
  assert len(adapters) == 3


@pytest.mark.parametrize(
  ('model', 'message'),
  [
    (finetune.full(Net(), freeze=('decoder',)),
     "freeze: 'decoder' matches nothing; the top-level names are block_0"),
    (finetune.linear_probe(Net(), train=('logits',)), "train: 'logits'"),
    (finetune.lora(Net(), target='query'), "target: 'query' matches no frozen"),
    (finetune.bottleneck(Net(), target='attention'), 'matches no module'),
  ],
)  # fmt: skip
def test_patterns_that_match_nothing(model, message):
  with pytest.raises(ValueError, match=message):
    shapes(model)


class Cases(list):
  class_names = ('a', 'b')


def cases(n=8):
  rng = np.random.default_rng(0)
  return Cases(
    {
      'image': rng.integers(0, 256, (16, 16, 1)).astype(np.uint8),
      'label': np.int32(i % 2),
      'id': str(i),
      'patient': str(i),
      'affine': np.eye(3),
      'spacing': np.ones(2),
    }
    for i in range(n)
  )


def make_config(**options):
  config = default_config()
  config.data.update(name='synthetic', batch_size=4)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.model = dict(
    name='ResNet', stage_sizes=(1,), width=2, stem='small', dropout=0.1
  )
  config.task = dict(name='Classification', monitor='auroc')
  config.train.update(steps=4, log_every=1, eval_every=2, ema_decay=0.5)
  config.inference.batch_size = 4
  config.update(options)
  return config


def run_config(config, workdir):
  return train(experiment.make(config), workdir)


def read_state(workdir):
  with ocp.PyTreeCheckpointer() as checkpointer:
    return checkpointer.restore(workdir / 'checkpoints/4/state')


def test_whole_runs(tmp_path, monkeypatch, capsys):
  """One from another's weights, killed and gone on, evaluated, predicting."""
  one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: one)
  monkeypatch.setattr(experiment, 'open_cases', lambda config, parts: cases())
  source, whole, killed = (tmp_path / k for k in ('source', 'whole', 'killed'))
  run_config(make_config(), source)
  with pytest.raises(ValueError, match="adapt='bitfit' keeps weights that are"):
    run_config(make_config(adapt=dict(name='bitfit')), tmp_path / 'none')
  config = make_config(
    adapt=dict(name='lora', rank=2),
    pretrained=dict(path=str(source)),
    optimizer=dict(layer_decay=0.5),
  )
  facts = run_config(config, whole)
  # In three kernels (9 + 2) · 2, (18 + 2) · 2, again, and the head.
  assert facts['trained_parameters'] == 22 + 40 + 40 + 6
  assert facts['parameters'] == 18 + 36 + 36 + 3 * 4 + 6
  assert 'pretrained: 17 of 17 arrays' in capsys.readouterr().out

  # The base is the other run's best average.
  state = read_state(whole)
  base = flat(best_variables(source)[1]['params'])
  frozen = flat(state['variables']['frozen'])
  kernels = [k for k in frozen if k.endswith('kernel')]
  assert len(kernels) == 3
  for path in kernels:
    np.testing.assert_array_equal(frozen[path], base[path])

  # A checkpoint is whole: what goes on needs no file but its own.
  scalars = Writer.scalars

  def fail(self, step, values):
    scalars(self, step, values)
    if step == 3:
      raise KeyboardInterrupt

  monkeypatch.setattr(Writer, 'scalars', fail)
  with pytest.raises(KeyboardInterrupt):
    run_config(config, killed)
  monkeypatch.setattr(Writer, 'scalars', scalars)
  shutil.rmtree(source)
  run_config(config, killed)
  jax.tree.map(np.testing.assert_array_equal, read_state(killed), state)

  results = evaluate(experiment.make(config), whole)
  with (whole / 'per_case.csv').open(newline='') as f:
    row = next(row for row in csv.DictReader(f) if row['split'] == 'test')
  assert results['test']['n'] == 8
  Image.fromarray(cases()[0]['image'][..., 0]).save(tmp_path / 'case.png')
  predict(whole, [tmp_path / 'case.png'], tmp_path / 'out')
  with (tmp_path / 'out/predictions.csv').open(newline='') as f:
    (prediction,) = csv.DictReader(f)
  probability = float(row['probability/a'])
  assert float(prediction['a']) == pytest.approx(probability, abs=1e-5)
