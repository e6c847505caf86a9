"""The conversion to ONNX against JAX, network by network."""

import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_runs import drawn

from medjax import models
from medjax.export import onnx_file
from medjax.finetune import adapted
from medjax.ops import normalization

pytest.importorskip('onnx')
ort = pytest.importorskip('onnxruntime')

TINY = dict(num_classes=3)
NETWORKS = {
  'lenet': (models.LeNet5(**TINY), (28, 28, 1)),
  'resnet, imagenet': (
    models.ResNet18(**TINY, width=4, stage_sizes=(1, 1)),
    (20, 20, 1),
  ),
  'resnet 3-D, group norm': (
    models.ResNet18(**TINY, width=4, stage_sizes=(1, 1), norm='group'),
    (9, 8, 7, 2),
  ),
  'densenet': (
    models.DenseNet(**TINY, stage_sizes=(2, 2), growth=4, width=4),
    (32, 32, 1),
  ),
  'mobilenet v3': (models.MobileNetV3Small(**TINY), (32, 32, 1)),
  'convnext': (
    models.ConvNeXt(**TINY, stage_sizes=(1, 1), width=8),
    (32, 32, 1),
  ),
  'vit': (
    models.ViT(
      **TINY, image_size=16, patch_size=8, width=16, depth=1, heads=2,
      hidden=16,
    ),
    (16, 16, 1),
  ),
  'unet 3-D, attention': (
    models.UNet(**TINY, features=(4, 6, 8), attention=True, residual=True),
    (9, 10, 7, 1),
  ),
  'unet of MONAI': (models.UNet2018(**TINY, features=(4, 6)), (12, 10, 1)),
  'segresnet': (
    models.SegResNet(**TINY, features=(8, 16), encoder_blocks=(1, 1)),
    (12, 12, 1),
  ),
}  # fmt: skip


def converted(model, shape, seed=0):
  inputs = [jax.ShapeDtypeStruct((1, *shape), np.float32)]
  variables = drawn(adapted.outline(model, inputs), seed)
  function = lambda x: [model.apply(variables, x)]
  return function, onnx_file.convert(
    function, {'image': (shape, np.float32)}, ['logits']
  )


def session(model):
  options = ort.SessionOptions()
  options.log_severity_level = 3
  return ort.InferenceSession(
    model.SerializeToString(), options, providers=['CPUExecutionProvider']
  )


@pytest.mark.parametrize('name', NETWORKS)
def test_agrees_with_jax_at_any_batch(name):
  model, shape = NETWORKS[name]
  function, made = converted(model, shape)
  running = session(made)
  x = np.random.default_rng(1).normal(size=(3, *shape)).astype('f4')
  (wanted,) = jax.jit(function)(x)
  assert np.std(wanted) > 1e-3
  scale = max(np.abs(wanted).max(), 1)
  for batch in (1, 3):
    (found,) = running.run(None, {'image': x[:batch]})
    np.testing.assert_allclose(found, wanted[:batch], atol=3e-5 * scale)


def test_a_batch_norm_is_a_part_of_its_convolution():
  _, made = converted(*NETWORKS['resnet, imagenet'])
  kinds = collections.Counter(node.op_type for node in made.graph.node)
  assert kinds['Conv'] == 6
  assert kinds['MaxPool'] == 1
  # What is left is the two residual sums, and the head's.
  assert kinds['Add'] == 3
  assert not kinds.keys() & {'Sub', 'Sqrt'}


def test_layers_keep_their_names():
  _, made = converted(*NETWORKS['resnet, imagenet'])
  names = [node.name for node in made.graph.node if node.op_type == 'Conv']
  assert any('stage_1_block_0/shortcut' in name for name in names)


class Sorting(nn.Module):
  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.Dense(2, name='head')(jnp.sort(x, axis=1))


def test_an_unknown_operation_is_named_with_its_layer():
  model = Sorting()
  with pytest.raises(NotImplementedError, match=r'ONNX: sort of .*Sorting'):
    converted(model, (8,))


def test_half_precision_is_refused():
  model = models.ResNet18(**TINY, width=4, stage_sizes=(1,), dtype='bfloat16')
  with pytest.raises(NotImplementedError, match='bfloat16'):
    converted(model, (12, 12, 1))


def test_a_norm_of_an_image_that_is_mostly_background():
  """One value a million times: a sum in one float drifts away."""
  rng = np.random.default_rng(0)
  x = np.full((1, 300, 300, 2), -0.6543, np.float32)
  x[:, :100] = rng.normal(1, 1, (1, 100, 300, 2))
  scale, bias = np.array([2, 0.5], 'f4'), np.array([1, -3], 'f4')
  norm = lambda x: [normalization.instance_norm(x, scale, bias, epsilon=1e-5)]
  model = onnx_file.convert(norm, {'x': (x.shape[1:], np.float32)}, ['y'])
  session = ort.InferenceSession(
    model.SerializeToString(), providers=['CPUExecutionProvider']
  )
  (found,) = session.run(None, {'x': x})
  wide = x.astype(float)
  mean, var = (f((1, 2), keepdims=True) for f in (wide.mean, wide.var))
  wanted = (wide - mean) / np.sqrt(var + 1e-5) * scale + bias
  np.testing.assert_allclose(found, wanted, atol=5e-5)
