import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models import UNet
from medjax.models.unet import Stage

TASK04 = dict(num_classes=3, features=(32, 64, 128, 256))
SMALL = dict(num_classes=3, features=(4, 6, 8))
TINY = dict(num_classes=3, features=(4, 6))


def init(model, x, seed=0):
  return jax.jit(model.init)(jax.random.key(seed), x)


def apply(model, variables, x, **options):
  f = functools.partial(model.apply, **options)
  return jax.jit(f)(variables, x)


def image(*shape, seed=0):
  return jax.random.normal(jax.random.key(seed), shape)


def size(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


def relative(a, b):
  return float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())


def torch_unet(torch, num_classes, features, strides, kernels):
  """nnU-Net's plain U-Net from torch.nn, with all deep supervision heads."""
  nn = torch.nn
  rank = len(strides[0])
  conv = getattr(nn, f'Conv{rank}d')
  norm = getattr(nn, f'InstanceNorm{rank}d')
  up = getattr(nn, f'ConvTranspose{rank}d')

  def stage(inputs, outputs, kernel, stride):
    layers = []
    for i in range(2):
      layers += [
        conv(
          outputs if i else inputs,
          outputs,
          kernel,
          stride=1 if i else stride,
          padding=tuple(k // 2 for k in kernel),
        ),
        norm(outputs, eps=1e-5, affine=True),
        nn.LeakyReLU(0.01),
      ]
    return nn.Sequential(*layers)

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      n = len(features)
      widths = (1, *features)
      self.encoder = nn.ModuleList(
        stage(widths[i], widths[i + 1], kernels[i], strides[i])
        for i in range(n)
      )
      one = (1,) * rank
      below = range(n - 1)
      self.upsample = nn.ModuleList(
        up(features[i + 1], features[i], strides[i + 1], strides[i + 1])
        for i in below
      )
      self.decoder = nn.ModuleList(
        stage(2 * features[i], features[i], kernels[i], one) for i in below
      )
      self.head = nn.ModuleList(
        conv(features[i], num_classes, 1) for i in below
      )

    def forward(self, x):
      skips, logits = [], []
      for stage in self.encoder:
        x = stage(x)
        skips.append(x)
      for i in reversed(range(len(self.upsample))):
        x = torch.cat([self.upsample[i](x), skips[i]], 1)
        x = self.decoder[i](x)
        logits.insert(0, self.head[i](x))
      return logits

  return Net()


def as_flax(net, read):
  """What `read` gives of a torch U-Net's parameters, as a tree of ours."""
  params = {}

  def weights(layer, transposed=False):
    kernel = read(layer.weight)
    axes = (*range(2, kernel.ndim), *((0, 1) if transposed else (1, 0)))
    return {'kernel': kernel.transpose(axes), 'bias': read(layer.bias)}

  for part in ('encoder', 'decoder'):
    for i, stage in enumerate(getattr(net, part)):
      p = params[f'{part}_{i}'] = {}
      for j in (0, 1):
        p[f'conv_{j}'] = weights(stage[3 * j])
        norm = stage[3 * j + 1]
        p[f'norm_{j}'] = {'scale': read(norm.weight), 'bias': read(norm.bias)}
  for i, layer in enumerate(net.upsample):
    params[f'upsample_{i}'] = weights(layer, transposed=True)
  for i, layer in enumerate(net.head):
    p = params[f'head_{i}' if i else 'head'] = weights(layer)
    p['kernel'] = p['kernel'].reshape(p['kernel'].shape[-2:])
  return params


PLANS = {
  'task04': (
    (32, 64, 128, 256),
    ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    ((3, 3, 3),) * 4,
    (16, 24, 16),
  ),
  'anisotropic': (
    (8, 12, 16),
    ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    (6, 16, 12),
  ),
  'plane': ((8, 12, 16), ((1, 1), (2, 2), (2, 2)), ((3, 3),) * 3, (16, 20)),
}


@pytest.mark.parametrize('plan', PLANS)
def test_is_nnunet_assembled_in_torch(plan):
  torch = pytest.importorskip('torch')
  features, strides, kernels, shape = PLANS[plan]
  torch.manual_seed(0)
  net = torch_unet(torch, 3, features, strides, kernels)
  with torch.no_grad():  # nothing may pass by being one or zero
    for p in net.parameters():
      if p.ndim == 1:
        p.add_(0.1 * torch.randn_like(p))
  model = UNet(
    3, features, strides, kernel_sizes=kernels, deep_supervision=True
  )
  x = image(2, *shape, 1)
  params = as_flax(net, lambda p: p.detach().numpy())
  first = (0, len(shape) + 1, *range(1, len(shape) + 1))
  shapes = functools.partial(jax.tree.map, jnp.shape)
  ours = jax.eval_shape(model.init, jax.random.key(0), x)['params']
  assert shapes(params) == shapes(ours)
  assert size(params) == sum(p.numel() for p in net.parameters())
  logits = apply(model, {'params': params}, x, train=True)
  tx = torch.tensor(np.asarray(x).transpose(first))
  for y, z in zip(logits, net(tx), strict=True):
    assert relative(y.transpose(first), z.detach().numpy()) < 1e-4

  # Gradients in double precision: in single a voxel at the kink of the leaky
  # ReLU falls on either side.
  net, weights = net.double(), [1.0, 0.5, 0.25][: len(features) - 1]

  def loss(logits, sin):
    return sum(w * sin(y).mean() for w, y in zip(weights, logits, strict=True))

  with jax.enable_x64(True):
    params = as_flax(net, lambda p: p.detach().numpy())
    forward = lambda p: model.apply({'params': p}, x64, train=True)
    x64 = jnp.asarray(np.asarray(x), jnp.float64)
    gradient = jax.jit(jax.grad(lambda p: loss(forward(p), jnp.sin)))
    ours = jax.tree.map(np.asarray, gradient(params))
  loss(net(tx.double()), torch.sin).backward()
  theirs = as_flax(net, lambda p: p.grad.numpy())
  # A bias before a normalisation has no gradient but rounding.
  largest = max(np.abs(g).max() for g in jax.tree.leaves(theirs))
  close = functools.partial(
    np.testing.assert_allclose, rtol=1e-5, atol=1e-7 * largest
  )
  jax.tree.map(close, ours, theirs)


def test_size_of_the_task04_network():
  model = UNet(**TASK04, deep_supervision=True)
  x = jnp.ones((1, 40, 56, 40, 1))
  variables = jax.eval_shape(model.init, jax.random.key(0), x)
  assert size(variables['params']) == 5_603_177


@pytest.mark.parametrize(
  'options',
  [
    dict(norm='batch'),
    dict(norm='group'),
    dict(residual=True),
    dict(remat=True, dropout=0.1, norm='batch', residual=True),
    dict(strides=(1, 3), convs_per_stage=1),
  ],
  ids=str,
)
@pytest.mark.parametrize('shape', [(1, 13, 10, 2), (2, 5, 9, 7, 1)])
def test_options_on_odd_sizes(options, shape):
  model = UNet(**TINY, **options)
  x = image(*shape)
  variables = init(model, x)
  assert apply(model, variables, x).shape == (*shape[:-1], 3)

  @jax.jit
  def gradient(params):
    def loss(params):
      y, updates = model.apply(
        {**variables, 'params': params},
        x,
        train=True,
        rngs={'dropout': jax.random.key(1)},
        mutable=['batch_stats'],
      )
      return (y**2).mean(), updates

    return jax.grad(loss, has_aux=True)(params)

  gradients, updates = gradient(variables['params'])
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))
  assert ('batch_stats' in updates) == (options.get('norm') == 'batch')
  head = gradients['head']['kernel']
  assert jnp.abs(head).max() > 0


def test_a_residual_stage_averages_its_shortcut_and_repeats_odd_borders():
  stage = Stage(
    2, (3, 3), (2, 2), 1, 'instance', 'leaky_relu', True, 0.0, 0.0, None
  )
  x = image(1, 5, 4, 2)
  init = lambda key: stage.init(key, x, False)
  variables = jax.eval_shape(init, jax.random.key(0))
  zeros = jax.tree.map(lambda p: jnp.zeros(p.shape), variables)
  y = stage.apply(zeros, x, False)
  padded = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)), mode='edge')
  mean = padded.reshape(1, 3, 2, 2, 2, 2).mean((2, 4))
  expected = np.where(mean > 0, mean, 0.01 * mean)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_deep_supervision_returns_logits_finest_first_in_training_only():
  model = UNet(**SMALL)
  for n, sizes in ((16, (16, 8)), (13, (13, 7))):
    supervised = UNet(**SMALL, deep_supervision=True)
    x = image(1, n, n, 1)
    variables = init(supervised, x)
    logits = apply(supervised, variables, x, train=True)
    assert [y.shape[1] for y in logits] == list(sizes)
    alone = apply(supervised, variables, x)
    np.testing.assert_allclose(alone, logits[0], rtol=1e-5, atol=1e-6)
    variables['params'].pop('head_1')
    same = apply(model, variables, x)
    np.testing.assert_allclose(alone, same, rtol=1e-5, atol=1e-6)


def test_remat_gives_the_same_gradients_and_parameters():
  x = image(1, 8, 8, 8, 1)
  models = [UNet(**TINY, remat=remat) for remat in (False, True)]
  variables = [init(m, x) for m in models]
  jax.tree.map(np.testing.assert_array_equal, *variables)
  gradients = [
    jax.jit(jax.grad(lambda v, m=m: (m.apply(v, x, train=True) ** 2).mean()))(
      variables[0]
    )
    for m in models
  ]
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, *gradients)


def test_dropout_needs_training_and_a_key():
  model = UNet(**TINY, dropout=0.5)
  x = image(1, 8, 8, 1)
  v = init(model, x)
  train = jax.jit(
    lambda key: model.apply(v, x, train=True, rngs={'dropout': key})
  )
  zero, one = jax.random.split(jax.random.key(0))
  assert jnp.array_equal(train(zero), train(zero))
  assert not jnp.array_equal(train(zero), train(one))
  same = apply(UNet(**TINY), v, x)
  assert jnp.array_equal(apply(model, v, x), same)


def test_bfloat16_computes_beside_float32_parameters():
  x = image(2, 16, 16, 1)
  half, full = (UNet(**TINY, dtype=d) for d in (jnp.bfloat16, None))
  variables = init(half, x)
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype('f4')}
  y, z = apply(half, variables, x), apply(full, variables, x)
  assert y.dtype == jnp.float32
  assert relative(y, z) < 0.05
  loss = lambda v: half.apply(v, x).sum()
  gradients = jax.jit(jax.grad(loss))(variables)
  assert {g.dtype for g in jax.tree.leaves(gradients)} == {jnp.dtype('f4')}


def test_vmap_over_members():
  model = UNet(**TINY)
  x = image(1, 8, 8, 8, 1)
  members = [init(model, x, seed) for seed in range(2)]
  stacked = jax.tree.map(lambda *p: jnp.stack(p), *members)
  y = jax.jit(jax.vmap(model.apply, (0, None)))(stacked, x)
  for member, out in zip(members, y, strict=True):
    expected = apply(model, member, x)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_initial_scale_is_that_of_nnunet():
  params = init(UNet(3, (32, 64)), jnp.ones((1, 8, 8, 1)))['params']
  std = lambda *path: functools.reduce(dict.get, path, params).std()
  he = lambda fan: math.sqrt(2 / 1.0001 / fan)
  conv = std('encoder_1', 'conv_1', 'kernel')
  np.testing.assert_allclose(conv, he(9 * 64), rtol=0.03)
  up = std('upsample_0', 'kernel')  # torch counts its outputs: 4 × 32
  np.testing.assert_allclose(up, he(4 * 32), rtol=0.03)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(strides=(1, 2)), '3 stages .* 2 strides'),
    (dict(decoder_kernel_sizes=(3,)), '1 decoder_kernel_sizes; give 2'),
    (dict(groups=2), "those of norm='group', not of 'instance'"),
    (dict(activation='tanh'), "leaky_relu, .* not 'tanh'"),
    (dict(strides=(1, 2, (2, 2, 2))), '2 spatial axes'),
    (dict(kernel_sizes=(3, 3, 2)), 'odd'),
    (dict(norm='layer'), "not 'layer'"),
  ],
)
def test_a_plan_that_does_not_fit_is_refused(options, message):
  model = UNet(**SMALL, **options)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
