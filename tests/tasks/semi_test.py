"""Semi-supervised tasks against the supervised ones, and numpy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from medjax import augment as augment_lib
from medjax import engine, models, tasks
from medjax.augment.compose import compose
from medjax.tasks import consistency as agreement

RNG = np.random.default_rng(0)
LABELLED = [True, False, True, True, False, True, False, False]


class Net(nn.Module):
  """What a task might forget to carry along: statistics, dropout."""

  num_classes: int
  dense: bool = False
  norm: bool = True

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.Conv(4, (3,) * (x.ndim - 2), use_bias=False)(x)
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train)(x)
      x = nn.Dropout(0.3, deterministic=not train)(nn.relu(x))
    if not self.dense:
      x = x.mean(tuple(range(1, x.ndim - 1)))
    return nn.Dense(self.num_classes)(x)


def make_batch(step, *, dense, known=True, rank=2):
  rng = np.random.default_rng(step)
  shape = (8, *(6,) * rank)
  field = 'mask' if dense else 'label'
  return {
    'image': rng.normal(size=(*shape, 1)).astype(np.float32),
    field: rng.integers(0, 3, shape if dense else 8).astype(np.int32),
    'valid': {field: np.full(8, True) if known is True else np.array(known)},
    'index': np.arange(8 * step, 8 * step + 8, dtype='u4'),
  }


def trained(task, model, *, dense, steps=2, devices=1, rank=2, **options):
  """(losses, parameters) after some steps of the real engine."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ('data',))
  inner = (functools.partial(augment_lib.gaussian_noise, p=1.0),)
  chain = compose([
    functools.partial(augment_lib.flip, p=0.5),
    functools.partial(augment_lib.strong, augment=inner),
  ])  # fmt: skip
  tx = optax.adam(1e-2)
  batches = [
    make_batch(k, dense=dense, rank=rank, **options) for k in range(steps)
  ]
  shape = (1, *batches[0]['image'].shape[1:])
  image = jax.ShapeDtypeStruct(shape, jnp.float32)
  state = engine.create_state(
    model, tx, (image,), jax.random.key(0), mesh, ema=True
  )
  step = engine.make_train_step(model, task, tx, chain, mesh, ema_decay=0.9)
  key, losses = engine.replicate(jax.random.key(1), mesh), []
  for batch in batches:
    metrics = engine.empty_metrics(mesh)
    batch = jax.device_put(batch, engine.sharded(mesh))
    state, metrics = step(state, metrics, batch, key)
    losses.append(float(metrics.compute()['loss']))
  return np.array(losses), jax.tree.map(np.asarray, state.eval_variables)


SINGLE = {
  'MeanTeacherClassification': dict(consistency=0.0),
  'MeanTeacherSegmentation': dict(consistency=0.0),
  'UncertaintyAwareSegmentation': dict(consistency=0.0),
  'FixMatchClassification': dict(threshold=1.01),
  'FixMatchSegmentation': dict(threshold=1.01),
}


@pytest.mark.parametrize('name', SINGLE)
def test_without_its_second_term_a_task_is_the_supervised_one(name):
  dense = name.endswith('Segmentation')
  model = Net(3, dense)
  plain = tasks.Segmentation if dense else tasks.Classification
  other = getattr(tasks, name)(num_classes=3, **SINGLE[name])
  one = trained(plain(num_classes=3), model, dense=dense)
  two = trained(other, model, dense=dense)
  np.testing.assert_array_equal(one[0], two[0])  # bit for bit
  jax.tree.map(np.testing.assert_array_equal, one[1], two[1])


@pytest.mark.parametrize(
  'name',
  ['MeanTeacherSegmentation', 'FixMatchClassification',
   'CrossPseudoClassification', 'UncertaintyAwareSegmentation'],
)  # fmt: skip
def test_one_device_and_eight_give_the_same_losses(name):
  dense = name.endswith('Segmentation')
  model = Net(3, dense)
  if name.startswith('CrossPseudo'):
    model = models.Pair(3, model)
  # So low that decisions of FixMatch are made at all.
  options = {'threshold': 0.4} if name.startswith('FixMatch') else {}
  task = getattr(tasks, name)(num_classes=3, ramp=2, **options)
  run = functools.partial(
    trained, task, model, dense=dense, known=LABELLED, rank=3 if dense else 2
  )
  one, eight = run(), run(devices=8)
  np.testing.assert_allclose(one[0], eight[0], atol=1e-6, rtol=1e-6)


class Answers:
  """What a model gives of each image, and its average; no network."""

  def __init__(self, **outputs):
    self.outputs = outputs

  def __call__(self, image):
    return self.outputs[image]

  def ema(self, image):
    return self.outputs[f'{image} by the average']


def test_the_loss_of_a_mean_teacher_by_hand():
  logits, strong, average = RNG.normal(size=(3, 8, 3)).astype('f4')
  batch = make_batch(0, dense=False, known=LABELLED) | {'image': 'a'}
  forward = Answers(**{'a': logits, 'b': strong, 'a by the average': average})
  task = tasks.MeanTeacherClassification(num_classes=3, consistency=2.0)
  logs = scipy.special.log_softmax(logits, -1)
  own = [
    -logs[i, label] * 8 / 4 if known else 0
    for i, (label, known) in enumerate(
      zip(batch['label'], LABELLED, strict=True)
    )
  ]
  soft = functools.partial(scipy.special.softmax, axis=-1)
  for more, ours in (({}, logits), ({'strong': 'b'}, strong)):
    apart = ((soft(ours) - soft(average)) ** 2).mean(-1)
    found = task.loss(forward, batch | more)
    np.testing.assert_allclose(found, own + 2 * apart, rtol=1e-5)


@pytest.mark.parametrize('name', ['MeanTeacher', 'FixMatch'])
def test_what_has_no_reference_counts_by_the_second_term_only(name):
  model = Net(3, norm=False)  # whose cases know nothing of each other
  task = getattr(tasks, f'{name}Classification')(num_classes=3, consistency=0.0)
  batch = make_batch(0, dense=False, known=LABELLED)
  variables = model.init(jax.random.key(0), batch['image'])

  def loss(variables, batch, task=task):
    forward = lambda x: model.apply(variables, x, train=True)
    return task.loss(forward, batch).mean()

  kept = jax.tree.map(lambda x: x[np.array(LABELLED)], batch)
  plain = functools.partial(loss, task=tasks.Classification(num_classes=3))
  found = jax.value_and_grad(loss)(variables, batch)
  wanted = jax.value_and_grad(plain)(variables, kept)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted
  )


def test_a_batch_without_any_reference_has_no_supervised_loss():
  task = tasks.MeanTeacherClassification(num_classes=3, consistency=0.0)
  batch = make_batch(0, dense=False, known=[False] * 8)
  logits = jnp.asarray(RNG.normal(size=(8, 3)))
  assert np.asarray(task.loss(lambda x: logits, batch)).tolist() == [0.0] * 8


def probabilities(*shape):
  return scipy.special.softmax(RNG.normal(size=shape), -1).astype('f4')


def test_the_squared_difference_in_numpy():
  a, b = probabilities(4, 5, 6, 3), probabilities(4, 5, 6, 3)
  keep = RNG.random((4, 5, 6)) < 0.5
  keep[2] = False
  wanted = []
  for p, q, kept in zip(a, b, keep, strict=True):
    places = [((p[i] - q[i]) ** 2).mean() for i in np.argwhere(kept).tolist()
              for i in (tuple(i),)]  # fmt: skip
    wanted.append(np.mean(places) if places else 0.0)
  found = agreement.squared(jnp.array(a), jnp.array(b), jnp.array(keep))
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  whole = agreement.squared(jnp.array(a), jnp.array(b))
  np.testing.assert_allclose(whole, ((a - b) ** 2).mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize('threshold', [0.0, 0.6, 0.95])
def test_pseudo_labels_in_a_loop(threshold):
  logits = RNG.normal(size=(6, 4, 3))
  teacher = probabilities(6, 4, 3)
  wanted = np.zeros(6)
  for i, j in np.ndindex(6, 4):
    best = teacher[i, j].argmax()
    if teacher[i, j, best] >= threshold:
      wanted[i] -= scipy.special.log_softmax(logits[i, j])[best] / 4
  found = agreement.pseudo_labelled(
    jnp.array(logits), jnp.array(teacher), exclusive=True, threshold=threshold
  )
  np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_pseudo_labels_of_several_labels():
  logits, teacher = RNG.normal(size=(6, 3)), RNG.random((6, 3)).astype('f4')
  wanted = np.zeros(6)
  for i, k in np.ndindex(6, 3):
    p = teacher[i, k]
    if max(p, 1 - p) >= 0.7:
      own = scipy.special.expit(logits[i, k])
      wanted[i] -= np.log(own if p > 0.5 else 1 - own) / 3
  found = agreement.pseudo_labelled(
    jnp.array(logits), jnp.array(teacher), exclusive=False, threshold=0.7
  )
  np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_decisions_of_a_teacher_have_no_gradient():
  of = lambda z: agreement.pseudo_labelled(
    z, jax.nn.softmax(z), exclusive=True
  ).sum()
  logits = jnp.array(RNG.normal(size=(5, 3)))
  label = np.asarray(logits).argmax(-1)
  wanted = scipy.special.softmax(np.asarray(logits), -1) - np.eye(3)[label]
  np.testing.assert_allclose(jax.grad(of)(logits), wanted, atol=1e-6)


def test_the_weight_rises_as_laine_and_aila_say():
  for step, wanted in ((0, np.exp(-5)), (5, np.exp(-1.25)), (10, 1), (99, 1)):
    index = jnp.arange(4 * step, 4 * step + 4, dtype='u4')
    np.testing.assert_allclose(agreement.ramp(index, 10), wanted, rtol=1e-5)
    np.testing.assert_array_equal(agreement.ramp(index, 0), 1)


def test_a_pair_is_two_networks_and_answers_as_its_first():
  model = models.Pair(3, Net(3))
  x = jnp.array(RNG.normal(size=(2, 6, 6, 1)), jnp.float32)
  variables = model.init(jax.random.key(0), x)
  first, second = (variables['params'][k] for k in ('first', 'second'))
  shapes = [jax.tree.map(jnp.shape, part) for part in (first, second)]
  assert shapes[0] == shapes[1]
  assert not np.allclose(
    first['Dense_0']['kernel'], second['Dense_0']['kernel']
  )
  stats = variables['batch_stats']['first']
  alone = Net(3).apply({'params': first, 'batch_stats': stats}, x)
  np.testing.assert_array_equal(model.apply(variables, x), alone)
  both, _ = model.apply(
    variables, x, train=True, mutable=['batch_stats'],
    rngs={'dropout': jax.random.key(0)},
  )  # fmt: skip
  assert {*both} == {'first', 'second'}


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('MeanTeacherClassification', dict(consistency=-1.0), 'must be 0 or more'),
    ('UncertaintyAwareSegmentation', dict(passes=0), 'must be 1 or more'),
  ],
)
def test_bad_numbers(name, options, message):
  with pytest.raises(ValueError, match=message):
    getattr(tasks, name)(num_classes=3, **options)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('FixMatchClassification', r"end config\.augment with dict\(name='strong'"),
    ('CrossPseudoClassification', r"config\.model=dict\(name='Pair'"),
  ],
)
def test_what_a_method_needs_is_said(name, message):
  task = getattr(tasks, name)(num_classes=3)
  with pytest.raises(ValueError, match=message):
    task.loss(lambda x: jnp.zeros((8, 3)), make_batch(0, dense=False))


def test_a_stronger_view_keeps_the_grid_of_the_mask():
  flip = functools.partial(augment_lib.flip, p=0.5)
  noise = functools.partial(augment_lib.gaussian_noise, p=1.0)
  batch = make_batch(0, dense=True)
  made = compose([functools.partial(augment_lib.strong, augment=(noise,))])
  found = made(jax.random.key(0), batch)
  np.testing.assert_array_equal(found['image'], batch['image'])
  assert not np.allclose(found['strong'], batch['image'])
  moved = compose([functools.partial(augment_lib.strong, augment=(flip,))])
  with pytest.raises(ValueError, match='must not move voxels'):
    moved(jax.random.key(0), batch)
