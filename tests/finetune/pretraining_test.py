"""What was learnt without labels begins another model of the same family."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from medjax import models
from medjax.finetune import adapted, loading

RESNET = dict(stage_sizes=(1, 1), width=4, stem='small')
VIT = dict(width=8, depth=1, heads=2, patch_size=4, image_size=16)
UNET = dict(features=(4, 6))
STATE = {'moco': {'keys': np.zeros((3, 2)), 'filled': np.int32(0)}}


def outline(model, channels=1):
  shape = jax.ShapeDtypeStruct((1, 16, 16, channels), np.float32)
  return adapted.outline(model, (shape,))


def variables_of(model, seed):
  leaves = jax.eval_shape(
    model.init, jax.random.key(0), jnp.ones((1, 16, 16, 1))
  )
  rng = np.random.default_rng(seed)
  draw = lambda x: rng.normal(size=x.shape).astype(np.float32)
  return jax.tree.map(draw, leaves)


projected = lambda backbone: models.Projected(6, backbone, hidden=5)
CASES = {
  'a classifier': (
    projected(models.ResNet(3, **RESNET)), models.ResNet(3, **RESNET), 'head',
  ),
  'a U-Net around a classifier': (
    projected(models.ResNet(3, **RESNET)),
    models.EncoderDecoder(2, models.ResNet(3, **RESNET), features=(4,)),
    'head|decoder',
  ),
  'a ViT': (
    models.MaskedAutoencoder(1, models.ViT(3, **VIT), width=8, heads=2),
    models.ViT(3, **VIT), 'head',
  ),
  'a U-Net': (
    models.MaskedAutoencoder(1, models.UNet(1, **UNET), maps=True),
    models.UNet(1, **UNET), 'head',
  ),
  'the same again': (
    projected(models.ResNet(3, **RESNET)),
    projected(models.ResNet(5, **RESNET)), '^$',
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_all_but_the_head_is_loaded(name, tmp_path, monkeypatch):
  trained, model, new = CASES[name]
  weights = variables_of(trained, seed=1) | STATE
  monkeypatch.setattr(loading, 'best_variables', lambda path: (7, weights))
  ours = outline(model)
  found, report = loading.load(tmp_path, model, ours)
  found, theirs = (flatten_dict(x, sep='/') for x in (found, weights))
  assert not report.missing + report.unexpected
  assert all(re.match(f'[^/]+/({new})', k) for k in report.new)
  # Every array of the encoder is that of the run, whatever it is called.
  for key in set(ours) - set(report.new):
    collection, rest = key.split('/', 1)
    own = {theirs.get(f'{collection}/{p}{rest}', np.zeros(0)).tobytes()
           for p in ('', 'backbone/')}  # fmt: skip
    assert found[key].tobytes() in own
  assert any('head' in k for k in report.new) or name == 'the same again'
  assert len(report.loaded) == len(ours) - len(report.new) > 5


def test_another_encoder_is_refused(tmp_path, monkeypatch):
  weights = variables_of(projected(models.ResNet(3, **RESNET)), seed=1)
  monkeypatch.setattr(loading, 'best_variables', lambda path: (7, weights))
  wider = models.ResNet(3, **(RESNET | {'stage_sizes': (2, 1)}))
  with pytest.raises(ValueError, match='missing in it are'):
    loading.load(tmp_path, wider, outline(wider))
