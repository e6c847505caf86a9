"""Weights of MedNeXt, UNETR and SwinUNETR, in MONAI's form and their own."""

import re

import jax
import pytest

from medjax import models
from medjax.finetune import adapted, loading


def load(path, model, shape):
  outline = adapted.outline(model, (jax.ShapeDtypeStruct(shape, 'float32'),))
  return loading.load(path, model, outline)


@pytest.mark.parametrize('authors', [False, True])
def test_mednext(authors, assert_equal):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.MedNeXt(
    2, 4, 1, 4, (2, 3), (3, 2), 2, 3, deep_supervision=not authors,
    use_residual_connection=True, blocks_down=(1, 2), blocks_bottleneck=1,
    blocks_up=(2, 1),
  )  # fmt: skip
  if authors:  # as github.com/MIC-DKFZ/MedNeXt calls its layers
    net.dummy_tensor = torch.nn.Parameter(torch.ones(1))
    plain = net.state_dict
    net.state_dict = lambda: {_mednext(k): v for k, v in plain().items()}
  # As many classes as channels: nothing but the names tells the two axes.
  model = models.MedNeXt(4, (1, 2, 1), (2, 3, 2), width=4)
  report = assert_equal(torch, net, model, (16, 12))
  assert not report.missing + report.unexpected + report.new + report.zero
  assert len(report.unused) == (0 if authors else 4)  # its supervised heads


def _mednext(name):
  for theirs, parts in (
    (r'enc_stages\.(\d)', 'enc_block_{}'), (r'down_blocks\.(\d)', 'down_{}'),
  ):  # fmt: skip
    name = re.sub(theirs, lambda m, p=parts: p.format(m[1]), name)
  for theirs, parts in (
    (r'dec_stages\.(\d)', 'dec_block_{}'), (r'up_blocks\.(\d)', 'up_{}'),
  ):  # fmt: skip
    name = re.sub(theirs, lambda m, p=parts: p.format(1 - int(m[1])), name)
  return name


@pytest.mark.parametrize('affine', [False, True])
def test_monai_unetr(affine, assert_equal):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.UNETR(
    1, 3, (32, 16), 4, 12, 16, 2, spatial_dims=2,
    norm_name=('instance', {'affine': affine}),
  )  # fmt: skip
  model = models.UNETR(3, 4, width=12, heads=2, hidden=16, image_size=(32, 16))
  report = assert_equal(torch, net, model, (32, 16))
  assert not report.missing + report.unexpected + report.new + report.unused
  assert bool(report.one) != affine


def test_monai_swin_unetr(assert_equal, tmp_path):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  make = lambda **options: nets.SwinUNETR(
    1, 3, 2, (1, 2, 1, 1), (1, 2, 2, 3), 2, feature_size=12, spatial_dims=2,
    **options,
  )  # fmt: skip
  model = models.SwinUNETR(
    3, 12, depths=(1, 2, 1, 1), heads=(1, 2, 2, 3), window=2
  )
  report = assert_equal(torch, make(), model, (64, 96))
  assert not report.missing + report.unexpected + report.new + report.unused
  # Another network of the same name.
  torch.save(make(use_v2=True).state_dict(), tmp_path / 'v2.pth')
  with pytest.raises(ValueError, match=r'left over swinViT\.layers1c'):
    load(tmp_path / 'v2.pth', model, (1, 64, 64, 1))
