"""What every classification architecture must do."""

import jax
import jax.numpy as jnp
import pytest

from medjax import models

# torchvision's published counts at 1000 classes and three channels.
SIZES = dict(
  AlexNet=61_100_840,
  VGG11=132_863_336,
  VGG11BN=132_868_840,
  VGG13=133_047_848,
  VGG13BN=133_053_736,
  VGG16=138_357_544,
  VGG16BN=138_365_992,
  VGG19=143_667_240,
  VGG19BN=143_678_248,
  MobileNetV2=3_504_872,
  MobileNetV3Small=2_542_856,
  MobileNetV3Large=5_483_032,
  DenseNet121=7_978_856,
  DenseNet169=14_149_480,
  InceptionV3=27_161_264,
)


@pytest.mark.parametrize('name', SIZES)
def test_sizes_are_the_published_ones(name):
  model = getattr(models, name)(num_classes=1000)
  x = jnp.ones((1, 75, 75, 3))
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  assert sum(p.size for p in jax.tree.leaves(shapes['params'])) == SIZES[name]


STAGES = ((1, 3, 1, 8, False, True, 1), (2, 3, 2, 8, True, False, 2))
TINY = dict(
  alexnet=models.AlexNet(3, features=(4,) * 5, hidden=8, grid=2),
  vgg=models.VGG(3, (1, 1), width=4, hidden=8, grid=2, norm='batch'),
  mobilenet_v2=models.MobileNetV2(3, stages=STAGES, last=16),
  mobilenet_v3=models.MobileNetV3Small(3, stages=STAGES, hidden=16),
  densenet=models.DenseNet(3, (1, 1, 1, 1), growth=4, width=8, dropout=0.1),
)


@pytest.mark.parametrize('name', TINY)
@pytest.mark.parametrize('shape', [(2, 17, 28, 1), (1, 9, 11, 10, 2)], ids=str)
def test_small_odd_images_of_any_rank(name, shape, quick):
  model = TINY[name].clone(dtype=jnp.bfloat16)
  x = jax.random.normal(jax.random.key(0), shape)
  variables = quick(model.init)(jax.random.key(0), x)
  if len(shape) == 5:
    y = quick(model.apply)(variables, x)
  else:

    def loss(params):
      y, _ = model.apply(
        {**variables, 'params': params}, x, train=True,
        mutable=['batch_stats'], rngs={'dropout': jax.random.key(1)},
      )  # fmt: skip
      return (y**2).sum(), y

    gradient = quick(jax.grad(loss, has_aux=True))
    gradients, y = gradient(variables['params'])
    leaves = jax.tree.leaves(gradients)
    assert all(jnp.isfinite(g).all() for g in leaves)
    assert any((g != 0).any() for g in leaves)
  assert y.shape == (shape[0], 3)
  assert y.dtype == jnp.float32
  assert jnp.isfinite(y).all()


@pytest.mark.parametrize(
  ('model', 'shape', 'message'),
  [
    (models.AlexNet(2), (1, 6, 9, 1), '7 voxels'),
    (models.InceptionV3(2), (1, 74, 90, 1), '75 pixels'),
    (models.InceptionV3(2), (1, 75, 75, 75, 1), '2-D'),
  ],
)
def test_an_unusable_image_is_refused(model, shape, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(model.init, jax.random.key(0), jnp.ones(shape))
