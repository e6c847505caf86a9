import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models
from medjax.models import ResNet, ResNet18

NARROW = dict(num_classes=3, stage_sizes=(1, 2), width=8)


# Random numbers compile slowly, and here they are drawn once.
QUICK = {'xla_backend_optimization_level': 0}


def init(model, x):
  f = jax.jit(model.init, compiler_options=QUICK)
  return f(jax.random.key(0), x)


def image(*shape):
  return jax.random.normal(jax.random.key(0), shape)


@pytest.mark.parametrize(
  ('name', 'published'),
  [
    ('ResNet18', 11_689_512),
    ('ResNet34', 21_797_672),
    ('ResNet50', 25_557_032),
    ('ResNet101', 44_549_160),
    ('ResNet152', 60_192_808),
  ],
)
def test_sizes_are_the_published_ones(name, published):
  model = getattr(models, name)(num_classes=1000)
  x = jnp.ones((1, 64, 64, 3))
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  assert sum(p.size for p in jax.tree.leaves(shapes['params'])) == published


def torch_resnet(torch, rank, block, stem, stage_sizes, width, num_classes):
  """torchvision's ResNet from torch.nn."""
  nn = torch.nn
  Conv = getattr(nn, f'Conv{rank}d')
  Norm = getattr(nn, f'BatchNorm{rank}d')

  def conv_norm(inputs, outputs, kernel, stride):
    conv = Conv(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, Norm(outputs))

  class Block(nn.Module):
    def __init__(self, inputs, width, stride):
      super().__init__()
      layers = [(width, 3, stride), (width, 3, 1)]
      if block == 'bottleneck':
        layers = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
      self.layers, channels = nn.ModuleList(), inputs
      for layer in layers:
        self.layers.append(conv_norm(channels, *layer))
        channels = layer[0]
      self.shortcut = None
      if stride != 1 or inputs != channels:
        self.shortcut = conv_norm(inputs, channels, 1, stride)
      self.channels = channels

    def forward(self, x):
      y = x
      for i, layer in enumerate(self.layers):
        y = layer(y.relu() if i else y)
      return (y + (self.shortcut(x) if self.shortcut else x)).relu()

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      small = stem == 'small'
      self.stem = conv_norm(1, width, *((3, 1) if small else (7, 2)))
      pool = getattr(nn, f'MaxPool{rank}d')(3, 2, 1)
      self.pool = nn.Identity() if small else pool
      self.blocks, channels = nn.ModuleDict(), width
      for i, blocks in enumerate(stage_sizes):
        for j in range(blocks):
          b = Block(channels, width * 2**i, 2 if i and not j else 1)
          self.blocks[f'stage_{i}_block_{j}'] = b
          channels = b.channels
      self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
      x = self.pool(self.stem(x).relu())
      for b in self.blocks.values():
        x = b(x)
      return self.head(x.flatten(2).mean(-1))

  return Net()


def as_flax(net, read):
  """What `read` gives of a torch ResNet's tensors, as variables of ours."""
  params, stats = {}, {}

  def add(layer, p, s, name):
    conv, norm = layer
    kernel = read(conv.weight)
    axes = (*range(2, kernel.ndim), 1, 0)
    p[name] = {
      'conv': {'kernel': kernel.transpose(axes)},
      'norm': {'scale': read(norm.weight), 'bias': read(norm.bias)},
    }
    mean, var = read(norm.running_mean), read(norm.running_var)
    s[name] = {'norm': {'mean': mean, 'var': var}}

  add(net.stem, params, stats, 'stem')
  for name, block in net.blocks.items():
    p, s = params[name], stats[name] = {}, {}
    for i, layer in enumerate(block.layers):
      add(layer, p, s, f'layer_{i}')
    if block.shortcut:
      add(block.shortcut, p, s, 'shortcut')
  params['head'] = {'kernel': read(net.head.weight).T}
  params['head']['bias'] = read(net.head.bias)
  return {'params': params, 'batch_stats': stats}


@pytest.mark.parametrize(
  ('block', 'stem', 'shape'),
  [
    ('bottleneck', 'imagenet', (33, 36)),
    ('bottleneck', 'small', (12, 12)),
    ('basic', 'imagenet', (24, 25, 27)),
  ],
)
def test_is_torchvision_assembled_in_torch(block, stem, shape):
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  options = dict(NARROW, block=block, stem=stem)
  net = torch_resnet(torch, len(shape), **options)
  with torch.no_grad():  # nothing may pass by being one or zero
    for name, p in (*net.named_parameters(), *net.named_buffers()):
      if p.ndim == 1:
        noise = 0.1 * torch.randn_like(p)
        p.add_(noise.abs() if 'running' in name else noise)
  read = lambda p: p.detach().numpy().copy()
  variables = as_flax(net, read)
  model = ResNet(**options)
  x = image(4, *shape, 1)
  shapes = functools.partial(jax.tree.map, jnp.shape)
  ours = jax.eval_shape(model.init, jax.random.key(0), x)
  assert shapes(variables) == shapes(ours)
  tx = torch.tensor(
    np.asarray(x).transpose(0, len(shape) + 1, *range(1, len(shape) + 1))
  )
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)

  net.eval()
  close(jax.jit(model.apply)(variables, x), net(tx).detach().numpy())

  net.train()

  @functools.partial(jax.grad, has_aux=True)
  def gradient(params):
    y, updates = model.apply(
      {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
    )
    return jnp.sin(y).mean(), (y, updates)

  gradients, (y, updates) = jax.jit(gradient)(variables['params'])
  sizes = {}  # values per channel that each torch norm saw
  for module in net.modules():
    if hasattr(module, 'running_var'):
      module.register_forward_hook(
        lambda m, i, o: sizes.__setitem__(m, i[0].numel() / i[0].shape[1])
      )
      module.before = module.running_var.clone()
  expected = net(tx)
  expected.sin().mean().backward()
  close(y, expected.detach().numpy())
  for m, n in sizes.items():
    # torch adds the unbiased variance of the batch, flax the biased one.
    batch = (m.running_var - 0.9 * m.before) * (n - 1) / n
    m.running_var.copy_(0.9 * m.before + batch)
  jax.tree.map(close, updates['batch_stats'], as_flax(net, read)['batch_stats'])
  grad = lambda p: (p if p.grad is None else p.grad).detach().numpy()
  theirs = as_flax(net, grad)['params']
  largest = max(np.abs(g).max() for g in jax.tree.leaves(theirs))
  close = functools.partial(
    np.testing.assert_allclose, rtol=1e-3, atol=1e-4 * largest
  )
  jax.tree.map(close, gradients, theirs)


@pytest.mark.parametrize(
  ('norm', 'shape'),
  [
    ('batch', (1, 28, 28, 1)),
    ('instance', (1, 17, 20, 1)),
    ('group', (2, 9, 11, 10, 2)),
  ],
)
def test_small_stem_on_any_rank_and_norm(norm, shape):
  model = ResNet18(num_classes=2, width=4, stem='small', norm=norm, dropout=0.2)
  x = image(*shape)
  variables = init(model, x)
  y = jax.jit(model.apply)(variables, x)
  assert y.shape == (shape[0], 2)
  assert jnp.isfinite(y).all()
  train = functools.partial(model.apply, train=True, mutable=['batch_stats'])
  rngs = {'dropout': jax.random.key(0)}
  y, _ = jax.jit(train)(variables, x, rngs=rngs)
  assert jnp.isfinite(y).all()


def test_bfloat16_computes_beside_float32_variables():
  x = image(2, 20, 20, 1)
  half, full = (ResNet(**NARROW, dtype=d) for d in (jnp.bfloat16, None))
  variables = init(half, x)
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype('f4')}
  train = lambda m: jax.jit(
    functools.partial(m.apply, train=True, mutable=['batch_stats'])
  )(variables, x)
  y, updates = train(half)
  assert {p.dtype for p in jax.tree.leaves(updates)} == {jnp.dtype('f4')}
  z, _ = train(full)
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, z, atol=0.1 * float(jnp.abs(z).max()))


def test_vmap_over_members():
  model = ResNet(**NARROW, stem='small')
  x = image(2, 8, 8, 1)
  keys = jax.random.split(jax.random.key(0), 3)
  init = jax.vmap(model.init, (0, None))
  members = jax.jit(init, compiler_options=QUICK)(keys, x)
  y = jax.jit(jax.vmap(model.apply, (0, None)))(members, x)
  last = jax.tree.map(lambda p: p[-1], members)
  expected = jax.jit(model.apply)(last, x)
  np.testing.assert_allclose(y[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('option', ['stem', 'block', 'norm'])
def test_an_unknown_option_is_refused(option):
  model = ResNet(**{**NARROW, option: 'foo'})
  with pytest.raises(ValueError, match=f"{option} is .* not 'foo'"):
    jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
