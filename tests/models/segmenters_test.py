"""What every segmentation architecture must do, and their sizes."""

import functools

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax import models
from medjax.tasks import Segmentation

KEY = jax.random.key(0)


class Backbone(fnn.Module):
  """Strides of two and three, no head: what an EncoderDecoder builds upon."""

  widths: tuple = (4, 6)

  @fnn.compact
  def __call__(self, x, *, train=False, features=False):
    assert features
    maps = {}
    for i, width in enumerate(self.widths):
      size = (3,) * (x.ndim - 2)
      x = fnn.Conv(width, size, 2, padding=1, name=f'stage_{i}')(x)
      x = maps[f'stage_{i}'] = fnn.relu(x)
    return maps


class Patches(fnn.Module):
  """One coarse map, as a vision transformer has it."""

  @fnn.compact
  def __call__(self, x, *, train=False, features=False):
    rank = x.ndim - 2
    return {'stage_0': fnn.Conv(4, (4,) * rank, (4,) * rank)(x)}


class Headed(fnn.Module):
  """A network that knows no features."""

  @fnn.compact
  def __call__(self, x, *, train=False):
    return fnn.Dense(2)(x)


SMALL = dict(
  unet=models.UNet(
    3, (4, 6, 8), attention=True, residual=True, convs_per_stage=1,
    drop_path=0.5, dropout=0.1,
  ),
  unet2015=models.UNet2015(3, (6, 8), dropout=0.1),
  segresnet=models.SegResNet(3, (8, 12), (1, 1), dropout=0.1, drop_path=0.5),
  vnet=models.VNet(3, (4, 6), dropout=0.1, drop_path=0.5),
  encoder_decoder=models.EncoderDecoder(
    3, Backbone(), features=(4, 6), dropout=0.1
  ),
)  # fmt: skip


# Their gradients are looked at beside those of a reference.
MORE = dict(
  unet2018=models.UNet2018(3, (4, 6, 8), dropout=0.1),
  resenc=models.ResEncUNet(
    3, (4, 6), blocks_per_stage=(1, 2), dropout=0.1, drop_path=0.5
  ),
  mednext=models.MedNeXt(
    3, (1, 1), (2, 2), width=4, dropout=0.1, drop_path=0.5
  ),
  swin_unetr=models.SwinUNETR(
    3,
    features=4,
    depths=(1, 2, 1, 1),
    heads=(1, 2, 2, 2),
    window=4,
    dropout=0.1,
    drop_path=0.5,
  ),
  unetr=models.UNETR(
    3,
    features=2,
    width=8,
    depth=4,
    heads=2,
    image_size=16,
    dropout=0.1,
    drop_path=0.5,
  ),
)
ALL = SMALL | MORE
# Their maps cover mirrored or filled margins too, or lack the image's size.
OTHERWISE = {'unet2015', 'unet2018', 'unetr', 'swin_unetr'}


def shapes_of(tree):
  return jax.tree.map(jnp.shape, tree)


def size(tree):
  return sum(p.size for p in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', ALL)
def test_odd_images_and_every_option(name):
  model = ALL[name].clone(remat=True, dtype=jnp.bfloat16)
  x = jnp.ones((1, 16, 13, 3))
  variables = jax.eval_shape(model.init, KEY, x)
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype('f4')}

  def run(variables):
    def loss(params):
      y, _ = model.apply(
        {**variables, 'params': params}, x, train=True,
        mutable=['batch_stats'], rngs={'dropout': KEY},
      )  # fmt: skip
      return y.sum(), y

    gradients, y = jax.grad(loss, has_aux=True)(variables['params'])
    members = jax.tree.map(lambda p: jnp.stack([p, p]), variables)
    return gradients, y, jax.vmap(model.apply, (0, None))(members, x)

  gradients, y, members = jax.eval_shape(run, variables)
  assert shapes_of(gradients) == shapes_of(variables['params'])
  assert y.shape == (1, 16, 13, 3)
  assert y.dtype == jnp.float32
  assert members.shape == (2, *y.shape)


@pytest.mark.parametrize('name', ALL)
def test_features_are_the_pyramid(name):
  x = jnp.ones((2, 9, 11, 7, 1))
  y, variables = jax.eval_shape(ALL[name].init_with_output, KEY, x)
  assert y.shape == (*x.shape[:-1], 3)
  names = []

  def features(key):
    maps, variables = ALL[name].init_with_output(key, x, features=True)
    names.extend(maps)
    return maps, variables

  maps, backbone = jax.eval_shape(features, KEY)
  stages = sum(n.startswith('stage_') for n in names)
  decoders = sum(n.startswith('decoder_') for n in names)
  assert names == (
    [f'stage_{i}' for i in range(stages)]
    + [f'decoder_{i}' for i in range(decoders)]
    + ['pooled', 'logits']
  )
  assert stages >= 2
  assert decoders >= 1
  channels = maps[f'stage_{stages - 1}'].shape[-1]
  assert maps['pooled'].shape == (2, channels)
  assert maps['pooled'].dtype == jnp.float32
  if name not in OTHERWISE:
    assert maps['decoder_0'].shape[:-1] == x.shape[:-1]
  assert maps['logits'].shape == y.shape
  assert shapes_of(backbone) == shapes_of(variables)


@pytest.mark.parametrize('name', SMALL)
def test_a_few_steps_lower_the_loss(name):
  model, task = SMALL[name].clone(dropout=0.0), Segmentation(num_classes=3)
  if hasattr(model, 'drop_path'):
    model = model.clone(drop_path=0.0)
  rng = np.random.default_rng(0)
  mask = rng.integers(0, 3, (2, 12, 12))
  noise = 0.3 * rng.normal(size=(2, 12, 12, 1))
  image = jnp.asarray(mask[..., None] - 1 + noise, jnp.float32)
  batch = {'image': image, 'mask': mask}
  tx = optax.adam(1e-2)

  def train(key):
    variables = model.init(key, image)
    params, state = variables['params'], tx.init(variables['params'])
    stats = {k: v for k, v in variables.items() if k != 'params'}

    def step(carry, _):
      params, state, stats = carry

      def loss(params):
        outputs, updates = model.apply(
          {'params': params, **stats}, image, train=True,
          mutable=list(stats),
        )  # fmt: skip
        losses = task.loss(lambda image: outputs, {**batch, 'image': image})
        return losses.mean(), updates

      (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
      updates, state = tx.update(gradients, state)
      return (optax.apply_updates(params, updates), state, stats), value

    return jax.lax.scan(step, (params, state, stats), length=20)[1]

  losses = jax.jit(train)(KEY)
  assert losses[-3:].mean() < 0.9 * losses[:3].mean()


def test_unet2015_is_the_paper_s_network():
  """Figure 1: 572 → 388 pixels; its layers' parameters."""
  torch = pytest.importorskip('torch')
  references = pytest.importorskip('references')
  with torch.device('meta'):
    net = references.UNet2015((1, 64, 128, 256, 512, 1024), 2)
    assert net(torch.empty(1, 1, 572, 572)).shape[-2:] == (388, 388)
  model = models.UNet2015(2)
  x = jnp.ones((1, 388, 388, 1))
  y, variables = jax.eval_shape(model.init_with_output, KEY, x)
  assert y.shape == (1, 388, 388, 2)
  count = sum(p.numel() for p in net.parameters())
  assert size(variables['params']) == count
  features = functools.partial(model.apply, features=True)
  assert jax.eval_shape(features, variables, x)['stage_0'].shape[1] == 568


@pytest.mark.parametrize('rank', [2, 3])
def test_sizes_are_monai_s(rank):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('monai.networks.nets')
  x = jnp.ones((1, *(16,) * rank, 1))
  with torch.device('meta'):
    pairs = (
      (models.VNet(2), nets.VNet(rank, 1, 2)),
      (models.SegResNet(2), nets.SegResNet(rank, 32)),
      (models.SegResNet(2, (8, 16, 32, 64)), nets.SegResNet(rank)),
    )
  for model, net in pairs:
    params = jax.eval_shape(model.init, KEY, x)['params']
    assert size(params) == sum(p.numel() for p in net.parameters())


def test_a_backbone_without_maps_is_refused():
  model = models.EncoderDecoder(2, Headed())
  with pytest.raises(ValueError, match='Headed gives no feature maps'):
    jax.eval_shape(model.init, KEY, jnp.ones((1, 32, 32, 1)))


BACKBONES = dict(
  # Strides that round up after a stem of four, or down, and a single one.
  resnet=models.ResNet(2, (1, 1), width=4),
  densenet=models.DenseNet(2, (1, 1, 1), growth=4, width=4),
  vgg=models.VGG(2, (1, 1, 1), width=4, hidden=1, norm='batch'),
  patches=Patches(),
)


@pytest.mark.parametrize('name', BACKBONES)
def test_any_backbone_any_size_the_same_parameters(name):
  model = models.EncoderDecoder(3, BACKBONES[name], features=(4, 6))
  params = []
  for shape in ((1, 32, 32, 1), (2, 21, 18, 1), (1, 16, 9, 13, 1)):
    x = jnp.ones(shape)
    y, variables = jax.eval_shape(model.init_with_output, KEY, x)
    assert y.shape == (*shape[:-1], 3)
    params.append(shapes_of(variables['params']))
  assert params[0] == params[1]
