import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from medjax import models
from medjax.finetune import adapted, files, fitting, loading

# State dicts as torchvision and timm write them: names and shapes.


def conv(name, o, i, *window, bias=False):
  return {f'{name}.weight': (o, i, *window)} | (
    {f'{name}.bias': (o,)} if bias else {}
  )


def norm(name, n):
  parts = ('weight', 'bias', 'running_mean', 'running_var')
  counter = {f'{name}.num_batches_tracked': np.array(1)}
  return {f'{name}.{part}': (n,) for part in parts} | counter


def linear(name, o, i):
  return {f'{name}.weight': (o, i), f'{name}.bias': (o,)}


def resnet(sizes, width, classes, *, channels=3, bottleneck=False, stem=7):
  state = conv('conv1', width, channels, stem, stem) | norm('bn1', width)
  n = width
  for i, blocks in enumerate(sizes):
    w = width * 2**i
    for j in range(blocks):
      name = f'layer{i + 1}.{j}'
      layers = [(w, n, 1), (w, w, 3), (4 * w, w, 1)] if bottleneck else [
        (w, n, 3), (w, w, 3)]  # fmt: skip
      for k, (o, m, size) in enumerate(layers, start=1):
        state |= conv(f'{name}.conv{k}', o, m, size, size)
        state |= norm(f'{name}.bn{k}', o)
      if j == 0 and (n != o or i):
        state |= conv(f'{name}.downsample.0', o, n, 1, 1)
        state |= norm(f'{name}.downsample.1', o)
      n = o
  return state | linear('fc', classes, n)


def densenet(sizes, width, growth, *, dot=''):
  state = conv('features.conv0', width, 3, 7, 7) | norm('features.norm0', width)
  n = width
  for i, layers in enumerate(sizes, start=1):
    for j in range(1, layers + 1):
      name = f'features.denseblock{i}.denselayer{j}.'
      state |= norm(f'{name}norm{dot}1', n)
      state |= conv(f'{name}conv{dot}1', 4 * growth, n, 1, 1)
      state |= norm(f'{name}norm{dot}2', 4 * growth)
      state |= conv(f'{name}conv{dot}2', growth, 4 * growth, 3, 3)
      n += growth
    if i < len(sizes):
      state |= norm(f'features.transition{i}.norm', n)
      state |= conv(f'features.transition{i}.conv', n // 2, n, 1, 1)
      n //= 2
  return state | norm('features.norm5', n) | linear('classifier', 5, n)


def vgg(*, batch_norm):
  state, index, n = {}, 0, 3
  for widths in ((4,), (8, 8)):
    for w in widths:
      state |= conv(f'features.{index}', w, n, 3, 3, bias=True)
      if batch_norm:
        state |= norm(f'features.{index + 1}', w)
      index, n = index + 2 + batch_norm, w
    index += 1
  state |= linear('classifier.0', 6, 49 * 8) | linear('classifier.3', 6, 6)
  return state | linear('classifier.6', 5, 6)


def alexnet():
  rows = (
    (0, 4, 3, 11),
    (3, 5, 4, 5),
    (6, 6, 5, 3),
    (8, 5, 6, 3),
    (10, 4, 5, 3),
  )
  state = {}
  for index, o, i, k in rows:
    state |= conv(f'features.{index}', o, i, k, k, bias=True)
  state |= linear('classifier.1', 6, 36 * 4) | linear('classifier.4', 6, 6)
  return state | linear('classifier.6', 5, 6)


def conv_norm(name, o, i, k=1, group=1):
  return conv(f'{name}.0', o, i // group, k, k) | norm(f'{name}.1', o)


def mobilenet_v2():
  state = conv_norm('features.0', 32, 3, 3)
  state |= conv_norm('features.1.conv.0', 32, 32, 3, 32)
  state |= conv('features.1.conv.1', 8, 32, 1, 1)
  state |= norm('features.1.conv.2', 8)
  state |= conv_norm('features.2.conv.0', 16, 8)
  state |= conv_norm('features.2.conv.1', 16, 16, 3, 16)
  state |= conv('features.2.conv.2', 16, 16, 1, 1)
  state |= norm('features.2.conv.3', 16)
  return state | conv_norm('features.3', 24, 16) | linear('classifier.1', 5, 24)


def mobilenet_v3():
  state = conv_norm('features.0', 16, 3, 3)
  state |= conv_norm('features.1.block.0', 16, 16, 3, 16)
  state |= conv('features.1.block.1.fc1', 8, 16, 1, 1, bias=True)
  state |= conv('features.1.block.1.fc2', 16, 8, 1, 1, bias=True)
  state |= conv_norm('features.1.block.2', 16, 16)
  state |= conv_norm('features.2.block.0', 40, 16)
  state |= conv_norm('features.2.block.1', 40, 40, 5, 40)
  state |= conv_norm('features.2.block.2', 24, 40)
  state |= conv_norm('features.3', 144, 24)
  return state | linear('classifier.0', 8, 144) | linear('classifier.3', 5, 8)


def inception():
  """Inception v3 with a sixteenth of the channels; 6 are 96 / 16."""
  state, basic = (
    {},
    lambda name, o, i, *k: (
      conv(f'{name}.conv', o, i, *k) | norm(f'{name}.bn', o)
    ),
  )
  add = lambda name, o, i, *k: state.update(basic(name, o, i, *k))
  for name, o, i, k in (('1a_3x3', 2, 3, 3), ('2a_3x3', 2, 2, 3),
                        ('2b_3x3', 4, 2, 3), ('3b_1x1', 5, 4, 1),
                        ('4a_3x3', 12, 5, 3)):  # fmt: skip
    add(f'Conv2d_{name}', o, i, k, k)
  n = 12
  for block, pooled in (('5b', 2), ('5c', 4), ('5d', 4)):
    name = f'Mixed_{block}.branch'
    add(f'{name}1x1', 4, n, 1, 1)
    add(f'{name}5x5_1', 3, n, 1, 1)
    add(f'{name}5x5_2', 4, 3, 5, 5)
    add(f'{name}3x3dbl_1', 4, n, 1, 1)
    add(f'{name}3x3dbl_2', 6, 4, 3, 3)
    add(f'{name}3x3dbl_3', 6, 6, 3, 3)
    add(f'{name}_pool', pooled, n, 1, 1)
    n = 14 + pooled
  add('Mixed_6a.branch3x3', 24, n, 3, 3)
  add('Mixed_6a.branch3x3dbl_1', 4, n, 1, 1)
  add('Mixed_6a.branch3x3dbl_2', 6, 4, 3, 3)
  add('Mixed_6a.branch3x3dbl_3', 6, 6, 3, 3)
  n = 48
  for block, c in (('6b', 8), ('6c', 10), ('6d', 10), ('6e', 12)):
    name = f'Mixed_{block}.branch'
    add(f'{name}1x1', 12, n, 1, 1)
    add(f'{name}7x7_1', c, n, 1, 1)
    add(f'{name}7x7_2', c, c, 1, 7)
    add(f'{name}7x7_3', 12, c, 7, 1)
    add(f'{name}7x7dbl_1', c, n, 1, 1)
    add(f'{name}7x7dbl_2', c, c, 7, 1)
    add(f'{name}7x7dbl_3', c, c, 1, 7)
    add(f'{name}7x7dbl_4', c, c, 7, 1)
    add(f'{name}7x7dbl_5', 12, c, 1, 7)
    add(f'{name}_pool', 12, n, 1, 1)
  add('AuxLogits.conv0', 8, n, 1, 1)
  add('AuxLogits.conv1', 48, 8, 5, 5)
  state |= linear('AuxLogits.fc', 5, 48)
  add('Mixed_7a.branch3x3_1', 12, n, 1, 1)
  add('Mixed_7a.branch3x3_2', 20, 12, 3, 3)
  add('Mixed_7a.branch7x7x3_1', 12, n, 1, 1)
  add('Mixed_7a.branch7x7x3_2', 12, 12, 1, 7)
  add('Mixed_7a.branch7x7x3_3', 12, 12, 7, 1)
  add('Mixed_7a.branch7x7x3_4', 12, 12, 3, 3)
  n = 80
  for block in ('7b', '7c'):
    name = f'Mixed_{block}.branch'
    add(f'{name}1x1', 20, n, 1, 1)
    add(f'{name}3x3_1', 24, n, 1, 1)
    add(f'{name}3x3_2a', 24, 24, 1, 3)
    add(f'{name}3x3_2b', 24, 24, 3, 1)
    add(f'{name}3x3dbl_1', 28, n, 1, 1)
    add(f'{name}3x3dbl_2', 24, 28, 3, 3)
    add(f'{name}3x3dbl_3a', 24, 24, 1, 3)
    add(f'{name}3x3dbl_3b', 24, 24, 3, 1)
    add(f'{name}_pool', 12, n, 1, 1)
    n = 128
  return state | linear('fc', 5, n)


def efficientnet():
  state = conv_norm('features.0', 8, 3, 3)
  n = 8
  for stage, (blocks, k, e, o) in enumerate(((1, 3, 1, 8), (2, 5, 6, 16)), 1):
    for j in range(blocks):
      name, wide, index = f'features.{stage}.{j}.block', e * n, 0
      if e > 1:
        state |= conv_norm(f'{name}.0', wide, n)
        index = 1
      state |= conv_norm(f'{name}.{index}', wide, wide, k, wide)
      squeeze = f'{name}.{index + 1}'
      state |= conv(f'{squeeze}.fc1', n // 4, wide, 1, 1, bias=True)
      state |= conv(f'{squeeze}.fc2', wide, n // 4, 1, 1, bias=True)
      state |= conv_norm(f'{name}.{index + 2}', o, wide)
      n = o
  return state | conv_norm('features.3', 24, n) | linear('classifier.1', 5, 24)


def timm_inverted(rows, stem, *, hidden=0, last=24):
  """timm's efficientnet.py: of each block stage, name, channels, …"""
  state = conv('conv_stem', stem, 3, 3, 3) | norm('bn1', stem)
  for name, i, wide, o, k, squeezed in rows:
    name, depthwise_first, n = f'blocks.{name}', wide == i, 1
    if not depthwise_first:
      state |= conv(f'{name}.conv_pw', wide, i, 1, 1) | norm(
        f'{name}.bn1', wide
      )
      n = 2
    state |= conv(f'{name}.conv_dw', wide, 1, k, k) | norm(
      f'{name}.bn{n}', wide
    )
    if squeezed:
      reduce = f'{name}.se.conv_reduce'
      state |= conv(reduce, squeezed, wide, 1, 1, bias=True)
      state |= conv(f'{name}.se.conv_expand', wide, squeezed, 1, 1, bias=True)
    project = 'conv_pw' if depthwise_first else 'conv_pwl'
    state |= conv(f'{name}.{project}', o, wide, 1, 1)
    state |= norm(f'{name}.bn{n + 1}', o)
  if hidden:
    state |= conv('blocks.2.0.conv', last, o, 1, 1) | norm(
      'blocks.2.0.bn1', last
    )
    state |= conv('conv_head', hidden, last, 1, 1, bias=True)
    return state | linear('classifier', 5, hidden)
  state |= conv('conv_head', last, o, 1, 1) | norm('bn2', last)
  return state | linear('classifier', 5, last)


def layer_norm(name, n):
  return {f'{name}.weight': (n,), f'{name}.bias': (n,)}


def convnext(*, timm):
  state = {}
  for i, w in enumerate((8, 16)):
    down = (f'stages.{i}.downsample', 'stem') if timm else (
      f'features.{2 * i}', 'features.0')  # fmt: skip
    if i:
      state |= layer_norm(f'{down[0]}.0', 8)
      state |= conv(f'{down[0]}.1', 16, 8, 2, 2, bias=True)
    else:
      state |= conv(f'{down[1]}.0', 8, 3, 4, 4, bias=True)
      state |= layer_norm(f'{down[1]}.1', 8)
    for j in range(i + 1):
      name = f'stages.{i}.blocks.{j}' if timm else f'features.{2 * i + 1}.{j}'
      names = ('conv_dw', 'norm', 'mlp.fc1', 'mlp.fc2') if timm else (
        'block.0', 'block.2', 'block.3', 'block.5')  # fmt: skip
      depthwise, middle, expand, project = (f'{name}.{n}' for n in names)
      state |= conv(depthwise, w, 1, 7, 7, bias=True) | layer_norm(middle, w)
      state |= linear(expand, 4 * w, w) | linear(project, w, 4 * w)
      scale = {f'{name}.gamma': (w,)} if timm else {
        f'{name}.layer_scale': (w, 1, 1)}  # fmt: skip
      state |= scale
  if timm:
    return state | layer_norm('head.norm', 16) | linear('head.fc', 5, 16)
  return state | layer_norm('classifier.0', 16) | linear('classifier.2', 5, 16)


def vit(kind, tokens=17):
  if kind == 'timm':
    state = {'cls_token': (1, 1, 8), 'pos_embed': (1, tokens, 8)}
    state |= conv('patch_embed.proj', 8, 3, 4, 4, bias=True)
    for i in range(2):
      name = f'blocks.{i}'
      state |= layer_norm(f'{name}.norm1', 8) | layer_norm(f'{name}.norm2', 8)
      state |= linear(f'{name}.attn.qkv', 24, 8)
      state |= linear(f'{name}.attn.proj', 8, 8)
      state |= linear(f'{name}.mlp.fc1', 12, 8)
      state |= linear(f'{name}.mlp.fc2', 8, 12)
    return state | layer_norm('norm', 8) | linear('head', 5, 8)
  dense = ('mlp.linear_1', 'mlp.linear_2') if kind == 'old' else (
    'mlp.0', 'mlp.3')  # fmt: skip
  state = {'class_token': (1, 1, 8), 'encoder.pos_embedding': (1, tokens, 8)}
  state |= conv('conv_proj', 8, 3, 4, 4, bias=True)
  for i in range(2):
    name = f'encoder.layers.encoder_layer_{i}'
    state |= layer_norm(f'{name}.ln_1', 8) | layer_norm(f'{name}.ln_2', 8)
    state[f'{name}.self_attention.in_proj_weight'] = (24, 8)
    state[f'{name}.self_attention.in_proj_bias'] = (24,)
    state |= linear(f'{name}.self_attention.out_proj', 8, 8)
    state |= linear(f'{name}.{dense[0]}', 12, 8)
    state |= linear(f'{name}.{dense[1]}', 8, 12)
  return state | layer_norm('encoder.ln', 8) | linear('heads.head', 5, 8)


RESNET = functools.partial(models.ResNet, width=4)
DENSENET = models.DenseNet(5, (2, 1), growth=4, width=8)
V2 = ((1, 3, 1, 8, False, True, 1), (1, 3, 2, 16, False, True, 2))
V3 = ((1, 3, 1, 16, True, False, 2), (1, 5, 2.5, 24, False, True, 1))
ROWS_V2 = (
  ('0.0', 32, 32, 8, 3, 0),
  ('1.0', 8, 16, 16, 3, 0),
  ('1.1', 16, 32, 16, 3, 0),
)
V2_TWICE = (V2[0], (2, *V2[1][1:]))
ROWS_V3 = (('0.0', 16, 16, 16, 3, 8), ('1.0', 16, 40, 24, 5, 0))
ROWS_B0 = (
  ('0.0', 8, 8, 8, 3, 2),
  ('1.0', 8, 48, 16, 5, 2),
  ('1.1', 16, 96, 16, 5, 4),
)
B0 = ((1, 3, 1, 8, 1), (2, 5, 6, 16, 2))
EFFICIENTNET = models.EfficientNetB0(5, stages=B0, stem=8, last=24)
CONVNEXT = models.ConvNeXt(5, (1, 2), width=8)
VIT = models.ViT(
  5, width=8, depth=2, heads=2, hidden=12, patch_size=4, image_size=16
)
LIBRARIES = {
  'ResNet18': (RESNET(5, (2, 1)), resnet((2, 1), 4, 5)),
  'ResNet50': (
    RESNET(5, (1, 2), block='bottleneck'),
    resnet((1, 2), 4, 5, bottleneck=True),
  ),
  'DenseNet': (DENSENET, densenet((2, 1), 8, 4)),
  'DenseNet, old': (DENSENET, densenet((2, 1), 8, 4, dot='.')),
  'VGG': (models.VGG(5, (1, 2), width=4, hidden=6), vgg(batch_norm=False)),
  'VGGBN': (
    models.VGG(5, (1, 2), width=4, hidden=6, norm='batch'),
    vgg(batch_norm=True),
  ),
  'AlexNet': (models.AlexNet(5, features=(4, 5, 6, 5, 4), hidden=6), alexnet()),
  'MobileNetV2': (models.MobileNetV2(5, stages=V2, last=24), mobilenet_v2()),
  'MobileNetV3': (
    models.MobileNetV3Small(5, stages=V3, hidden=8),
    mobilenet_v3(),
  ),
  'InceptionV3': (models.InceptionV3(5, width=1 / 16), inception()),
  'MobileNetV2, timm': (
    models.MobileNetV2(5, stages=V2_TWICE, last=24),
    timm_inverted(ROWS_V2, 32),
  ),
  'MobileNetV3, timm': (
    models.MobileNetV3Small(5, stages=V3, hidden=8),
    timm_inverted(ROWS_V3, 16, hidden=8, last=144),
  ),
  'EfficientNet': (EFFICIENTNET, efficientnet()),
  'EfficientNet, timm': (EFFICIENTNET, timm_inverted(ROWS_B0, 8)),
  'ConvNeXt': (CONVNEXT, convnext(timm=False)),
  'ConvNeXt, timm': (CONVNEXT, convnext(timm=True)),
  'ViT': (VIT, vit('new')),
  'ViT, old': (VIT, vit('old')),
  'ViT, timm': (VIT, vit('timm')),
}


def load(path, model, shape, **options):
  inputs = (jax.ShapeDtypeStruct(shape, np.float32),)
  return loading.load(path, model, adapted.outline(model, inputs), **options)


@pytest.mark.parametrize('name', LIBRARIES)
def test_all_of_a_file_is_loaded(name, safetensors):
  model, state = LIBRARIES[name]
  outline = adapted.outline(
    model, (jax.ShapeDtypeStruct((1, 75, 75, 3), np.float32),)
  )
  variables, report = loading.load(safetensors(state), model, outline)
  found = flatten_dict(variables, sep='/')
  assert {k: v.shape for k, v in found.items()} == {
    k: v.shape for k, v in outline.items()
  }
  assert len(report.loaded) == len(found)
  # Every array of the file, once.
  sums = lambda arrays: sorted(float(np.abs(x).sum()) for x in arrays)
  rng = np.random.default_rng(0)
  theirs = [rng.normal(size=v) for v in state.values() if isinstance(v, tuple)]
  np.testing.assert_allclose(sums(found.values()), sums(theirs), rtol=1e-5)


def test_resnet_equals_torch_with_these_names(tmp_path, assert_equal):
  torch = pytest.importorskip('torch')
  nn = torch.nn

  class Block(nn.Module):
    def __init__(self, i, o, stride):
      super().__init__()
      self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
      self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
      self.bn1, self.bn2 = nn.BatchNorm2d(o), nn.BatchNorm2d(o)
      if stride > 1:
        short = nn.Conv2d(i, o, 1, stride, bias=False)
        self.downsample = nn.Sequential(short, nn.BatchNorm2d(o))

    def forward(self, x):
      y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
      return (y + getattr(self, 'downsample', nn.Identity())(x)).relu()

  net = nn.Sequential()
  net.add_module('conv1', nn.Conv2d(1, 4, 3, 1, 1, bias=False))
  net.add_module('bn1', nn.BatchNorm2d(4))
  net.add_module('relu', nn.ReLU())
  net.add_module('layer1', nn.Sequential(Block(4, 4, 1)))
  net.add_module('layer2', nn.Sequential(Block(4, 8, 2)))
  net.add_module('average', nn.AdaptiveAvgPool2d(1))
  net.add_module('flatten', nn.Flatten())
  net.add_module('fc', nn.Linear(8, 3))
  assert_equal(torch, net, RESNET(3, (1, 1), stem='small'), (11, 13))


def test_monai_dynunet(tmp_path, assert_equal):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.DynUNet(
    2, 1, 3, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 6, 8)
  )  # fmt: skip
  model = models.UNet(3, (4, 6, 8))
  report = assert_equal(torch, net, model, (16, 12))
  assert len(report.zero) == 12  # MONAI's convolutions have no bias
  assert not report.missing + report.unexpected + report.new


def test_monai_dynunet_of_any_norm_activation_kernel_and_stride(
  tmp_path, assert_equal
):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  kernels, strides = (1, 3, (5, 3)), (2, 2, (1, 2))
  net = nets.DynUNet(
    2, 1, 3, kernels, strides, strides[1:], filters=(4, 6, 8),
    norm_name=('group', {'num_groups': 2}), act_name='elu',
  )  # fmt: skip
  whole = torch.nn.Sequential()
  whole.add_module('model', net)
  whole.add_module('size', torch.nn.Upsample(scale_factor=2, mode='bilinear'))
  model = models.UNet(
    3, (4, 6, 8), strides, kernel_sizes=kernels,
    decoder_kernel_sizes=kernels[1:], norm='group', groups=2, activation='elu',
  )  # fmt: skip
  assert_equal(torch, whole, model, (16, 16))
  with pytest.raises(ValueError, match=r'net\.pth: .* how many groups'):
    load(tmp_path / 'net.pth', model.clone(groups=None), (1, 16, 16, 1))


@pytest.mark.parametrize(
  ('size', 'strides', 'norm', 'units'),
  [
    ((16, 8), (2, 2), 'instance', 2),
    ((4, 12, 4), (1, (2, 3, 1)), 'batch', 2),
    ((16, 8), (2, 2), 'batch', 0),
  ],
)
def test_monai_unet(size, strides, norm, units, assert_equal):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.UNet(
    len(size), 1, 3, (4, 6, 8), strides, num_res_units=units, norm=norm
  )
  model = models.UNet2018(
    3, (4, 6, 8), strides, convs_per_stage=units, norm=norm
  )
  report = assert_equal(torch, net, model, size)
  assert not report.missing + report.unexpected + report.new + report.zero


def test_monai_densenet(tmp_path, assert_equal):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.DenseNet(
    2, 1, 3, init_features=8, growth_rate=4, block_config=(2, 1)
  )
  model = models.DenseNet(3, (2, 1), growth=4, width=8)
  assert_equal(torch, net, model, (33, 37))


def test_monai_segresnet(tmp_path, assert_equal):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.SegResNet(2, 8, 1, 3, blocks_down=(1, 2), blocks_up=(1,))
  model = models.SegResNet(
    3, (8, 16), encoder_blocks=(1, 2), decoder_blocks=(1,)
  )
  report = assert_equal(torch, net, model, (12, 16))
  assert not report.missing + report.unexpected + report.new + report.zero


def test_monai_vnet(tmp_path):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  state = nets.VNet(2, 1, 3).state_dict()
  torch.save(state, tmp_path / 'net.pth')
  _, report = load(tmp_path / 'net.pth', models.VNet(3), (1, 32, 32, 1))
  counters = sum('num_batches_tracked' in name for name in state)
  assert len(report.loaded) == len(state) - counters
  # That of a strided convolution before a batch norm.
  assert not report.missing + report.unexpected + report.new


# What does not fit as it is.


def test_backbones(safetensors, tmp_path, monkeypatch):
  """A classifier's file or run in an encoder-decoder, and back again."""
  classifier = RESNET(3, (1, 1))
  whole = models.EncoderDecoder(2, RESNET(1, (1, 1)), features=(4,))
  x = jnp.ones((1, 40, 40, 3))
  init = jax.jit(whole.init)
  own, _ = load(safetensors(resnet((1, 1), 4, 3)), classifier, x.shape)
  file, report = load(safetensors(resnet((1, 1), 4, 3)), whole, x.shape)
  same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
  del own['params']['head']
  same(file['params'], {'backbone': own['params']})
  assert report.unused == ['fc.bias', 'fc.weight']
  assert {k.split('/')[1].rstrip('0123456789') for k in report.new} == {
    'decoder_', 'head',
  }  # fmt: skip

  run = lambda variables: monkeypatch.setattr(
    loading, 'best_variables', lambda path: (7, variables)
  )
  run(own | {'params': own['params'] | {'head': {'bias': np.zeros(3)}}})
  again, report = load(tmp_path, whole, x.shape)
  same(again, file)
  assert report.unused == ['params/head/bias']
  run(init(jax.random.key(0), x))
  back, report = load(tmp_path, classifier, x.shape)
  assert list(back['params']) == list(own['params'])
  assert report.new == ['params/head/kernel', 'params/head/bias']
  assert not report.unexpected
  _, report = load(tmp_path, whole, x.shape)
  assert not report.new + report.missing + report.unexpected


@pytest.mark.parametrize('tokens', [17, 10, 11])
def test_positions_of_another_grid(tokens, safetensors):
  path = safetensors(vit('timm', tokens))
  if tokens == 11:  # no square
    with pytest.raises(ValueError, match='params/positions of the model'):
      load(path, VIT, (1, 16, 16, 3))
    return
  variables, report = load(path, VIT, (1, 16, 16, 3))
  found = variables['params']['positions']
  given = files.read(path)['pos_embed'][0]
  np.testing.assert_array_equal(found[0], given[0])
  side = math.isqrt(tokens - 1)
  resized = jax.image.resize(
    given[1:].reshape(side, side, 8), (4, 4, 8), 'cubic'
  )
  np.testing.assert_allclose(found[1:], resized.reshape(16, 8), atol=1e-6)
  assert bool(report.reshaped) == (side != 4)


def test_channels():
  kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4))
  grey = np.random.default_rng(1).normal(size=(3, 3, 1))
  respond = lambda x, k: np.einsum('hwi,hwio->o', x, k)
  expected = respond(grey.repeat(3, -1), kernel)
  for n in (1, 2, 5):
    image = grey.repeat(n, -1)
    summed = fitting.with_channels(kernel, n, 'sum')
    np.testing.assert_allclose(respond(image, summed), expected)
    mean = fitting.with_channels(kernel, n, 'mean')
    np.testing.assert_allclose(respond(image, mean), expected * n / 3)
  with pytest.raises(ValueError, match="'sum' or 'mean', not 'max'"):
    fitting.with_channels(kernel, 1, 'max')


def test_a_file_for_colour_serves_a_grey_image_and_other_classes(safetensors):
  path = safetensors(resnet((1, 1), 4, 1000))
  model = RESNET(2, (1, 1))
  variables, report = load(path, model, (1, 40, 40, 1))
  assert variables['params']['stem']['conv']['kernel'].shape == (7, 7, 1, 4)
  assert 'head' not in variables['params']
  assert report.new == ['params/head/kernel', 'params/head/bias']
  assert str(report) == (
    f'pretrained: 30 of 32 arrays: {path}, torchvision\n'
    '  reshaped: params/stem/conv/kernel (7, 7, 3, 4) → (7, 7, 1, 4), '
    'sum over channels\n'
    '  new, not from the file: params/head/kernel, params/head/bias'
  )
  # A head that would fit is taken, unless it is not wanted.
  same = RESNET(1000, (1, 1))
  assert 'head' in load(path, same, (1, 40, 40, 3))[0]['params']
  other, report = load(path, same, (1, 40, 40, 3), head=False)
  assert 'head' not in other['params']
  assert report.unused == ['fc.bias', 'fc.weight']


@pytest.mark.parametrize(
  'model',
  [
    models.SwinUNETR(2, 12, depths=(1, 1, 1, 1), heads=(1, 2, 2, 3), window=2),
    models.UNETR(2, 4, width=12, heads=2, hidden=16, image_size=(32, 32)),
    models.MedNeXtS(2, width=4),
  ],
  ids=lambda m: type(m).__name__,
)
def test_what_sees_the_image_beside_the_first_kernel(
  model, tmp_path, monkeypatch
):
  image = np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype('f')
  stored = model.init(jax.random.key(0), image)
  monkeypatch.setattr(loading, 'best_variables', lambda path: (1, stored))
  three = np.repeat(image, 3, -1)
  variables, _ = load(tmp_path, model, three.shape)
  one, other = model.apply(stored, image), model.apply(variables, three)
  np.testing.assert_allclose(one, other, atol=2e-4)


def test_an_inflated_network_sees_a_constant_volume_as_its_slice(safetensors):
  path = safetensors(resnet((1,), 4, 2, channels=1, stem=3))
  model = RESNET(2, (1,), stem='small')
  plane = np.random.default_rng(0).normal(size=(1, 8, 7, 1)).astype('f')
  volume = np.repeat(plane[:, None], 9, 1)
  maps = []
  for x in (plane, volume):
    variables, _ = load(path, model, x.shape)
    stats = variables['batch_stats']
    variables['batch_stats'] = jax.tree.map(np.abs, stats)
    see = functools.partial(model.apply, features=True)
    maps.append(jax.jit(see)(variables, x)['stage_0'])
  # Three convolutions reach three slices in from the zeros beyond the ends.
  inner = maps[1][:, 3:6]
  expected = np.repeat(maps[0][:, None], 3, 1)
  np.testing.assert_allclose(inner, expected, rtol=1e-5, atol=1e-5)
  assert np.abs(maps[1][:, 0] - maps[0]).max() > 1e-3


def test_what_is_missing_or_left_over_is_refused(safetensors):
  state = resnet((1, 1), 4, 2)
  model, shape = RESNET(2, (1, 1)), (1, 40, 40, 3)
  without = {k: v for k, v in state.items() if not k.startswith('layer2.0.bn')}
  more = state | conv('layer3.0.conv1', 16, 8, 3, 3)
  for part, message in (
    (without, 'missing in it are params/stage_1_block_0/layer_0/norm/scale, '),
    (more, r'left over layer3\.0\.conv1\.weight\. pretrained.partial=True'),
  ):
    with pytest.raises(ValueError, match=message):
      load(safetensors(part), model, shape)
    _, report = load(safetensors(part), model, shape, partial=True)
    assert ('missing' in str(report)) or ('unexpected' in str(report))
  with pytest.raises(
    ValueError,
    match=r'conv1.weight is \(7, 7, 3, 4\), in our order of axes, and '
    r'params/stem/conv/kernel of the model \(7, 7, 3, 8\)',
  ):
    load(
      safetensors(state), models.ResNet(2, (1, 1), width=8), shape, partial=True
    )
  with pytest.raises(ValueError, match='none of its names is that of a VGG in'):
    load(safetensors(state), models.VGG(2, (1, 1)), shape, partial=True)
  with pytest.raises(
    ValueError, match="no library's names are known for LeNet"
  ):
    load(safetensors(state), models.LeNet5(2), (1, 32, 32, 1))
