"""Evaluation-mode logits equal those of the same layers in torch.nn."""

import pytest

from medjax import models


def conv_norm(nn, i, o, k, s=1, g=1, p=None, eps=1e-5):
  """Modules by our names: 'conv' and 'norm'."""
  pairs = (k, k) if isinstance(k, int) else k
  padding = tuple(n // 2 for n in pairs) if p is None else p
  net = nn.Sequential()
  net.add_module('conv', nn.Conv2d(i, o, k, s, padding, groups=g, bias=False))
  net.add_module('norm', nn.BatchNorm2d(o, eps))
  return net


def test_alexnet(assert_parity):
  nn = pytest.importorskip('torch').nn
  net = nn.Sequential()
  layers = ((1, 4, 11, 4, 2), (4, 6, 5, 1, 2), (6, 8, 3, 1, 1))
  layers += ((8, 6, 3, 1, 1), (6, 5, 3, 1, 1))
  for i, layer in enumerate(layers):
    net.add_module(f'conv_{i}', nn.Conv2d(*layer))
    net.add_module(f'relu_{i}', nn.ReLU())
    if i in (0, 1, 4):
      net.add_module(f'pool_{i}', nn.MaxPool2d(3, 2))
  net.add_module('average', nn.AdaptiveAvgPool2d(6))
  net.add_module('flatten', nn.Flatten())
  for i, inputs in enumerate((180, 7)):
    net.add_module(f'dense_{i}', nn.Linear(inputs, 7))
    net.add_module(f'dense_relu_{i}', nn.ReLU())
  net.add_module('head', nn.Linear(7, 3))
  model = models.AlexNet(3, features=(4, 6, 8, 6, 5), hidden=7)
  assert_parity(model, net, (2, 67, 90, 1), grid=(6, 6))


@pytest.mark.parametrize('norm', [None, 'batch'])
def test_vgg(assert_parity, norm):
  nn = pytest.importorskip('torch').nn
  net = nn.Sequential()
  inputs = 1
  for i, outputs in enumerate(((4,), (8, 8))):
    stage = nn.Sequential()
    for j, channels in enumerate(outputs):
      layer = nn.Sequential()
      layer.add_module('conv', nn.Conv2d(inputs, channels, 3, padding=1))
      if norm:
        layer.add_module('norm', nn.BatchNorm2d(channels))
      stage.add_module(f'layer_{j}', layer)
      stage.add_module(f'relu_{j}', nn.ReLU())
      inputs = channels
    net.add_module(f'stage_{i}', stage)
    net.add_module(f'pool_{i}', nn.MaxPool2d(2))
  net.add_module('average', nn.AdaptiveAvgPool2d(7))
  net.add_module('flatten', nn.Flatten())
  for i, inputs in enumerate((392, 7)):
    net.add_module(f'dense_{i}', nn.Linear(inputs, 7))
    net.add_module(f'dense_relu_{i}', nn.ReLU())
  net.add_module('head', nn.Linear(7, 3))
  model = models.VGG(3, (1, 2), width=4, hidden=7, norm=norm)
  assert_parity(model, net, (2, 21, 36, 1), grid=(7, 7))


def test_densenet(assert_parity):
  torch = pytest.importorskip('torch')
  nn = torch.nn

  class Layer(nn.Module):
    def __init__(self, i):
      super().__init__()
      self.norm, self.squeeze = nn.BatchNorm2d(i), conv_norm(nn, i, 16, 1)
      self.grow = nn.Sequential()
      conv = nn.Conv2d(16, 4, 3, padding=1, bias=False)
      self.grow.add_module('conv', conv)

    def forward(self, x):
      y = self.squeeze(self.norm(x).relu())
      return torch.cat([x, self.grow(y.relu())], 1)

  net = nn.Sequential()
  net.add_module('stem', conv_norm(nn, 1, 8, 7, 2))
  net.add_module('stem_relu', nn.ReLU())
  net.add_module('stem_pool', nn.MaxPool2d(3, 2, 1))
  net.add_module('stage_0_layer_0', Layer(8))
  net.add_module('stage_0_layer_1', Layer(12))
  net.add_module('stage_0_norm', nn.BatchNorm2d(16))
  net.add_module('relu', nn.ReLU())
  transition = nn.Sequential()
  transition.add_module('conv', nn.Conv2d(16, 8, 1, bias=False))
  net.add_module('transition_0', transition)
  net.add_module('pool', nn.AvgPool2d(2))
  net.add_module('stage_1_layer_0', Layer(8))
  net.add_module('stage_1_norm', nn.BatchNorm2d(12))
  net.add_module('last', nn.ReLU())
  net.add_module('average', nn.AdaptiveAvgPool2d(1))
  net.add_module('flatten', nn.Flatten())
  net.add_module('head', nn.Linear(12, 3))
  model = models.DenseNet(3, (2, 1), growth=4, width=8)
  assert_parity(model, net, (2, 37, 45, 1))


@pytest.mark.parametrize('version', [2, 3])
def test_mobilenet(assert_parity, version):
  nn = pytest.importorskip('torch').nn
  eps = 1e-5 if version == 2 else 1e-3

  class Excite(nn.Module):
    def __init__(self, channels, squeezed):
      super().__init__()
      self.reduce = nn.Linear(channels, squeezed)
      self.expand = nn.Linear(squeezed, channels)

    def forward(self, x):
      s = self.expand(self.reduce(x.mean((2, 3))).relu())
      return x * nn.functional.hardsigmoid(s)[:, :, None, None]

  class Block(nn.Module):
    def __init__(self, i, e, o, k, s, squeezed, activation):
      super().__init__()
      if i != e:
        self.expand = conv_norm(nn, i, e, 1, eps=eps)
      self.depthwise = conv_norm(nn, e, e, k, s, e, eps=eps)
      if squeezed:
        self.squeeze_excite = Excite(e, squeezed)
      self.project = conv_norm(nn, e, o, 1, eps=eps)
      self.activation, self.added = activation, s == 1 and i == o

    def forward(self, x):
      y = x
      if hasattr(self, 'expand'):
        y = self.activation(self.expand(y))
      y = self.activation(self.depthwise(y))
      if hasattr(self, 'squeeze_excite'):
        y = self.squeeze_excite(y)
      y = self.project(y)
      return x + y if self.added else y

  if version == 2:
    act, stem = nn.ReLU6(), 32
    rows = ((32, 32, 8, 3, 1, 0), (8, 16, 16, 3, 2, 0), (16, 32, 16, 3, 1, 0))
    rows = [(*row, act) for row in rows]
    stages = ((1, 3, 1, 8, False, True, 1), (2, 3, 2, 16, False, True, 2))
    model = models.MobileNetV2(3, stages=stages, last=24)
  else:
    act, stem = nn.Hardswish(), 16
    rows = [(16, 16, 16, 3, 2, 8, nn.ReLU()), (16, 40, 16, 5, 1, 16, act)]
    stages = ((1, 3, 1, 16, True, False, 2), (1, 5, 2.5, 16, True, True, 1))
    model = models.MobileNetV3Small(3, stages=stages, hidden=8)
  last = 24 if version == 2 else 96
  net = nn.Sequential()
  net.add_module('stem', conv_norm(nn, 1, stem, 3, 2, eps=eps))
  net.add_module('stem_act', act)
  for i, row in enumerate(rows):
    net.add_module(f'block_{i}', Block(*row))
  net.add_module('last', conv_norm(nn, 16, last, 1, eps=eps))
  net.add_module('last_act', act)
  net.add_module('average', nn.AdaptiveAvgPool2d(1))
  net.add_module('flatten', nn.Flatten())
  if version == 3:
    net.add_module('dense', nn.Linear(96, 8))
    net.add_module('dense_act', nn.Hardswish())
  net.add_module('head', nn.Linear(last if version == 2 else 8, 3))
  assert_parity(model, net, (2, 21, 28, 1))


def test_inception(assert_parity):
  torch = pytest.importorskip('torch')
  nn, cat = torch.nn, lambda *x: torch.cat(x, 1)

  class Named(nn.Module):
    """Makes a layer when first called, by our name for it."""

    def layer(self, name, x, o, k, s=1, p=None):
      if name not in self._modules:
        layer = conv_norm(nn, x.shape[1], o // 16, k, s, p=p, eps=1e-3)
        self.add_module(name, layer.train(self.training))
      return self._modules[name](x).relu()

    def chain(self, branch, x, *layers):
      for j, layer in enumerate(layers):
        x = self.layer(f'branch_{branch}_layer_{j}', x, *layer)
      return x

    def split(self, name, x):
      row = self.layer(f'{name}_0', x, 384, (1, 3))
      return cat(row, self.layer(f'{name}_1', x, 384, (3, 1)))

  average = nn.AvgPool2d(3, 1, 1)
  pool = nn.MaxPool2d(3, 2)
  row, column = (1, 7), (7, 1)

  class A(Named):
    def __init__(self, pooled):
      super().__init__()
      self.pooled = pooled

    def forward(self, x):
      a, b = self.chain(0, x, (64, 1)), self.chain(1, x, (48, 1), (64, 5))
      c = self.chain(2, x, (64, 1), (96, 3), (96, 3))
      y = self.layer('branch_3_layer_1', average(x), self.pooled, 1)
      return cat(a, b, c, y)

  class B(Named):
    def forward(self, x):
      b = self.chain(1, x, (64, 1), (96, 3), (96, 3, 2, 0))
      return cat(self.chain(0, x, (384, 3, 2, 0)), b, pool(x))

  class C(Named):
    def __init__(self, n):
      super().__init__()
      self.n = n

    def forward(self, x):
      n = self.n
      b = self.chain(1, x, (n, 1), (n, row), (192, column))
      double = ((n, 1), (n, column), (n, row), (n, column), (192, row))
      c = self.chain(2, x, *double)
      y = self.layer('branch_3_layer_1', average(x), 192, 1)
      return cat(self.chain(0, x, (192, 1)), b, c, y)

  class D(Named):
    def forward(self, x):
      a = self.chain(0, x, (192, 1), (320, 3, 2, 0))
      layers = (192, 1), (192, row), (192, column), (192, 3, 2, 0)
      return cat(a, self.chain(1, x, *layers), pool(x))

  class E(Named):
    def forward(self, x):
      b = self.split('branch_1_layer_1', self.chain(1, x, (384, 1)))
      c = self.chain(2, x, (448, 1), (384, 3))
      c = self.split('branch_2_layer_2', c)
      y = self.layer('branch_3_layer_1', average(x), 192, 1)
      return cat(self.chain(0, x, (320, 1)), b, c, y)

  blocks = (A(32), A(64), A(64), B(), C(128), C(160), C(160), C(192), D())

  class Net(Named):
    def __init__(self):
      super().__init__()
      for i, block in enumerate((*blocks, E(), E())):
        self.add_module(f'block_{i}', block)
      self.head = nn.Linear(128, 3)

    def forward(self, x):
      x = self.layer('stem_0', x, 32, 3, 2, 0)
      x = self.layer('stem_1', x, 32, 3, 1, 0)
      x = pool(self.layer('stem_2', x, 64, 3))
      x = self.layer('stem_3', x, 80, 1)
      x = pool(self.layer('stem_4', x, 192, 3, 1, 0))
      for i in range(11):
        x = self._modules[f'block_{i}'](x)
      return self.head(x.mean((2, 3)))

  net = Net().eval()
  with torch.no_grad():
    net(torch.zeros(1, 1, 75, 75))
  assert_parity(
    models.InceptionV3(3, aux=False, width=1 / 16), net, (2, 75, 79, 1)
  )
