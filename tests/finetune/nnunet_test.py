"""nnU-Net's own networks, loaded from files as its trainer writes them."""

import jax
import numpy as np
import pytest

from medjax import models
from medjax.finetune import adapted, loading

STRIDES, KERNELS = ((1, 1), (1, 2), (2, 2)), ((1, 3), (3, 3), (3, 3))
FEATURES = (4, 6, 8)


@pytest.fixture
def nnunet():
  """(torch, nnunet(name, blocks, decoder convolutions) → network)."""
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('dynamic_network_architectures.architectures.unet')

  def make(name, blocks, convs, strides=STRIDES):
    return getattr(nets, name)(
      1, 3, FEATURES, torch.nn.Conv2d, KERNELS, strides, blocks, 3, convs,
      True, torch.nn.InstanceNorm2d, {'eps': 1e-5, 'affine': True}, None, None,
      torch.nn.LeakyReLU, {'inplace': True},
    )  # fmt: skip

  return torch, make


def load(path, model):
  inputs = (jax.ShapeDtypeStruct((1, 12, 16, 1), np.float32),)
  return loading.load(path, model, adapted.outline(model, inputs))


def clean(report):
  return not report.missing + report.unexpected + report.new + report.zero


def test_plain(nnunet, assert_equal, tmp_path):
  torch, make = nnunet
  net = make('PlainConvUNet', 2, 2)
  model = models.UNet(3, FEATURES, STRIDES, kernel_sizes=KERNELS)
  report = assert_equal(torch, net, model, (12, 16))
  assert clean(report)
  # It has a head for every stage, we for those that are supervised.
  assert report.unused == [
    'decoder.seg_layers.0.bias', 'decoder.seg_layers.0.weight',
  ]  # fmt: skip
  # As its trainer saves it.
  state = {'network_weights': net.state_dict(), 'current_epoch': 7}
  torch.save(state, tmp_path / 'checkpoint_final.pth')
  model = model.clone(deep_supervision=True)
  _, report = load(tmp_path / 'checkpoint_final.pth', model)
  assert clean(report)
  assert not report.unused


@pytest.mark.parametrize('strides', [STRIDES, ((1, 1), (2, 2), (1, 1))])
def test_residual_encoder(strides, nnunet, assert_equal):
  torch, make = nnunet
  net = make('ResidualEncoderUNet', (1, 2, 2), 1, strides)
  model = models.ResEncUNet(
    3, FEATURES, strides, kernel_sizes=KERNELS, blocks_per_stage=(1, 2, 2)
  )
  assert clean(assert_equal(torch, net, model, (12, 16)))


def test_other_blocks_or_another_network_are_refused(nnunet, tmp_path):
  torch, make = nnunet
  torch.save(make('ResidualEncoderUNet', 2, 1).state_dict(), tmp_path / 'n.pth')
  plan = dict(features=FEATURES, strides=STRIDES, kernel_sizes=KERNELS)
  for model, message in (
    (models.ResEncUNet(3, **plan, blocks_per_stage=(1, 2, 2)), 'left over enc'),
    (models.ResEncUNet(3, **plan, blocks_per_stage=(2, 2, 3)), 'missing in it'),
    (models.UNet(3, **plan), 'missing in it'),
  ):
    with pytest.raises(ValueError, match=message):
      load(tmp_path / 'n.pth', model)
