"""The models that learn without labels: what they see, and what they give."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models
from medjax.ops import blocks

KEY = jax.random.key(0)


class NoFeatures(nn.Module):
  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.Dense(3)(x.mean((1, 2)))


RESNET = models.ResNet(5, (1, 1), width=4, stem='small', norm='group')
VIT = functools.partial(
  models.ViT, 5, width=8, depth=1, heads=2, patch_size=4, image_size=16
)
BACKBONES = {
  'ViT': (VIT(), {}, (2, 16, 16, 1)),
  'ViT, 3-D': (VIT(image_size=8), {}, (2, 8, 8, 8, 1)),
  'ResNet': (RESNET, {}, (2, 11, 14, 2)),
  'UNet': (models.UNet(1, (4, 6)), {'maps': True}, (2, 8, 8, 8, 1)),
}


def made(name):
  """(model, variables, an image)."""
  backbone, options, shape = BACKBONES[name]
  model = models.MaskedAutoencoder(
    shape[-1], backbone, width=8, depth=1, heads=2, **options
  )
  x = jax.random.normal(jax.random.key(1), shape)
  return model, jax.jit(model.init)(KEY, x), x


def seen(model, variables, x, key=KEY):
  """What the model gives in training; statistics of the batch do not stay."""
  apply = lambda variables, x: model.apply(
    variables, x, train=True, rngs={'dropout': key}
  )
  return jax.jit(apply)(variables, x)


@pytest.mark.parametrize('name', BACKBONES)
def test_what_is_hidden_is_not_seen(name):
  model, variables, x = made(name)
  found = seen(model, variables, x)
  count = found.hidden.shape[1]
  # The same share of each image, of another place.
  assert (found.hidden.sum(1) == count - round(count / 4)).all()
  assert (found.hidden[0] != found.hidden[1]).any()
  size = (4,) * (x.ndim - 2)
  np.testing.assert_array_equal(found.target, blocks.split(x, size))
  assert found.blocks.shape == found.target.shape
  # Another image behind the mask changes nothing, before it everything.
  every = jnp.ones_like(found.target)
  mask = lambda chosen: blocks.join(
    every * chosen[..., None], size, x.shape[1:-1]
  )
  behind = seen(model, variables, x + mask(found.hidden))
  np.testing.assert_array_equal(behind.hidden, found.hidden)
  np.testing.assert_allclose(behind.blocks, found.blocks, atol=1e-5)
  before = seen(model, variables, x + mask(~found.hidden))
  assert np.abs(before.blocks - found.blocks).max() > 1e-3
  # Another step hides others.
  other = seen(model, variables, x, jax.random.key(5))
  assert (other.hidden != found.hidden).any()


@pytest.mark.parametrize('name', BACKBONES)
def test_in_evaluation_all_is_seen(name):
  model, variables, x = made(name)
  found = jax.jit(model.apply)(variables, x)
  assert not found.hidden.any()
  own = {'params': variables['params']['backbone']}
  apply = functools.partial(model.backbone.apply, features=True)
  alone = jax.jit(apply)(own, x)
  np.testing.assert_allclose(found.pooled, alone['pooled'], atol=1e-5)


def test_a_vit_that_keeps_all_is_itself():
  model, x = VIT(), jax.random.normal(KEY, (2, 16, 16, 1))
  variables = jax.jit(model.init)(KEY, x)
  order = jnp.stack([jnp.arange(16), jnp.arange(16)[::-1]])
  apply = functools.partial(model.apply, features=True)
  whole = jax.jit(apply)(variables, x)
  kept = jax.jit(apply)(variables, x, keep=order)
  np.testing.assert_allclose(whole['logits'], kept['logits'], atol=1e-5)
  tokens = whole['stage_0'].reshape(2, 16, -1)
  np.testing.assert_allclose(kept['stage_0'][1], tokens[1, ::-1], atol=1e-5)


def test_a_projector_stands_on_the_embedding():
  model = models.Projected(
    7, RESNET, hidden=6, predictor=True, prototypes=True, bottleneck=3
  )
  x = jax.random.normal(KEY, (2, 8, 8, 1))
  variables = jax.jit(model.init)(KEY, x)
  assert set(variables['params']) == {
    'backbone', 'head_projector', 'head_predictor', 'head_prototypes',
  }  # fmt: skip
  assert 'head' not in variables['params']['backbone']
  found = jax.jit(model.apply)(variables, x)
  assert found.projection.shape == found.prediction.shape == (2, 7)
  assert (np.abs(found.projection) <= 1 + 1e-6).all()  # cosines
  whole = jax.jit(functools.partial(model.apply, features=True))(variables, x)
  np.testing.assert_allclose(whole['pooled'], found.pooled, atol=1e-6)
  jax.tree.map(np.testing.assert_allclose, whole['logits'], found)


@pytest.mark.parametrize(
  ('model', 'match'),
  [
    (models.Projected(4, models.UNet(1, (4, 6))), 'decodes a map.*task MAE'),
    (models.Projected(4, NoFeatures()), 'gives no embedding'),
    (models.MaskedAutoencoder(1, models.UNet(1, (4, 6))), 'model.maps=True'),
    (models.MaskedAutoencoder(1, RESNET, maps=True), 'model.maps=False'),
    (models.MaskedAutoencoder(1, RESNET, block_size=8), 'leaves 0 to be seen'),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_said(model, match):
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(model.init, KEY, jnp.ones((1, 8, 8, 1)))
