import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from medjax import engine

INPUTS = (jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32),)
GRADIENTS = {1: engine.whole_batch, 2: engine.Microbatches(2)}


class Net(nn.Module):
  """BatchNorm and dropout: the two parts that notice how a batch is split."""

  norm: bool = True
  dropout: float = 0.2

  @nn.compact
  def __call__(self, x, *, train=False):
    # No bias: before BatchNorm its gradient is rounding noise, which Adam
    # blows up to full steps, other ones on other meshes.
    x = nn.Conv(8, (3, 3), use_bias=False, name='first')(x)
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.relu(x).mean((1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(3, name='head')(x)


class Task:
  over_batch = False

  def loss(self, forward, batch):
    outputs = forward(batch['image'])
    return optax.softmax_cross_entropy_with_integer_labels(
      outputs, batch['label']
    )


def noise(key, batch):
  def one(index, image):
    return image + 0.1 * jax.random.normal(
      jax.random.fold_in(key, index), image.shape
    )

  return {**batch, 'image': jax.vmap(one)(batch['index'], batch['image'])}


def run(
  n_devices,
  steps=4,
  *,
  model=None,
  tx=None,
  augment=noise,
  shard_above=0,
  **options,
):
  mesh = engine.make_mesh(jax.devices()[:n_devices])
  model, tx = model or Net(), tx or optax.adam(1e-2)
  ema = options.get('ema_decay', 0) > 0
  state = engine.create_state(
    model,
    tx,
    INPUTS,
    jax.random.key(0),
    mesh,
    ema=ema,
    shard_above=shard_above,
  )
  options['sharding'] = jax.tree.map(lambda x: x.sharding, state)
  step = engine.make_train_step(model, Task(), tx, augment, mesh, **options)
  key = jax.device_put(jax.random.key(1), engine.replicated(mesh))
  rng, losses, states = np.random.default_rng(0), [], [state]
  empty = engine.empty_metrics(mesh)
  for k in range(steps):
    batch = {
      'image': rng.normal(size=(16, 8, 8, 1)).astype(np.float32),
      'label': rng.integers(0, 3, 16).astype(np.int32),
      'index': np.arange(16 * k, 16 * k + 16, dtype=np.uint32),
    }
    batch = {
      k: jax.make_array_from_process_local_data(engine.sharded(mesh), v)
      for k, v in batch.items()
    }
    before = jax.tree.map(np.array, state.params)
    with jax.transfer_guard('disallow'):
      state, metrics = step(state, empty, batch, key)
    losses.append(float(metrics.loss.compute()))
    states.append(before)
  return state, losses, step, states


@pytest.mark.parametrize('devices', [2, 8])
def test_losses_do_not_depend_on_the_number_of_devices(devices):
  one_state, one, *_ = run(1)
  many_state, many, *_ = run(devices)
  np.testing.assert_allclose(many, one, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    one_state.variables,
    many_state.variables,
  )


def test_same_seed_same_bits():
  a, b = run(2)[0], run(2)[0]
  assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))


def test_compiles_once_and_donates_the_state():
  state, _, step, states = run(8)
  assert step._cache_size() == 1
  # The state that run() began with is gone: its buffers were reused.
  assert all(x.is_deleted() for x in jax.tree.leaves(states[0].params))
  assert not any(x.is_deleted() for x in jax.tree.leaves(state.params))


def test_large_leaves_are_split_along_the_largest_axis_that_fits():
  shapes = {
    'largest': (3, 16, 24),
    'that fits': (3, 16, 31),
    'first of equals': (8, 8),
    'none fits': (3, 5, 31),
    'small': (8,),
    'scalar': (),
  }
  mesh = engine.make_mesh(jax.devices()[:8])
  leaves = {k: jax.ShapeDtypeStruct(v, 'f') for k, v in shapes.items()}
  found = engine.state_sharding(leaves, mesh, shard_above=64)
  assert {k: tuple(v.spec) for k, v in found.items()} == {
    'largest': (None, None, 'data'),
    'that fits': (None, 'data'),
    'first of equals': ('data',),
    'none fits': (),
    'small': (),
    'scalar': (),
  }
  whole = engine.state_sharding(leaves, mesh)
  assert all(v.is_fully_replicated for v in whole.values())


@pytest.mark.parametrize('microbatches', [1, 2])
def test_a_sharded_state_trains_alike_in_less_memory(microbatches):
  options = dict(
    tx=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)),
    ema_decay=0.9,
    gradient=GRADIENTS[microbatches],
  )
  whole, losses, *_ = run(8, **options)
  split, split_losses, step, _ = run(8, **options, shard_above=24)
  np.testing.assert_allclose(split_losses, losses, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, split
  )
  assert step._cache_size() == 1
  # Parameters, their average, and Adam's two moments: 72 and 24 numbers each.
  for tree in (split.params, split.ema, split.opt_state[1][0].mu):
    assert tree['first']['kernel'].addressable_data(0).size == 72 / 8
    assert tree['head']['kernel'].addressable_data(0).size == 24 / 8
    assert tree['head']['bias'].addressable_data(0).size == 3

  def bytes_held(state):
    return sum(x.addressable_data(0).nbytes for x in jax.tree.leaves(state))

  saved = 4 * 4 * (72 + 24) * 7 / 8
  assert bytes_held(whole) - bytes_held(split) == saved


@pytest.mark.parametrize('devices', [1, 4])
def test_microbatches_give_the_gradient_of_the_whole_batch(devices):
  plain = Net(norm=False, dropout=0.0)
  sgd = optax.sgd(0.1)
  whole, whole_losses, *_ = run(devices, model=plain, tx=sgd)
  parts, part_losses, *_ = run(
    devices, model=plain, tx=sgd, gradient=engine.Microbatches(4)
  )
  np.testing.assert_allclose(part_losses, whole_losses, atol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    whole.params,
    parts.params,
  )


def test_ema_is_the_moving_average_of_the_parameters():
  state, _, _, states = run(1, ema_decay=0.9)
  trail = [*states[1:], state.params]
  expected = states[1]
  for params in trail[1:]:
    expected = jax.tree.map(lambda e, p: 0.9 * e + 0.1 * p, expected, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    state.ema,
    expected,
  )
  assert state.eval_variables['params'] is state.ema


def test_first_step_that_is_not_finite_is_named():
  mesh = engine.make_mesh(jax.devices()[:1])
  model, tx = Net(), optax.sgd(0.1)
  state = engine.create_state(model, tx, INPUTS, jax.random.key(0), mesh)
  step = engine.make_train_step(model, Task(), tx, lambda k, b: b, mesh)
  metrics = engine.empty_metrics(mesh)
  image = np.ones((4, 8, 8, 1), np.float32)
  for k in range(4):
    batch = {
      'image': image * (np.nan if k >= 2 else 1),
      'label': np.zeros(4, int),
    }
    state, metrics = step(state, metrics, batch, jax.random.key(0))
  assert int(metrics.bad_step.compute()) == 2


def test_bad_step_is_none_when_all_is_well():
  empty = engine.FirstBadStep.empty().step
  mesh = engine.make_mesh()
  assert engine.empty_metrics(mesh).bad_step.compute() == empty


# Members of an ensemble.


@functools.cache
def compiled(n_devices):
  """A mesh, its train step, and what states begin with."""
  mesh = engine.make_mesh(jax.devices()[:n_devices])
  model, tx = Net(), optax.adam(1e-2)
  step = engine.make_train_step(model, Task(), tx, noise, mesh, ema_decay=0.9)
  state = engine.create_state(
    model, tx, INPUTS, jax.random.key(0), mesh, ema=True
  )
  return mesh, step, jax.tree.map(np.array, state)


def begin(mesh, state, seed):
  """A member's state, its parameters moved by the seed, and its key."""
  params = jax.tree.map(lambda x: x * (1 + 0.1 * seed), state.params)
  state = state.replace(params=params)
  put = functools.partial(jax.device_put, device=engine.replicated(mesh))
  return put(state), engine.replicate(jax.random.key(seed), mesh)


def members(n_devices, *, together, seeds=(0, 1, 2), going=(3, 3, 3)):
  """States and losses of members, of which the first `going` take a step."""
  mesh, train_step, first = compiled(n_devices)
  step = engine.over_members(train_step, together=together)
  states, keys = zip(*(begin(mesh, first, i) for i in seeds), strict=True)
  states, metrics = list(states), [engine.empty_metrics(mesh)] * len(seeds)
  for k, n in enumerate(going):
    n = min(n, len(seeds))
    batches = []
    for seed in seeds[:n]:
      rng = np.random.default_rng((seed, k))
      batch = {
        'image': rng.normal(size=(16, 8, 8, 1)).astype(np.float32),
        'label': rng.integers(0, 3, 16).astype(np.int32),
        'index': np.arange(16 * k, 16 * k + 16, dtype=np.uint32),
      }
      batches.append(jax.device_put(batch, engine.sharded(mesh)))
    before = states[:n]
    with jax.transfer_guard('disallow'):
      done = step(before, metrics[:n], batches, keys[:n])
    states[:n], metrics[:n] = done
    assert all(x.is_deleted() for x in jax.tree.leaves(before))
  return states, [float(m.loss.compute()) for m in metrics]


def assert_close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)


def test_members_together_are_what_each_is_alone():
  states, losses = members(4, together=True)
  for i, (state, loss) in enumerate(zip(states, losses, strict=True)):
    (alone,), (alone_loss,) = members(4, together=True, seeds=(i,))
    assert loss == pytest.approx(alone_loss, abs=1e-5)
    assert_close(state, alone)
    assert jax.tree.all(
      jax.tree.map(lambda a, b: a.sharding == b.sharding, state, alone)
    )
  assert len({round(loss, 4) for loss in losses}) == 3  # members differ


def test_a_member_that_has_stopped_leaves_the_others_as_they_were(monkeypatch):
  stopped, _ = members(4, together=True, going=(3, 3, 1))
  whole, losses = members(4, together=False)
  assert_close(stopped[0], whole[0])
  assert [int(state.step) for state in stopped] == [3, 2, 2]
  monkeypatch.setattr(engine, '_has_room', lambda program: False)
  assert members(4, together=True)[1] == losses
