"""The networks of `parity.py` in torch: MONAI's, transformers', or assembled.

An assembled network is the paper's layers from torch.nn under our own names;
of another's, `renamed` tells what we call its modules.
"""

import functools
import itertools
import re
from collections import OrderedDict

import jax
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize


def as_flax(net, read, template):
  """What `read` gives of a network's tensors, in the tree `template`.

  `net.names` are patterns that turn its modules' names into ours, and
  `net.grid` the spatial size that it flattens, channels first, for 'dense_0';
  `net.adapt` changes {(collection, leaf, path): value} of another form.
  A bias that torch does not have is zero, and has to be before a norm.

  Raises:
    ValueError: if a tensor is missing, has no place or another shape.
  """
  flat = {}
  for name, module in net.named_modules():
    if not isinstance(getattr(module, 'weight', None), torch.Tensor):
      for key, tensor in module.named_parameters(name, recurse=False):
        path, _, leaf = _our_name(net, key).rpartition('.')
        flat['params', leaf, path] = read(tensor)
      continue
    name = _our_name(net, name)
    grid = net.grid if name == 'dense_0' else ()
    flat |= {(*k, name): v for k, v in _leaves(module, read, grid).items()}
  getattr(net, 'adapt', lambda flat: None)(flat)

  def put(path, like):
    collection, *names, leaf = (k.key for k in path)
    key = (collection, leaf, '.'.join(names))
    if leaf == 'bias' and key not in flat:
      return np.zeros(like.shape, like.dtype)
    value = flat.pop(key, None)
    # Where we have a dense layer torch may have a convolution of one voxel.
    long = lambda shape: [n for n in shape if n > 1]
    if value is None or long(value.shape) != long(like.shape):
      raise ValueError(f'{key}: {np.shape(value)}, ours is {like.shape}')
    return value.reshape(like.shape)

  tree = jax.tree_util.tree_map_with_path(put, template)
  if flat:
    raise ValueError(f'no place for {sorted(flat)}')
  return tree


def _our_name(net, name):
  for pattern, ours in getattr(net, 'names', ()):
    name = re.sub(pattern, ours, name)
  return name


def _leaves(module, read, grid):
  """{(collection, leaf): value} of a module."""
  weight = read(module.weight)
  if weight.ndim == 1:
    leaves = {('params', 'scale'): weight}
  elif isinstance(module, nn.modules.conv._ConvTransposeNd):
    leaves = {('params', 'kernel'): np.moveaxis(weight, (0, 1), (-2, -1))}
  else:
    if grid:
      weight = weight.reshape(len(weight), -1, *grid)
      weight = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    leaves = {('params', 'kernel'): np.moveaxis(weight, (0, 1), (-1, -2))}
  if getattr(module, 'bias', None) is not None:
    leaves['params', 'bias'] = read(module.bias)
  if getattr(module, 'running_mean', None) is not None:
    leaves['batch_stats', 'mean'] = read(module.running_mean)
    leaves['batch_stats', 'var'] = read(module.running_var)
  return leaves


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


def monai_unet():
  """MONAI's DynUNet of three stages in 3-D, with the biases of nnU-Net."""
  from monai.networks.nets import DynUNet

  net = DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2, 2], [4, 6, 8])
  for module in net.modules():
    if isinstance(module, nn.ConvTranspose3d):
      module.bias = nn.Parameter(torch.zeros(module.out_channels))
  return renamed(
    net,
    (r'input_block', 'encoder_0'),
    (r'downsamples.0', 'encoder_1'),
    (r'bottleneck', 'encoder_2'),
    (r'upsamples.0.transp_conv.conv', 'upsample_1'),
    (r'upsamples.1.transp_conv.conv', 'upsample_0'),
    (r'upsamples.0.conv_block', 'decoder_1'),
    (r'upsamples.1.conv_block', 'decoder_0'),
    (r'conv1.conv', 'conv_0'),
    (r'conv2.conv', 'conv_1'),
    (r'norm1', 'norm_0'),
    (r'norm2', 'norm_1'),
    (r'output_block.conv.conv', 'head'),
  )


def monai_segresnet():
  """MONAI's SegResNet of two stages in 3-D."""
  from monai.networks.nets import SegResNet

  return renamed(
    SegResNet(3, 8, 1, 3, blocks_down=(1, 2), blocks_up=(1,)),
    (r'convInit.conv', 'stem'),
    (r'down_layers.(\d).0.conv', r'stage_\1_down'),
    (r'down_layers.0.1', 'stage_0_block_0'),
    (r'down_layers.1.1', 'stage_1_block_0'),
    (r'down_layers.1.2', 'stage_1_block_1'),
    (r'up_samples.0.0.conv', 'decoder_0_up'),
    (r'up_layers.0.0', 'decoder_0_block_0'),
    (r'conv1.conv', 'conv_0'),
    (r'conv2.conv', 'conv_1'),
    (r'norm1', 'norm_0'),
    (r'norm2', 'norm_1'),
    (r'conv_final.0', 'norm'),
    (r'conv_final.2.conv', 'head'),
  )


def monai_vnet(rank=2, channels=2, width=2):
  """MONAI's V-Net, which has no argument for its channels."""
  from monai.networks.nets import vnet

  act, part = 'elu', functools.partial

  class Net(vnet.VNet):
    def __init__(self):
      super(vnet.VNet, self).__init__()
      down, up = part(vnet.DownTransition, rank), part(vnet.UpTransition, rank)
      w = [width * 2**i for i in range(5)]
      self.in_tr = vnet.InputTransition(rank, channels, w[0], act)
      self.down_tr32 = down(w[0], 1, act)
      self.down_tr64 = down(w[1], 2, act)
      self.down_tr128 = down(w[2], 3, act)
      self.down_tr256 = down(w[3], 2, act)
      self.up_tr256 = up(w[4], w[4], 2, act)
      self.up_tr128 = up(w[4], w[3], 2, act)
      self.up_tr64 = up(w[3], w[2], 1, act)
      self.up_tr32 = up(w[2], w[1], 1, act)
      self.out_tr = vnet.OutputTransition(rank, w[1], 3, act)

  level = lambda m: {'32': 0, '64': 1, '128': 2, '256': 3}[m[1]]
  return renamed(
    Net(),
    (r'in_tr.conv_block', 'stem'),
    (r'down_tr(\d+).down_conv', lambda m: f'down_{level(m) + 1}.conv'),
    (r'down_tr(\d+).bn1', lambda m: f'down_{level(m) + 1}.norm'),
    (r'down_tr(\d+).ops', lambda m: f'encoder_{level(m) + 1}'),
    (r'up_tr(\d+).up_conv', lambda m: f'up_{level(m)}'),
    (r'up_tr(\d+).bn1', lambda m: f'up_norm_{level(m)}'),
    (r'up_tr(\d+).ops', lambda m: f'decoder_{level(m)}'),
    (r'\.(\d)\.conv_block', r'.layer_\1'),
    (r'out_tr.conv_block', 'head.layer'),
    (r'out_tr.conv2', 'head.logits'),
    (r'adn.N', 'norm'),
  )


class UNet2015(nn.Module):
  """Valid convolutions; `margin` pixels are mirrored around the image."""

  def __init__(self, widths=(1, 4, 6, 8), classes=3, margin=0):
    super().__init__()
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
      stage = named(conv_0=nn.Conv2d(a, b, 3), conv_1=nn.Conv2d(b, b, 3))
      self.add_module(f'encoder_{i}', stage)
    for i, (a, b) in enumerate(itertools.pairwise(widths[1:])):
      self.add_module(f'upsample_{i}', nn.ConvTranspose2d(b, a, 2, 2))
      stage = named(conv_0=nn.Conv2d(2 * a, a, 3), conv_1=nn.Conv2d(a, a, 3))
      self.add_module(f'decoder_{i}', stage)
    self.head, self.depth = nn.Conv2d(widths[1], classes, 1), len(widths) - 1
    self.margin = margin

  def stage(self, name, x):
    stage = self._modules[name]
    return stage.conv_1(stage.conv_0(x).relu()).relu()

  def forward(self, x):
    x = nn.functional.pad(x, (self.margin,) * 4, 'reflect')
    skips = []
    for i in range(self.depth):
      x = nn.functional.max_pool2d(x, 2) if i else x
      x = self.stage(f'encoder_{i}', x)
      skips.append(x)
    for i in reversed(range(self.depth - 1)):
      x = self._modules[f'upsample_{i}'](x)
      cut = (skips[i].shape[-1] - x.shape[-1]) // 2
      skip = nn.functional.pad(skips[i], (-cut,) * 4)
      x = self.stage(f'decoder_{i}', torch.cat([skip, x], 1))
    return self.head(x)


class AttentionUNet(nn.Module):
  """Two convolutions per stage, and the gate of Oktay et al., equation 1."""

  def __init__(self):
    super().__init__()
    stage = self.make_stage
    self.encoder_0, self.encoder_1 = stage(1, 4, 1), stage(4, 6, 2)
    self.encoder_2 = stage(6, 8, 2)
    self.gate_1 = named(
      skip=nn.Conv2d(6, 6, 2, 2, bias=False),
      signal=nn.Conv2d(8, 6, 1),
      weight=nn.Conv2d(6, 1, 1),
    )
    self.upsample_1 = nn.ConvTranspose2d(8, 6, 2, 2)
    self.upsample_0 = nn.ConvTranspose2d(6, 4, 2, 2)
    self.decoder_1, self.decoder_0 = stage(12, 6, 1), stage(8, 4, 1)
    self.head = nn.Conv2d(4, 3, 1)

  def make_stage(self, i, o, stride):
    return named(
      conv_0=nn.Conv2d(i, o, 3, stride, 1),
      norm_0=nn.InstanceNorm2d(o, affine=True),
      act_0=nn.LeakyReLU(0.01),
      conv_1=nn.Conv2d(o, o, 3, 1, 1),
      norm_1=nn.InstanceNorm2d(o, affine=True),
      act_1=nn.LeakyReLU(0.01),
    )

  def forward(self, x):
    fine = self.encoder_0(x)
    skip = self.encoder_1(fine)
    x = self.encoder_2(skip)
    q = (self.gate_1.skip(skip) + self.gate_1.signal(x)).relu()
    weight = self.gate_1.weight(q).sigmoid()
    weight = nn.functional.interpolate(weight, scale_factor=2, mode='bilinear')
    x = _cat(self.upsample_1(x), weight * skip)
    x = _cat(self.upsample_0(self.decoder_1(x)), fine)
    return self.head(self.decoder_0(x))


class EncoderDecoder(nn.Module):
  """Over a ResNet of one block: maps of strides 2 and 4."""

  def __init__(self):
    super().__init__()
    block = named(layer_0=conv_norm(4, 4, 3), layer_1=conv_norm(4, 4, 3))
    self.backbone = named(stem=conv_norm(1, 4, 7, 2), stage_0_block_0=block)
    self.decoder_1, self.decoder_0 = (
      self.make_stage(8, 6),
      self.make_stage(6, 4),
    )
    self.head = nn.Conv2d(4, 3, 1)

  def make_stage(self, i, o):
    return named(
      layer_0=conv_norm(i, o, 3),
      act_0=nn.ReLU(),
      layer_1=conv_norm(o, o, 3),
      act_1=nn.ReLU(),
    )

  def up(self, x, like):
    x = nn.functional.interpolate(x, scale_factor=2, mode='bilinear')
    return x[..., : like.shape[2], : like.shape[3]]

  def forward(self, x):
    fine = self.backbone.stem(x).relu()
    y = nn.functional.max_pool2d(fine, 3, 2, 1)
    block = self.backbone.stage_0_block_0
    y = (y + block.layer_1(block.layer_0(y).relu())).relu()
    y = self.decoder_1(_cat(self.up(y, fine), fine))
    return self.head(self.decoder_0(self.up(y, x)))


def monai_efficientnet(width, depth, stages, shape):
  """MONAI's EfficientNet, for one size of images.

  It pads as TensorFlow does, which is centred where all sizes are odd.
  """
  from monai.networks.nets import EfficientNet

  channels = (32, *(stage[3] for stage in stages))
  blocks = [
    f'r{blocks}_k{kernel}_s{stride}{stride}_e{expansion}_i{i}_o{o}_se0.25'
    for (blocks, kernel, expansion, o, stride), i in zip(
      stages, channels, strict=False
    )
  ]
  net = EfficientNet(
    blocks, len(shape) - 2, 1, 3, width, depth, 0.0, shape[1],
    ('batch', {'eps': 1e-5}), 0.0,
  )  # fmt: skip
  return renamed(
    net,
    (r'^_conv_(stem)', r'\1.conv'),
    (r'^_bn0', 'stem.norm'),
    (r'^_conv_head', 'last.conv'),
    (r'^_bn1', 'last.norm'),
    (r'^_fc', 'head'),
    (r'^_blocks\.\d+\.', 'block_'),
    (r'_(expand|depthwise|project)_conv', r'\1.conv'),
    (r'_bn0', 'expand.norm'),
    (r'_bn1', 'depthwise.norm'),
    (r'_bn2', 'project.norm'),
    (r'_se_', 'squeeze_excite.'),
  )


def transformers_convnext(stage_sizes, width):
  """ConvNeXt of transformers, the layer scale not next to nothing."""
  from transformers import ConvNextConfig, ConvNextForImageClassification

  widths = [width * 2**i for i in range(len(stage_sizes))]
  net = ConvNextForImageClassification(
    ConvNextConfig(
      num_channels=1, num_labels=3, hidden_sizes=widths,
      num_stages=len(widths), depths=list(stage_sizes), layer_norm_eps=1e-6,
      layer_scale_init_value=0.5,
    )
  )  # fmt: skip
  return renamed(
    net,
    (r'^convnext\.(embeddings|encoder\.stages)\.', ''),
    (r'^patch_embeddings', 'stem_conv'),
    (r'^layernorm', 'stem_norm'),
    (r'^(\d+)\.layers\.', r'stage_\1_block_'),
    (r'^(\d+)\.downsampling_layer\.0', r'downsample_\1_norm'),
    (r'^(\d+)\.downsampling_layer\.1', r'downsample_\1_conv'),
    (r'^convnext\.layernorm|layernorm', 'norm'),
    (r'dwconv', 'depthwise'),
    (r'pwconv1', 'expand'),
    (r'pwconv2', 'project'),
    (r'layer_scale_parameter', 'scale'),
    (r'^classifier', 'head'),
  )


def _join_positions(flat):
  """Ours have no batch axis, and those of all tokens are one array."""
  token, position, positions = (
    ('params', leaf, '') for leaf in ('class_token', 'position', 'positions')
  )
  flat[token] = flat[token][0]
  flat[positions] = np.concatenate([flat.pop(position)[0], flat[positions][0]])


class Position(nn.Module):
  """Adds a learned position to a token."""

  def __init__(self, width):
    super().__init__()
    self.position = nn.Parameter(torch.zeros(1, 1, width))

  def forward(self, token):
    return token + self.position


def monai_vit(width, depth, heads, hidden, patch_size, image_size):
  """MONAI's ViT, its class token with a position, which it has not there."""
  from monai.networks.nets import ViT

  net = ViT(
    1, image_size, patch_size, width, hidden, depth, heads,
    classification=True, num_classes=3, spatial_dims=len(image_size),
    post_activation='', qkv_bias=True,
  )  # fmt: skip
  parametrize.register_parametrization(net, 'cls_token', Position(width))
  for block in net.blocks:
    del block.norm_cross_attn  # not used
  for module in net.modules():
    if isinstance(module, nn.LayerNorm):
      module.eps = 1e-6  # torchvision's and timm's
  net.register_forward_hook(lambda module, x, y: y[0])
  net.adapt = _join_positions
  return renamed(
    net,
    (r'^patch_embedding\.patch_embeddings', 'patches'),
    (r'^patch_embedding\.position_embeddings', 'positions'),
    (r'^parametrizations\.cls_token\.original', 'class_token'),
    (r'^parametrizations\.cls_token\.0\.', ''),
    (r'^classification_head', 'head'),
    (r'^blocks\.', 'block_'),
    (r'norm2', 'norm_1'),
    (r'norm1', 'norm_0'),
    (r'attn\.qkv', 'attention.qkv'),
    (r'attn\.out_proj', 'attention.out'),
    (r'mlp\.linear1', 'dense_0'),
    (r'mlp\.linear2', 'dense_1'),
  )
