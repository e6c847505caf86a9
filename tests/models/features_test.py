"""What `features=True` gives, of every family of models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models

KEY = jax.random.key(0)
FAMILIES = (
  'AlexNet', 'ConvNeXtT', 'DenseNet121', 'EfficientNetB0', 'InceptionV3',
  'LeNet5', 'MobileNetV2', 'MobileNetV3Small', 'ResNet18', 'SegResNet',
  'UNet', 'UNet2015', 'VGG11', 'ViTS16', 'VNet',
)  # fmt: skip


def shapes_of(tree):
  return jax.tree.map(jnp.shape, tree)


def run(model, x, **options):
  """(outputs, variables) of an initialisation, their shapes only."""
  init = functools.partial(model.init_with_output, **options)
  return jax.eval_shape(init, KEY, x)


@pytest.mark.parametrize('name', FAMILIES)
def test_logits_come_with_the_maps_unless_there_are_no_classes(name):
  model = getattr(models, name)(num_classes=3)
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
def test_logits_of_one_pass_are_those_of_the_call(model, quick):
  x = jax.random.normal(KEY, (2, 8, 8, 1))
  variables = quick(model.init)(KEY, x)

  def both(variables, train):
    apply = functools.partial(
      model.apply, variables, x, train=train, mutable=['batch_stats']
    )
    return apply()[0], apply(features=True)[0]['logits']

  for train in (False, True):
    y, logits = quick(functools.partial(both, train=train))(variables)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(close, y, logits)


def test_the_backbone_of_an_encoder_decoder_has_no_head():
  backbone = models.ResNet(5, (1,), width=4)
  model = models.EncoderDecoder(3, backbone, features=(4,))
  _, variables = run(model, jnp.ones((1, 16, 16, 1)))
  assert set(variables['params']['backbone']) == {'stem', 'stage_0_block_0'}
  assert backbone.num_classes == 5
