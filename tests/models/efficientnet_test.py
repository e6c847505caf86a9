import functools
import re

import pytest

from medjax import models

# MONAI's names of modules, and ours.
NAMES = (
  (r'^_conv_stem$', 'stem.conv'),
  (r'^_bn0$', 'stem.norm'),
  (r'^_conv_head$', 'last.conv'),
  (r'^_bn1$', 'last.norm'),
  (r'^_fc$', 'head'),
  (r'^_blocks\.\d+\.', 'block_'),
  (r'_expand_conv$', 'expand.conv'),
  (r'_bn0$', 'expand.norm'),
  (r'_depthwise_conv$', 'depthwise.conv'),
  (r'_bn1$', 'depthwise.norm'),
  (r'_project_conv$', 'project.conv'),
  (r'_bn2$', 'project.norm'),
  (r'_se_(reduce|expand)$', r'squeeze_excite.\1'),
)


def convert(net, as_flax, **options):
  rename = lambda name: functools.reduce(
    lambda name, pair: re.sub(*pair, name), NAMES, name
  )
  variables = as_flax(net, rename=rename, **options)
  for name, block in variables['params'].items():
    if name.startswith('block_'):  # MONAI's are convolutions
      for dense in block['squeeze_excite'].values():
        dense['kernel'] = dense['kernel'].reshape(dense['kernel'].shape[-2:])
  return variables


# MONAI pads as TensorFlow does, which is centred where all sizes are odd.
@pytest.mark.parametrize('shape', [(2, 33, 33, 1), (2, 9, 9, 9, 1)], ids=str)
def test_is_monais(assert_parity, as_flax, shape):
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.EfficientNet(
    ['r1_k3_s11_e1_i32_o16_se0.25', 'r2_k5_s22_e6_i16_o24_se0.25'],
    spatial_dims=len(shape) - 2,
    in_channels=1,
    num_classes=3,
    width_coefficient=0.25,
    depth_coefficient=1.1,
    image_size=shape[1],
    norm=('batch', {'eps': 1e-5}),
  )
  stages = ((1, 3, 1, 16, 1), (2, 5, 6, 24, 2))
  model = models.EfficientNet(3, width=0.25, depth=1.1, stages=stages)
  with_names = functools.partial(convert, as_flax=as_flax)
  assert_parity(
    model, net, shape, convert=with_names, gradients=len(shape) == 4
  )
