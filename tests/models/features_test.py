"""What `features=True` gives, of every family of models."""

import functools

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models

KEY = jax.random.key(0)
NAMES = (
  'AlexNet', 'ConvNeXtT', 'EfficientNetB0', 'InceptionV3', 'LeNet5',
  'MedNeXtS', 'MobileNetV2', 'MobileNetV3Small', 'ResEncUNet', 'ResNet18',
  'SegResNet', 'SwinUNETR', 'UNet', 'UNet2015', 'UNet2018', 'UNETR', 'VGG11',
  'ViTS16', 'VNet',
)  # fmt: skip


def shapes_of(tree):
  return jax.tree.map(jnp.shape, tree)


def run(model, x, **options):
  """(outputs, variables) of an initialisation, their shapes only."""
  init = functools.partial(model.init_with_output, **options)
  return jax.eval_shape(init, KEY, x)


FAMILIES = {name: getattr(models, name)(num_classes=3) for name in NAMES}
FAMILIES['DenseNet'] = models.DenseNet(3, (1, 1), growth=4, width=8)


@pytest.mark.parametrize('name', FAMILIES)
def test_logits_come_with_the_maps_unless_there_are_no_classes(name):
  model = FAMILIES[name]
  x = jnp.ones((2, *((75,) * 2 if name == 'InceptionV3' else (32,) * 2), 1))
  logits, variables = run(model, x)
  found, same = run(model, x, features=True)
  assert shapes_of(found['logits']) == shapes_of(logits)
  assert {'stage_0', 'pooled'} <= set(found)
  assert found['pooled'].shape[0] == 2
  assert found['pooled'].ndim == 2
  assert shapes_of(same) == shapes_of(variables)
  # A backbone: the same but for the head.
  found, variables = run(model.clone(num_classes=0), x, features=True)
  assert found['logits'].shape == (*logits.shape[:-1], 0)
  del same['params']['head']
  same['params'].pop('aux', None)
  assert shapes_of(variables['params']) == shapes_of(same['params'])


@pytest.mark.parametrize(
  'model',
  [
    models.UNet(3, (4, 6), deep_supervision=True),
    models.ResNet(3, (1,), width=4, stem='small', norm='group'),
    models.EncoderDecoder(3, models.ResNet(5, (1,), width=4), features=(4,)),
  ],
  ids=lambda model: type(model).__name__,
)
def test_logits_of_one_pass_are_those_of_the_call(model):
  x = jax.random.normal(KEY, (2, 8, 8, 1))
  variables = jax.jit(model.init)(KEY, x)

  def both(variables, train):
    apply = functools.partial(
      model.apply, variables, x, train=train, mutable=['batch_stats']
    )
    return apply()[0], apply(features=True)[0]['logits']

  for train in (False, True):
    y, logits = jax.jit(functools.partial(both, train=train))(variables)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(close, y, logits)


def test_the_backbone_of_an_encoder_decoder_has_no_head():
  backbone = models.ResNet(5, (1,), width=4)
  model = models.EncoderDecoder(3, backbone, features=(4,))
  _, variables = run(model, jnp.ones((1, 16, 16, 1)))
  assert set(variables['params']['backbone']) == {'stem', 'stage_0_block_0'}
  assert backbone.num_classes == 5


GROUPED = dict(
  resnet=models.ResNet(3, (1,), width=4, stem='small'),
  densenet=models.DenseNet(3, (1,), growth=4, width=4),
  vgg=models.VGG(3, (1,), width=4, hidden=4, grid=1),
  mobilenet=models.MobileNetV2(3, stages=((1, 3, 1, 8, False, True, 1),)),
  efficientnet=models.EfficientNet(3, 0.25, 1.0, ((1, 3, 1, 16, 1),)),
  inception=models.InceptionV3(3, width=1 / 8),
  unet=models.UNet(3, (4, 6)),
  segresnet=models.SegResNet(3, (4, 6), (1, 1)),
  vnet=models.VNet(4, (4, 6)),
  unetr=models.UNETR(3, features=2, width=4, depth=4, heads=2, image_size=16),
  unet2018=models.UNet2018(4, (4, 6)),
  swin_unetr=models.SwinUNETR(3, features=4, heads=(1, 1, 1, 1), window=2),
  resenc=models.ResEncUNet(3, (4, 6), blocks_per_stage=(1, 1)),
  encoder_decoder=models.EncoderDecoder(
    3, models.ResNet(3, (1,), width=4), features=(4,)
  ),
)


@pytest.mark.parametrize('name', GROUPED)
def test_groups_are_those_of_every_group_norm(name, monkeypatch):
  model = GROUPED[name].clone(norm='group', groups=2)
  found, init = [], fnn.GroupNorm.__call__

  def note(self, x, **options):
    found.append(self.num_groups)
    return init(self, x, **options)

  monkeypatch.setattr(fnn.GroupNorm, '__call__', note)
  side = 75 if name == 'inception' else 16
  x = jnp.ones((1, side, side, 1))
  if name == 'encoder_decoder':
    model = model.clone(backbone=GROUPED['vgg'])
  run(model, x)
  assert found
  assert set(found) == {2}
  with pytest.raises(ValueError, match="groups are those of norm='group'"):
    run(model.clone(norm='batch'), x)
  if isinstance(getattr(model, 'activation', None), str):
    with pytest.raises(ValueError, match=r"activation is one of .* 'foo'"):
      run(model.clone(activation='foo'), x)
