"""The private gradient against loops in numpy, and against neighbours."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from medjax import engine, models
from medjax.dp.gradient import PrivateGradient

KEY = jax.random.key(0)
SIZE = 16
FREE = float('inf')
MODELS = {
  'resnet': models.ResNet(3, (1,), width=4, stem='small', norm='group'),
  'unet': models.UNet(3, (4, 6)),
  'vit': models.ViT(3, width=8, depth=1, heads=2, patch_size=4, image_size=8),
}
MORE = {
  'lenet': models.LeNet5(3),
  'vgg': models.VGG(3, (1, 1), width=4, hidden=8, grid=2),
  'alexnet': models.AlexNet(3, features=(4,) * 5, hidden=8, grid=2),
  'densenet': models.DenseNet(3, (2, 1), growth=4, width=8, norm='group'),
  'mobilenet': models.MobileNetV3Small(
    3, stages=((1, 3, 1, 8, False, True, 1),), last=16, hidden=16, norm='group'
  ),
  'efficientnet': models.EfficientNet(
    3, width=0.25, depth=1.0, stages=((1, 3, 1, 16, 1),), norm='group'
  ),
  'convnext': models.ConvNeXt(3, (1, 1), width=4, kernel_size=3),
  'segresnet': models.SegResNet(3, (4, 8), (1, 1)),
  'vnet': models.VNet(3, (4, 6), norm='group'),
  'mednext': models.MedNeXt(3, (1, 1, 1), (2, 2, 2), width=4),
  'inception': models.InceptionV3(3, width=1 / 32, norm='group', aux=False),
  'encoder_decoder': models.EncoderDecoder(
    3, models.ResNet(3, (1,), width=4, norm='group'), (4, 6), norm='group'
  ),
  'unet2015': models.UNet2015(3, (6, 8)),
  'unet2018': models.UNet2018(3, (4, 6)),
  'resenc': models.ResEncUNet(3, (4, 6), blocks_per_stage=(1, 1)),
  'unetr': models.UNETR(
    3, features=2, width=4, depth=4, heads=2, image_size=32
  ),
  'swin_unetr': models.SwinUNETR(3, features=4, heads=(1, 1, 1, 1), window=2),
  'wnet': models.WNet(3, (4, 6), norm='group'),
}
# Of tables, and around any of these.
OTHERS = {
  'mlp', 'concept_bottleneck', 'fusion', 'masked', 'pair', 'projected',
  'slicewise',
}  # fmt: skip


def shape_of(name):
  size = 8 if name in MODELS else 80 if name == 'inception' else 32
  return (size, size, 1)


def test_every_architecture_is_here():
  ours = {type(m).__module__ for m in (MODELS | MORE).values()}
  kinds = {k for k in vars(models).values() if isinstance(k, type)}
  every = {k.__module__ for k in kinds if issubclass(k, nn.Module)}
  named = lambda modules: {name.rpartition('.')[2] for name in modules}
  assert named(every) - named(ours) == OTHERS


class Net(nn.Module):
  """A network whose gradients are of very different norms."""

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2))
    return nn.Dense(3, name='head')(x)


class Task:
  over_batch = False

  def loss(self, forward, batch):
    logits = forward(batch['image'])
    if isinstance(logits, tuple):  # of deep supervision
      logits = logits[0]
    if logits.ndim > 2:
      logits = logits.mean(tuple(range(1, logits.ndim - 1)))
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['label']
    )


def batch_of(n=SIZE, *, filled=SIZE, shape=(8, 8, 1), spread=1.0):
  """n places; the images of some are much brighter."""
  rng = np.random.default_rng(0)
  images = rng.normal(size=(n, *shape)) * np.exp(
    spread * rng.normal(size=(n, *[1] * len(shape)))
  )
  return {
    'image': images.astype(np.float32),
    'label': rng.integers(0, 3, n).astype(np.int32),
    'index': np.arange(n, dtype=np.uint32),
    'padding': np.arange(n) >= filled,
  }


def loss_of(model):
  def loss(params, variables, batch, key):
    forward = engine.Forward(model, params, variables, key)
    losses = Task().loss(forward, batch)
    return losses.mean(), (losses, forward.variables)

  return loss


def init(model, batch):
  variables = jax.jit(model.init)(KEY, batch['image'][:1])
  assert set(variables) == {'params'}
  return variables['params']


def summed(model, **options):
  """A compiled (params, batch) → sum of clipped gradients."""
  about = dict(clip_norm=0.1, noise=1.0, expected=SIZE)
  gradient = PrivateGradient(**about | options)
  run = jax.jit(functools.partial(gradient.clipped_sum, loss_of(model)))
  return lambda params, batch: run(params, {}, batch, KEY)[0]


def clipped_sum(model, params, batch, **options):
  return summed(model, **options)(params, batch)


def flat(tree):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def close(a, b, rtol=1e-6):
  a, b = flat(a), flat(b)
  assert np.abs(a - b).max() <= rtol * np.abs(b).max()


def by_hand(model, params, batch, clip_norm):
  """One patient after the other; in float64."""
  grad = jax.jit(jax.grad(lambda p, b: loss_of(model)(p, {}, b, KEY)[0]))
  total, norms = 0, []
  for i in np.flatnonzero(~batch['padding']):
    one = jax.tree.map(lambda x, i=i: x[i : i + 1], batch)
    g = flat(grad(params, one)).astype(np.float64)
    norms.append(np.linalg.norm(g))
    total = total + g * min(1, clip_norm / norms[-1])
  return total, np.array(norms)


@pytest.mark.parametrize('lanes', [1, 8, SIZE])
def test_the_sum_is_that_of_a_loop(lanes):
  batch = batch_of(filled=11)
  # Lanes are filled together.
  order = np.arange(SIZE).reshape(-1, lanes).T.reshape(-1)
  batch = jax.tree.map(lambda x: x[order], batch)
  params = init(Net(), batch)
  expected, norms = by_hand(Net(), params, batch, 1.2)
  assert 0.1 < (norms > 1.2).mean() < 0.9
  found = flat(clipped_sum(Net(), params, batch, clip_norm=1.2, lanes=lanes))
  assert np.abs(found - expected).max() < 3e-6 * np.abs(expected).max()


def state_after(gradient, devices=1, steps=3, batch=None):
  mesh = engine.make_mesh(jax.devices()[:devices])
  model, tx = Net(), optax.sgd(0.1)
  inputs = (jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32),)
  state = engine.create_state(model, tx, inputs, KEY, mesh)
  step = engine.make_train_step(
    model, Task(), tx, lambda key, batch: batch, mesh, gradient=gradient
  )
  batch = jax.device_put(batch or batch_of(), engine.sharded(mesh))
  key = jax.device_put(jax.random.key(1), engine.replicated(mesh))
  for _ in range(steps):
    state, _ = step(state, engine.empty_metrics(mesh), batch, key)
  return state


@pytest.mark.parametrize('together', [False, True])
def test_one_program_of_several_noises(together):
  """Noise of a site of its own, without a program of its own."""
  mesh = engine.make_mesh(jax.devices()[:1])
  ways = [PrivateGradient(0.5, noise, SIZE, mesh=mesh) for noise in (0.5, 2.0)]
  model, tx = Net(), optax.sgd(0.1)
  inputs = (jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32),)
  begin = lambda: engine.create_state(model, tx, inputs, KEY, mesh)
  step = engine.make_train_step(
    model, Task(), tx, lambda key, batch: batch, mesh, gradient=None
  )
  batch = jax.device_put(batch_of(), engine.sharded(mesh))
  key = jax.device_put(jax.random.key(1), engine.replicated(mesh))
  states, _ = engine.over_members(step, together=together)(
    [begin(), begin()], [engine.empty_metrics(mesh)] * 2, [batch] * 2,
    [key] * 2, ways,
  )  # fmt: skip
  assert step._cache_size() == (not together)
  for way, state in zip(ways, states, strict=True):
    close(state.params, state_after(way, steps=1).params)
  assert np.abs(flat(states[0].params) - flat(states[1].params)).max() > 0.01


def test_without_noise_and_clipping_it_is_the_plain_step():
  """To rounding: the sum of the batch is taken in another order."""
  plain = state_after(engine.whole_batch)
  free = PrivateGradient(clip_norm=FREE, noise=0.0, expected=SIZE)
  close(state_after(free).params, plain.params)


@pytest.mark.parametrize(
  'name',
  [*MODELS, *(pytest.param(k, marks=pytest.mark.slow) for k in MORE)],
)
def test_in_the_same_order_it_is_the_plain_step_to_the_bit(name):
  """Against the step that takes its batch one by one, train.microbatches.

  Operation by operation: as two programs, XLA may round them differently.
  """
  model = (MODELS | MORE)[name]
  batch = batch_of(3, filled=3, shape=shape_of(name))
  params = init(model, batch)
  # Dropout alike: each example has another key in the two.
  loss = lambda params, variables, batch, key: loss_of(model)(
    params, variables, batch, KEY
  )
  with jax.disable_jit():
    plain, free = (
      gradient(loss, params, {}, batch, KEY)[2]
      for gradient in (
        engine.Microbatches(3),
        PrivateGradient(clip_norm=FREE, noise=0.0, expected=3),
      )
    )
  assert np.abs(flat(plain)).max() > 0
  jax.tree.map(np.testing.assert_array_equal, plain, free)


def test_devices_do_not_matter():
  one = state_after(PrivateGradient(0.5, 1.0, SIZE))
  mesh = engine.make_mesh(jax.devices()[:8])
  for lanes in (1, 2):
    gradient = PrivateGradient(0.5, 1.0, SIZE, lanes, mesh)
    close(state_after(gradient, devices=8).params, one.params, rtol=1e-5)


def neighbours(model, batch, clip_norm):
  """Largest change of the sum, over all patients, and that of any layer."""
  params, run = init(model, batch), summed(model, clip_norm=clip_norm)
  total = run(params, batch)
  whole, layers = [], []
  for i in range(len(batch['padding'])):
    without = {**batch, 'padding': batch['padding'] | (np.arange(SIZE) == i)}
    other = run(params, without)
    gap = jax.tree.map(lambda a, b: np.linalg.norm(a - b), total, other)
    whole.append(np.linalg.norm(flat(gap)))
    layers.append(max(jax.tree.leaves(gap)))
  return max(whole), max(layers)


@pytest.mark.parametrize(
  'name',
  [*MODELS, *(pytest.param(k, marks=pytest.mark.slow) for k in MORE)],
)
def test_a_patient_moves_the_sum_by_no_more_than_the_norm(name):
  model = (MODELS | MORE)[name]
  batch = batch_of(shape=shape_of(name), spread=3.0)
  whole, layer = neighbours(model, batch, 0.1)
  assert 0.09 < whole <= 0.1 * (1 + 1e-4)  # rounding of two sums
  assert layer <= whole
  free, _ = neighbours(model, batch, 1e6)
  assert free > 0.5  # which clipping did


def test_a_patient_whose_gradient_is_not_finite_counts_for_nothing():
  batch = batch_of()
  params = init(Net(), batch)
  bad = {**batch, 'image': batch['image'].copy()}
  bad['image'][3] = np.nan
  without = {**batch, 'padding': np.arange(SIZE) == 3}
  close(
    clipped_sum(Net(), params, bad), clipped_sum(Net(), params, without), 1e-7
  )
  state = state_after(PrivateGradient(1.0, 1.0, SIZE), batch=bad)
  assert np.isfinite(flat(state.params)).all()


def test_a_batch_of_nobody_is_noise():
  empty = batch_of(filled=0)
  params = init(Net(), empty)
  gradient = PrivateGradient(clip_norm=1.0, noise=1.0, expected=4)
  losses, _, grads = gradient(loss_of(Net()), params, {}, empty, KEY)
  assert losses.tolist() == [0.0]
  assert not flat(clipped_sum(Net(), params, empty)).any()
  assert flat(grads).std() == pytest.approx(1 / 4, rel=0.3)


def noise_of(steps, *, devices=1, size=100_000):
  """(steps, 2, size): what a step adds, over its standard deviation."""

  class Wide:
    def init(self, key, x, train=False):
      return {'params': {'a': jnp.zeros(size), 'b': jnp.zeros(size)}}

    def apply(self, variables, x, **options):
      params = variables['params']
      return 0 * (params['a'][:3] + params['b'][:3] + x.mean((1, 2))), {}

  mesh = engine.make_mesh(jax.devices()[:devices])
  tx = optax.sgd(1.0)
  inputs = (jax.ShapeDtypeStruct((1, 2, 2, 1), np.float32),)
  state = engine.create_state(Wide(), tx, inputs, KEY, mesh)
  gradient = PrivateGradient(2.0, 3.0, expected=5, mesh=mesh)
  step = engine.make_train_step(
    Wide(), Task(), tx, lambda k, b: b, mesh, gradient=gradient
  )
  batch = jax.device_put(batch_of(8, shape=(2, 2, 1)), engine.sharded(mesh))
  key = jax.device_put(jax.random.key(1), engine.replicated(mesh))
  seen, before = [], state.params
  before = jax.tree.map(np.array, before)
  for _ in range(steps):
    state, _ = step(state, engine.empty_metrics(mesh), batch, key)
    after = jax.tree.map(np.array, state.params)
    seen.append([after['a'] - before['a'], after['b'] - before['b']])
    before = after
  # Of the sum, 2 × 3; of the mean a fifth.
  return np.array(seen) / (2.0 * 3.0 / 5)


def test_the_noise_of_a_step_is_as_said_and_of_that_step_alone():
  z = noise_of(5).reshape(10, -1)  # 10^6 draws
  assert z.shape == (10, 100_000)
  chi2 = scipy.stats.chi2(z.size)
  assert chi2.ppf(1e-4) < (z.astype(np.float64) ** 2).sum() < chi2.ppf(1 - 1e-4)
  assert scipy.stats.kstest(z.ravel()[::7], 'norm').pvalue > 1e-4
  # No two leaves or steps share noise, nor do neighbouring parameters.
  between = np.corrcoef(z) - np.eye(len(z))
  assert np.abs(between).max() < 5 / np.sqrt(z.shape[1])
  beside = np.mean([np.corrcoef(row[1:], row[:-1])[0, 1] for row in z])
  assert abs(beside) < 5 / np.sqrt(z.size)
  np.testing.assert_allclose(noise_of(1, devices=8)[0], z[:2], atol=1e-5)


def test_the_loss_of_the_batch_is_not_told():
  batch = batch_of(filled=3)
  params = init(Net(), batch)
  told = PrivateGradient(1.0, 1.0, SIZE, log_loss=True)
  silent = PrivateGradient(1.0, 1.0, SIZE)
  run = lambda g: g(loss_of(Net()), params, {}, batch, KEY)[0]
  three = jax.tree.map(lambda x: x[:3], batch)
  mean, _ = loss_of(Net())(params, {}, three, KEY)
  assert run(told).tolist() == pytest.approx([float(mean)], rel=1e-6)
  assert run(silent).tolist() == [0.0]


def test_noise_in_terms_of_no_norm():
  with pytest.raises(ValueError, match='clip_norm, which must be finite'):
    PrivateGradient(clip_norm=FREE, noise=1.0, expected=4)
