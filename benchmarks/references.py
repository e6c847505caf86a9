"""The networks of `parity.py` in torch: MONAI's, transformers', or assembled.

An assembled network is the paper's layers from torch.nn under our own names;
of another's, `renamed` tells what we call its modules.
"""

import re
from collections import OrderedDict

import numpy as np
import torch
from torch import nn


def as_flax(net, read):
  """What `read` gives of a network's tensors, as variables of ours.

  `net.names` are patterns that turn its modules' names into ours, and
  `net.grid` the spatial size that it flattens, channels first, for 'dense_0'.
  """
  variables = {}

  def put(collection, path, **leaves):
    tree = variables.setdefault(collection, {})
    for key in path:
      tree = tree.setdefault(key, {})
    tree.update({k: read(v) for k, v in leaves.items() if v is not None})

  for name, module in net.named_modules():
    if getattr(module, 'weight', None) is None:
      continue
    for pattern, ours in getattr(net, 'names', ()):
      name = re.sub(pattern, ours, name)
    path = name.split('.')
    if hasattr(module, 'running_var'):
      put('params', path, scale=module.weight, bias=module.bias)
      mean, var = module.running_mean, module.running_var
      put('batch_stats', path, mean=mean, var=var)
    else:
      put('params', path, kernel=module.weight, bias=module.bias)
      leaves = _leaves(variables['params'], path)
      grid = net.grid if path == ['dense_0'] else ()
      leaves['kernel'] = _kernel(leaves['kernel'], grid)
  return variables


def _leaves(tree, path):
  for key in path:
    tree = tree[key]
  return tree


def _kernel(weight, grid):
  """A weight (o, i, *window) as a kernel (*window, i, o)."""
  if grid:
    weight = weight.reshape(len(weight), -1, *grid)
    weight = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
  return weight.transpose(*range(2, weight.ndim), 1, 0)


def renamed(net, *names):
  """The network, with patterns that turn its modules' names into ours."""
  net.names = names
  return net


def stage(first):
  """A replacement 'stage_i' for a group that counts from `first`."""
  return lambda match: f'stage_{int(match[1]) - first}'


def named(**modules):
  """A sequence of named modules."""
  return nn.Sequential(OrderedDict(modules))


def conv_norm(i, o, k, s=1, g=1, p=None, eps=1e-5):
  """Our ConvNorm."""
  pairs = (k, k) if isinstance(k, int) else k
  padding = tuple(n // 2 for n in pairs) if p is None else p
  return named(
    conv=nn.Conv2d(i, o, k, s, padding, groups=g, bias=False),
    norm=nn.BatchNorm2d(o, eps),
  )


def lenet():
  """LeNet-5 for 32 pixels a side and one channel."""
  net = named(
    conv_0=nn.Conv2d(1, 6, 5),
    relu_0=nn.ReLU(),
    pool_0=nn.MaxPool2d(2),
    conv_1=nn.Conv2d(6, 16, 5),
    relu_1=nn.ReLU(),
    pool_1=nn.MaxPool2d(2),
    flatten=nn.Flatten(),
    dense_0=nn.Linear(400, 120),
    relu_2=nn.ReLU(),
    dense_1=nn.Linear(120, 84),
    relu_3=nn.ReLU(),
    head=nn.Linear(84, 3),
  )
  net.grid = (5, 5)
  return net


def _dense_layers(channels, grid, hidden):
  """What AlexNet and VGG end with, without dropout."""
  return named(
    average=nn.AdaptiveAvgPool2d(grid),
    flatten=nn.Flatten(),
    dense_0=nn.Linear(channels * grid**2, hidden),
    relu_0=nn.ReLU(),
    dense_1=nn.Linear(hidden, hidden),
    relu_1=nn.ReLU(),
    head=nn.Linear(hidden, 3),
  )


def alexnet():
  """AlexNet with features (4, 6, 8, 6, 5) and 7 hidden units."""
  net = nn.Sequential()
  layers = ((1, 4, 11, 4, 2), (4, 6, 5, 1, 2), (6, 8, 3, 1, 1))
  layers += ((8, 6, 3, 1, 1), (6, 5, 3, 1, 1))
  for i, layer in enumerate(layers):
    net.add_module(f'conv_{i}', nn.Conv2d(*layer))
    net.add_module(f'act_{i}', nn.ReLU())
    if i in (0, 1, 4):
      net.add_module(f'pool_{i}', nn.MaxPool2d(3, 2))
  for name, module in _dense_layers(5, 6, 7).named_children():
    net.add_module(name, module)
  net.grid = (6, 6)
  return net


def vgg(norm):
  """VGG with stages of 4 and of 8, 8 channels and 7 hidden units."""
  net, inputs = nn.Sequential(), 1
  for i, widths in enumerate(((4,), (8, 8))):
    layers = nn.Sequential()
    for j, width in enumerate(widths):
      layer = named(conv=nn.Conv2d(inputs, width, 3, padding=1))
      if norm:
        layer.add_module('norm', nn.BatchNorm2d(width))
      layers.add_module(f'layer_{j}', layer)
      layers.add_module(f'act_{j}', nn.ReLU())
      inputs = width
    net.add_module(f'stage_{i}', layers)
    net.add_module(f'pool_{i}', nn.MaxPool2d(2))
  for name, module in _dense_layers(8, 7, 7).named_children():
    net.add_module(name, module)
  net.grid = (7, 7)
  return net


def monai_resnet(block, stage_sizes, width, rank, stem):
  """MONAI's ResNet, of four stages; without its bias before a norm."""
  from monai.networks.nets import ResNet

  widths = [width * 2**i for i in range(4)]
  kernel, stride = (3, 1) if stem == 'small' else (7, 2)
  net = ResNet(
    block, list(stage_sizes), widths, spatial_dims=rank, n_input_channels=1,
    num_classes=3, conv1_t_size=kernel, conv1_t_stride=stride,
    no_max_pool=stem == 'small', bias_downsample=False,
  )  # fmt: skip
  before = lambda match: f'layer_{int(match[1]) - 1}.'
  return renamed(
    net,
    (r'^layer(\d)\.', lambda m: stage(1)(m) + '_block_'),
    (r'(?<=block_\d\.)conv(\d)', lambda m: before(m) + 'conv'),
    (r'(?<=block_\d\.)bn(\d)', lambda m: before(m) + 'norm'),
    (r'downsample\.0', 'shortcut.conv'),
    (r'downsample\.1', 'shortcut.norm'),
    (r'^conv1', 'stem.conv'),
    (r'^bn1', 'stem.norm'),
    (r'^fc', 'head'),
  )


def monai_densenet(stage_sizes, growth, width, rank):
  """MONAI's DenseNet."""
  from monai.networks.nets import DenseNet

  net = DenseNet(
    rank, 1, 3, init_features=width, growth_rate=growth,
    block_config=stage_sizes,
  )  # fmt: skip
  last = len(stage_sizes) - 1
  below = lambda suffix: lambda m: f'{int(m[1]) - 1}{suffix}'
  return renamed(
    net,
    (r'^features\.', ''),
    (r'denseblock(\d)\.denselayer', lambda m: stage(1)(m) + '_layer_'),
    (r'(?<=layer_)(\d+)\.layers', below('')),
    (r'norm1', 'norm'),
    (r'conv1', 'squeeze.conv'),
    (r'norm2', 'squeeze.norm'),
    (r'conv2', 'grow.conv'),
    (r'transition(\d)\.norm', lambda m: stage(1)(m) + '_norm'),
    (r'(?<=transition)(\d)', lambda m: '_' + below('')(m)),
    (r'conv0', 'stem.conv'),
    (r'norm0', 'stem.norm'),
    (r'norm5', f'stage_{last}_norm'),
    (r'class_layers.out', 'head'),
  )


def transformers_mobilenet_v2(width):
  """MobileNetV2 of transformers, with the paper's padding."""
  from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

  config = MobileNetV2Config(
    num_channels=1, num_labels=3, depth_multiplier=width, tf_padding=False
  )
  net = MobileNetV2ForImageClassification(config)
  for module in net.modules():
    if hasattr(module, 'running_var'):
      module.momentum = 0.1  # 0.997 is TensorFlow's way of counting
  return renamed(
    net,
    (r'^mobilenet_v2\.', ''),
    (r'conv_stem\.first_conv', 'stem'),
    (r'conv_stem\.conv_3x3', 'block_0.depthwise'),
    (r'conv_stem\.reduce_1x1', 'block_0.project'),
    (r'layer\.(\d+)', lambda m: f'block_{int(m[1]) + 1}'),
    (r'expand_1x1', 'expand'),
    (r'conv_3x3', 'depthwise'),
    (r'reduce_1x1', 'project'),
    (r'conv_1x1', 'last'),
    (r'convolution', 'conv'),
    (r'normalization', 'norm'),
    (r'^classifier', 'head'),
  )


class Excite(nn.Module):
  def __init__(self, channels, squeezed):
    super().__init__()
    self.reduce = nn.Linear(channels, squeezed)
    self.expand = nn.Linear(squeezed, channels)

  def forward(self, x):
    s = self.expand(self.reduce(x.mean((2, 3))).relu())
    return x * nn.functional.hardsigmoid(s)[:, :, None, None]


class Bottleneck(nn.Module):
  """MobileNetV3's."""

  def __init__(self, i, e, o, k, s, squeezed, activation):
    super().__init__()
    if i != e:
      self.expand = conv_norm(i, e, 1, eps=1e-3)
    self.depthwise = conv_norm(e, e, k, s, e, eps=1e-3)
    if squeezed:
      self.squeeze_excite = Excite(e, squeezed)
    self.project = conv_norm(e, o, 1, eps=1e-3)
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


def mobilenet_v3():
  """MobileNetV3 of two blocks, the second one residual, and 8 hidden units."""
  net = named(
    stem=conv_norm(1, 16, 3, 2, eps=1e-3),
    act_0=nn.Hardswish(),
    block_0=Bottleneck(16, 16, 16, 3, 2, 8, nn.ReLU()),
    block_1=Bottleneck(16, 40, 16, 5, 1, 16, nn.Hardswish()),
    last=conv_norm(16, 96, 1, eps=1e-3),
    act_1=nn.Hardswish(),
    average=nn.AdaptiveAvgPool2d(1),
    flatten=nn.Flatten(),
    dense=nn.Linear(96, 8),
    act_2=nn.Hardswish(),
    head=nn.Linear(8, 3),
  )
  for module in net.modules():
    if hasattr(module, 'running_var'):
      module.momentum = 0.01
  return net


_average = nn.AvgPool2d(3, 1, 1)
_maximum = nn.MaxPool2d(3, 2)
_ROW, _COLUMN = (1, 7), (7, 1)


def _cat(*x):
  return torch.cat(x, 1)


class Named(nn.Module):
  """Makes a layer, a 16th as wide, when first called, by our name for it."""

  def layer(self, name, x, o, k, s=1, p=None):
    if name not in self._modules:
      layer = conv_norm(x.shape[1], o // 16, k, s, p=p, eps=1e-3)
      self.add_module(name, layer.train(self.training))
    return self._modules[name](x).relu()

  def chain(self, branch, x, *layers):
    for j, layer in enumerate(layers):
      x = self.layer(f'branch_{branch}_layer_{j}', x, *layer)
    return x

  def split(self, name, x):
    row = self.layer(f'{name}_0', x, 384, (1, 3))
    return _cat(row, self.layer(f'{name}_1', x, 384, (3, 1)))

  def pooled(self, x, o):
    return self.layer('branch_3_layer_1', _average(x), o, 1)


class A(Named):
  def __init__(self, o):
    super().__init__()
    self.o = o

  def forward(self, x):
    a, b = self.chain(0, x, (64, 1)), self.chain(1, x, (48, 1), (64, 5))
    c = self.chain(2, x, (64, 1), (96, 3), (96, 3))
    return _cat(a, b, c, self.pooled(x, self.o))


class B(Named):
  def forward(self, x):
    b = self.chain(1, x, (64, 1), (96, 3), (96, 3, 2, 0))
    return _cat(self.chain(0, x, (384, 3, 2, 0)), b, _maximum(x))


class C(Named):
  def __init__(self, o):
    super().__init__()
    self.o = o

  def forward(self, x):
    o = self.o
    b = self.chain(1, x, (o, 1), (o, _ROW), (192, _COLUMN))
    double = ((o, 1), (o, _COLUMN), (o, _ROW), (o, _COLUMN), (192, _ROW))
    c = self.chain(2, x, *double)
    return _cat(self.chain(0, x, (192, 1)), b, c, self.pooled(x, 192))


class D(Named):
  def forward(self, x):
    a = self.chain(0, x, (192, 1), (320, 3, 2, 0))
    layers = (192, 1), (192, _ROW), (192, _COLUMN), (192, 3, 2, 0)
    return _cat(a, self.chain(1, x, *layers), _maximum(x))


class E(Named):
  def forward(self, x):
    b = self.split('branch_1_layer_1', self.chain(1, x, (384, 1)))
    c = self.chain(2, x, (448, 1), (384, 3))
    c = self.split('branch_2_layer_2', c)
    return _cat(self.chain(0, x, (320, 1)), b, c, self.pooled(x, 192))


class Auxiliary(Named):
  def __init__(self):
    super().__init__()
    self.head = nn.Linear(48, 3)

  def forward(self, x):
    x = self.layer('reduce', nn.functional.avg_pool2d(x, 5, 3), 128, 1)
    return self.head(self.layer('conv', x, 768, 5, 1, 0).mean((2, 3)))


class Inception(Named):
  """Gives the auxiliary logits too when it is trained."""

  def __init__(self):
    super().__init__()
    blocks = A(32), A(64), A(64), B(), C(128), C(160), C(160), C(192), D()
    for i, block in enumerate((*blocks, E(), E())):
      self.add_module(f'block_{i}', block)
    self.aux = Auxiliary()
    self.head = nn.Linear(128, 3)

  def forward(self, x):
    x = self.layer('stem_0', x, 32, 3, 2, 0)
    x = self.layer('stem_1', x, 32, 3, 1, 0)
    x = _maximum(self.layer('stem_2', x, 64, 3))
    x = self.layer('stem_3', x, 80, 1)
    x = _maximum(self.layer('stem_4', x, 192, 3, 1, 0))
    for i in range(11):
      x = self._modules[f'block_{i}'](x)
      auxiliary = self.aux(x) if i == 7 else auxiliary if i > 7 else None
    y = self.head(x.mean((2, 3)))
    return (y, auxiliary) if self.training else y


def inception():
  """Inception v3, a 16th as wide."""
  net = Inception().eval()
  with torch.no_grad():
    net(torch.zeros(1, 1, 299, 299))  # makes the layers
  return net
