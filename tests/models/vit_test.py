import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models

# MONAI's names of modules and tensors, and ours.
NAMES = (
  (r'.*norm_cross_attn$', ''),  # not used
  (r'^patch_embedding\.patch_embeddings$', 'patches'),
  (r'^patch_embedding\.position_embeddings$', 'positions'),
  (r'^cls_token$', 'class_token'),
  (r'^classification_head$', 'head'),
  (r'^blocks\.', 'block_'),
  (r'norm1$', 'norm_0'),
  (r'norm2$', 'norm_1'),
  (r'attn\.qkv$', 'attention.qkv'),
  (r'attn\.out_proj$', 'attention.out'),
  (r'mlp\.linear1$', 'dense_0'),
  (r'mlp\.linear2$', 'dense_1'),
)
TINY = dict(num_classes=3, width=8, depth=2, heads=2, hidden=12)


def convert(net, as_flax, **options):
  rename = lambda name: functools.reduce(
    lambda name, pair: re.sub(*pair, name), NAMES, name
  )
  variables = as_flax(net, rename=rename, **options)
  params = variables['params']
  token, positions = params['class_token'][0], params['positions'][0]
  # MONAI's class token has no position; ours has the same gradient as it.
  of_token = token if 'read' in options else 0 * token
  params['class_token'] = token
  params['positions'] = np.concatenate([of_token, positions])
  return variables


def test_is_monais(assert_parity, as_flax):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  patches = dict(img_size=(6, 9, 4), patch_size=(3, 3, 2))
  net = nets.ViT(
    1, **patches, hidden_size=8, mlp_dim=12, num_layers=2, num_heads=2,
    classification=True, num_classes=3, post_activation='', qkv_bias=True,
  )  # fmt: skip
  net.register_forward_hook(lambda module, x, y: y[0])
  torch.nn.init.normal_(net.cls_token)
  model = models.ViT(**TINY, image_size=(6, 9, 4), patch_size=(3, 3, 2))
  with_names = functools.partial(convert, as_flax=as_flax)
  assert_parity(model, net, (2, 6, 9, 4, 1), convert=with_names, gradients=True)


def test_positions_are_resized_to_the_image(quick):
  torch = pytest.importorskip('torch')
  model = models.ViT(**TINY, patch_size=4, image_size=20)
  x = jax.random.normal(jax.random.key(0), (1, 27, 12, 1))
  variables = quick(model.init)(jax.random.key(0), x)
  positions = variables['params']['positions']
  assert positions.shape == (1 + 25, 8)
  y = quick(model.apply)(variables, x)
  resized = torch.nn.functional.interpolate(
    torch.tensor(np.asarray(positions[1:]).reshape(1, 5, 5, 8)).movedim(3, 1),
    (7, 3), mode='bicubic', antialias=True, align_corners=False,
  )  # fmt: skip
  resized = resized.numpy()[0].reshape(8, 21).T
  variables['params']['positions'] = jnp.concatenate([positions[:1], resized])
  # The image's own size: no resizing, and what is missing of a patch is zero.
  model = models.ViT(**TINY, patch_size=4, image_size=(28, 12))
  x = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
  expected = quick(model.apply)(variables, x)
  np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


def test_unfit_arguments_are_refused():
  x = jnp.ones((1, 8, 8, 1))
  for options in (dict(heads=3), dict(patch_size=(4, 4, 4))):
    model = models.ViT(**{**TINY, **options})
    with pytest.raises(ValueError, match=r'do not divide|spatial axes'):
      jax.eval_shape(model.init, jax.random.key(0), x)
