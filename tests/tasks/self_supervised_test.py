"""Tasks without labels: their invariants, on one device and on eight."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax import engine, models, tasks
from medjax.losses import views
from medjax.models.masked import MaskedAutoencoder
from medjax.models.projected import Embedded, Projected

DIM = 4
IMAGES = np.random.default_rng(0).normal(size=(8, 3, 4, 4, 1)).astype('f')
OTHERS = np.random.default_rng(1).normal(size=(8, 3, 4, 4, 1)).astype('f')


class Plain(nn.Module):
  """A projection without statistics of the batch."""

  num_classes: int = DIM

  @nn.compact
  def __call__(self, x, *, train=False):
    pooled = nn.tanh(nn.Dense(6)(x.reshape(len(x), -1)))
    z = nn.Dense(self.num_classes, use_bias=False)(pooled)
    return Embedded(z, pooled, nn.Dense(self.num_classes)(z))


class Normed(nn.Module):
  """A backbone with statistics of the batch."""

  num_classes: int = 0

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    x = nn.Dense(6)(x.reshape(len(x), -1))
    pooled = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
    return {'pooled': pooled, 'logits': pooled[:, :0]}


KINDS = {
  'SimCLR': (tasks.SimCLR(dim=DIM), {}, 2),
  'MoCo': (tasks.MoCo(dim=DIM, queue=12), {}, 2),
  'BYOL': (tasks.BYOL(dim=DIM), {'predictor': True}, 2),
  'DINO': (tasks.DINO(dim=DIM), {'prototypes': True}, 3),
  'VICReg': (tasks.VICReg(dim=DIM), {}, 2),
  'BarlowTwins': (tasks.BarlowTwins(dim=DIM), {}, 2),
  'MAE': (tasks.MAE(), {}, 0),
}
AVERAGED = ('MoCo', 'BYOL', 'DINO')


def mesh(count):
  return jax.sharding.Mesh(np.array(jax.devices()[:count]), ('data',))


def shown(image, count):
  """Some views of each image, or the image."""
  return image[:, :count] if count else image[:, 0]


def begun(name, on, *, plain=False):
  """(task, model, state, step over a batch of images)."""
  task, options, count = KINDS[name]
  model = Projected(task.num_outputs, Normed(), hidden=5, **options)
  if name == 'MAE':
    vit = models.ViT(1, width=4, depth=1, heads=1, patch_size=1, image_size=4)
    model = MaskedAutoencoder(1, vit, width=4, depth=1, heads=1)
  model = Plain() if plain else model
  state = engine.create_state(
    model, optax.sgd(0.1), [IMAGES[:, 0]], jax.random.key(0), on,
    ema=name in AVERAGED, more=getattr(task, 'variables', None),
  )  # fmt: skip
  step = engine.make_train_step(
    model, task, optax.sgd(0.1), lambda key, batch: batch, on, ema_decay=0.9
  )

  def train(state, images):
    batch = {'image': shown(images, count)}
    batch = jax.device_put(batch, engine.sharded(on))
    key = engine.replicate(jax.random.key(1), on)
    state, metrics = step(state, engine.empty_metrics(on), batch, key)
    return state, metrics.compute()

  return task, model, state, train


def variables_of(state):
  return jax.tree.map(np.array, {'params': state.params, **state.variables})


# The losses of the others are without state: tests/losses/views_test.py.
@pytest.mark.parametrize('name', ['SimCLR', 'MoCo', 'DINO', 'MAE'])
def test_one_device_and_eight_are_one(name):
  found = []
  for count in (1, 8):
    _, _, state, train = begun(name, mesh(count))
    losses = []
    for images in (IMAGES, OTHERS, IMAGES):
      state, metrics = train(state, images)
      losses.append([float(metrics['loss']), float(metrics['grad_norm'])])
    found.append((losses, variables_of(state)))
  one, eight = found
  np.testing.assert_allclose(one[0], eight[0], rtol=1e-5, atol=1e-6)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, one[1], eight[1])
  assert np.ptp(np.array(one[0])[:, 0]) > 0  # it learns something


def call(task, model, state, images, count=2):
  """(losses, forward) of a task, for a state."""
  forward = engine.Forward(
    model, state.params, state.variables, jax.random.key(1), state.ema
  )
  return task.loss(forward, {'image': shown(images, count)}), forward


def apply(model, params, images, view):
  return model.apply({'params': params}, jnp.asarray(images[:, view]))


def test_moco_with_an_empty_queue_is_simclr():
  _, model, state, _ = begun('MoCo', mesh(1), plain=True)
  simclr, _ = call(tasks.SimCLR(dim=DIM), model, state, IMAGES)
  for task in (tasks.MoCo(dim=DIM, queue=12), tasks.MoCo(dim=DIM, queue=0)):
    # The averaged model is the trained one before the first step.
    found, _ = call(task, model, state, IMAGES)
    np.testing.assert_array_equal(found, simclr)
  assert not tasks.MoCo(queue=0).variables


def test_the_queue_holds_the_keys_of_the_average_the_newest_first():
  task, model, state, train = begun('MoCo', mesh(1), plain=True)
  keys = []
  for images in (IMAGES, OTHERS):
    k = apply(model, state.ema, images, 0).projection
    keys.append(np.array(k / jnp.linalg.norm(k, axis=1, keepdims=True)))
    state, _ = train(jax.tree.map(jnp.copy, state), images)
  queue = state.variables['moco']
  assert int(queue['filled']) == 12
  expected = np.concatenate([keys[1], keys[0]])[:12]
  np.testing.assert_allclose(queue['keys'], expected, atol=1e-6)
  # They are candidates of the next step.
  found, _ = call(task, model, state, IMAGES)
  q, r = (apply(model, state.params, IMAGES, i).projection for i in (0, 1))
  k, m = (apply(model, state.ema, IMAGES, i).projection for i in (0, 1))
  there = views.contrast(q, m, k, queue=expected)
  back = views.contrast(r, k, m, queue=expected)
  np.testing.assert_allclose(found, (there + back) / 2, rtol=1e-5)


def test_the_target_of_byol_is_the_average():
  task, model, state, train = begun('BYOL', mesh(1), plain=True)
  average = jax.tree.map(np.array, state.params)
  for step in range(3):
    state, _ = train(state, IMAGES)
    decay = min(0.9, (1 + step) / (10 + step))
    mix = lambda old, new, d=decay: d * old + (1 - d) * np.array(new)
    average = jax.tree.map(mix, average, state.params)
  close = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6)
  jax.tree.map(close, state.ema, average)
  said = [apply(model, state.params, IMAGES, i).prediction for i in (0, 1)]
  target = [apply(model, state.ema, IMAGES, i).projection for i in (0, 1)]
  unit = lambda x: np.array(x) / np.linalg.norm(x, axis=1, keepdims=True)
  expected = sum(
    ((unit(said[i]) - unit(target[1 - i])) ** 2).sum(1) / 2 for i in (0, 1)
  )
  found, _ = call(task, model, state, IMAGES)
  np.testing.assert_allclose(found, expected, atol=1e-5)

  # The average is not learnt: nothing of the gradient passes through it.
  def loss(ema):
    return call(task, model, dataclasses.replace(state, ema=ema), IMAGES)[
      0
    ].sum()

  slope = jax.grad(loss)(state.ema)
  assert not any(np.any(x) for x in jax.tree.leaves(slope))


def test_dino_compares_different_views_and_moves_its_centre():
  task, model, state, _ = begun('DINO', mesh(1), plain=True)
  found, forward = call(task, model, state, IMAGES, 3)
  logits = [apply(model, state.params, IMAGES, i).projection for i in range(3)]
  pairs = [(0, 1), (0, 2), (1, 0), (1, 2)]  # (teacher's, student's)
  each = [
    views.distillation(logits[j], logits[i], np.zeros(DIM)) for i, j in pairs
  ]
  np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-5)
  centre = forward.variables['dino']['centre']
  mean = np.mean([*logits[0], *logits[1]], 0)
  np.testing.assert_allclose(centre, 0.1 * mean, atol=1e-6)


def test_a_teacher_needs_the_average():
  _, model, state, _ = begun('SimCLR', mesh(1), plain=True)
  with pytest.raises(ValueError, match=r'set train\.ema_decay above 0'):
    call(tasks.BYOL(dim=DIM), model, state, IMAGES)


@pytest.mark.parametrize('name', sorted(set(KINDS) - {'MAE'}))
def test_what_is_no_views_is_refused(name):
  task, model, state, _ = begun(name, mesh(1))
  image = np.zeros((2, 28, 28, 1), 'f')
  with pytest.raises(
    ValueError, match=r"config\.augment is dict\(name='views'"
  ):
    call(task, model, state, image[:, None], 0)
  forward = lambda x: x.mean((1, 2))
  forward.ema = forward
  with pytest.raises(ValueError, match="name='Projected'"):
    task.loss(forward, {'image': IMAGES[:, :2]})


@pytest.mark.parametrize(
  ('kind', 'options', 'match'),
  [
    ('MoCo', {'queue': -1}, 'queue=-1'),
    ('DINO', {'teacher_temperature': 0.2}, 'at most student_temperature'),
    ('DINO', {'centre_decay': 2.0}, 'centre_decay=2.0'),
    ('SimCLR', {'references': -1}, 'references=-1'),
    ('SimCLR', {'neighbours': 0}, 'neighbours=0 is below 1'),
    ('SimCLR', {'monitor': 'spread'}, "monitor='spread' is none of"),
  ],
)
def test_options_that_can_mean_nothing(kind, options, match):
  with pytest.raises(ValueError, match=match):
    getattr(tasks, kind)(**options)
