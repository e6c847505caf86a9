"""What every segmentation architecture must do, and parity of its members."""

import collections
import functools
import itertools
import re

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


def shapes_of(tree):
  return jax.tree.map(jnp.shape, tree)


def size(tree):
  return sum(p.size for p in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', SMALL)
def test_odd_images_and_every_option(name):
  model = SMALL[name].clone(remat=True, dtype=jnp.bfloat16)
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


@pytest.mark.parametrize('name', SMALL)
def test_features_are_the_pyramid_and_need_no_head(name):
  x = jnp.ones((2, 9, 11, 7, 1))
  y, variables = jax.eval_shape(SMALL[name].init_with_output, KEY, x)
  assert y.shape == (*x.shape[:-1], 3)
  names = []

  def features(key):
    maps, variables = SMALL[name].init_with_output(key, x, features=True)
    names.extend(maps)
    return maps, variables

  maps, backbone = jax.eval_shape(features, KEY)
  stages = sum(n.startswith('stage_') for n in names)
  decoders = sum(n.startswith('decoder_') for n in names)
  assert names == (
    [f'stage_{i}' for i in range(stages)]
    + [f'decoder_{i}' for i in range(decoders)]
    + ['pooled']
  )
  assert stages >= 2
  assert decoders >= 1
  channels = maps[f'stage_{stages - 1}'].shape[-1]
  assert maps['pooled'].shape == (2, channels)
  assert maps['pooled'].dtype == jnp.float32
  if name != 'unet2015':  # its maps cover the mirrored margins too
    assert maps['decoder_0'].shape[:-1] == x.shape[:-1]
  del variables['params']['head']
  assert shapes_of(backbone['params']) == shapes_of(variables['params'])


@pytest.mark.parametrize('name', SMALL)
def test_a_few_steps_lower_the_loss(name, quick):
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
        return task.loss(outputs, batch).mean(), updates

      (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
      updates, state = tx.update(gradients, state)
      return (optax.apply_updates(params, updates), state, stats), value

    return jax.lax.scan(step, (params, state, stats), length=20)[1]

  losses = quick(train)(KEY)
  assert losses[-3:].mean() < 0.9 * losses[:3].mean()


# What the modules of a MONAI network are called here.
MONAI = dict(
  unet={
    r'input_block': 'encoder_0',
    r'downsamples.0': 'encoder_1',
    r'bottleneck': 'encoder_2',
    r'upsamples.0.transp_conv.conv': 'upsample_1',
    r'upsamples.1.transp_conv.conv': 'upsample_0',
    r'upsamples.0.conv_block': 'decoder_1',
    r'upsamples.1.conv_block': 'decoder_0',
    r'conv1.conv': 'conv_0',
    r'conv2.conv': 'conv_1',
    r'norm1': 'norm_0',
    r'norm2': 'norm_1',
    r'output_block.conv.conv': 'head',
  },
  segresnet={
    r'convInit.conv': 'stem',
    r'down_layers.(\d).0.conv': r'stage_\1_down',
    r'down_layers.0.1': 'stage_0_block_0',
    r'down_layers.1.1': 'stage_1_block_0',
    r'down_layers.1.2': 'stage_1_block_1',
    r'up_samples.0.0.conv': 'decoder_0_up',
    r'up_layers.0.0': 'decoder_0_block_0',
    r'conv1.conv': 'conv_0',
    r'conv2.conv': 'conv_1',
    r'norm1': 'norm_0',
    r'norm2': 'norm_1',
    r'conv_final.0': 'norm',
    r'conv_final.2.conv': 'head',
  },
  vnet={
    r'in_tr.conv_block': 'stem',
    r'(down_tr\d+).down_conv': r'\1.conv',
    r'(down_tr\d+).bn1': r'\1.norm',
    r'down_tr32.ops': 'encoder_1',
    r'down_tr64.ops': 'encoder_2',
    r'down_tr128.ops': 'encoder_3',
    r'down_tr256.ops': 'encoder_4',
    r'down_tr32': 'down_1',
    r'down_tr64': 'down_2',
    r'down_tr128': 'down_3',
    r'down_tr256': 'down_4',
    r'up_tr(\d+).up_conv': r'up_tr\1.up',
    r'up_tr(\d+).bn1': r'up_tr\1.up_norm',
    r'up_tr32.(up|up_norm)$': r'\1_0',
    r'up_tr64.(up|up_norm)$': r'\1_1',
    r'up_tr128.(up|up_norm)$': r'\1_2',
    r'up_tr256.(up|up_norm)$': r'\1_3',
    r'up_tr32.ops': 'decoder_0',
    r'up_tr64.ops': 'decoder_1',
    r'up_tr128.ops': 'decoder_2',
    r'up_tr256.ops': 'decoder_3',
    r'\.(\d)\.conv_block': r'.layer_\1',
    r'out_tr.conv_block': 'head.layer',
    r'out_tr.conv2': 'head.logits',
    r'adn.N': 'norm',
  },
)


def as_flax(net, names, template, read):
  """What `read` gives of a torch network's tensors, in the tree `template`.

  A bias that torch does not have is zero.
  """
  torch = pytest.importorskip('torch')
  flat = {}
  for name, module in net.named_modules():
    if not isinstance(getattr(module, 'weight', None), torch.Tensor):
      continue
    for pattern, ours in names.items():
      name = re.sub(pattern, ours, name)
    weight = read(module.weight)
    if weight.ndim == 1:
      leaves = {'params/scale': weight}
    elif isinstance(module, torch.nn.modules.conv._ConvTransposeNd):
      leaves = {'params/kernel': np.moveaxis(weight, (0, 1), (-2, -1))}
    else:
      leaves = {'params/kernel': np.moveaxis(weight, (1, 0), (-2, -1))}
    if module.bias is not None:
      leaves['params/bias'] = read(module.bias)
    if getattr(module, 'running_mean', None) is not None:
      leaves['batch_stats/mean'] = read(module.running_mean)
      leaves['batch_stats/var'] = read(module.running_var)
    for key, value in leaves.items():
      collection, leaf = key.split('/')
      path = f'{collection}.{name}.{leaf}'
      assert path not in flat, path
      flat[path] = value

  def put(path, like):
    path = '.'.join(k.key for k in path)
    if path.endswith('.bias') and path not in flat:
      return np.zeros(like.shape)
    return flat.pop(path).reshape(like.shape)

  tree = jax.tree_util.tree_map_with_path(put, template)
  assert not flat, f'{sorted(flat)} have no place'
  return tree


def perturb(torch, net):
  """Moves what torch makes one or zero, so that nothing passes by being it.

  Kernels grow to He's variance, or the signal dies out.
  """
  with torch.no_grad():
    for name, p in (*net.named_parameters(), *net.named_buffers()):
      if p.ndim == 1:
        noise = 0.1 * torch.randn_like(p)
        p.add_(noise.abs() if 'running' in name else noise)
      elif p.ndim > 2:
        p.mul_(6**0.5)


def unet2015(torch):
  """Valid convolutions, on an image with mirrored borders."""
  nn = torch.nn

  class Net(nn.Module):
    def __init__(self, widths=(1, 4, 6, 8), classes=3):
      super().__init__()
      for i, (a, b) in enumerate(itertools.pairwise(widths)):
        stage = {'conv_0': nn.Conv2d(a, b, 3), 'conv_1': nn.Conv2d(b, b, 3)}
        setattr(self, f'encoder_{i}', nn.ModuleDict(stage))
      for i, (a, b) in enumerate(itertools.pairwise(widths[1:])):
        setattr(self, f'upsample_{i}', nn.ConvTranspose2d(b, a, 2, 2))
        stage = {'conv_0': nn.Conv2d(2 * a, a, 3)}
        stage['conv_1'] = nn.Conv2d(a, a, 3)
        setattr(self, f'decoder_{i}', nn.ModuleDict(stage))
      self.head, self.depth = nn.Conv2d(widths[1], classes, 1), len(widths) - 1

    def forward(self, x):
      skips = []
      for i in range(self.depth):
        stage = getattr(self, f'encoder_{i}')
        x = nn.functional.max_pool2d(x, 2) if i else x
        x = stage['conv_1'](stage['conv_0'](x).relu()).relu()
        skips.append(x)
      for i in reversed(range(self.depth - 1)):
        stage = getattr(self, f'decoder_{i}')
        x = getattr(self, f'upsample_{i}')(x)
        cut = (skips[i].shape[-1] - x.shape[-1]) // 2
        skip = nn.functional.pad(skips[i], (-cut,) * 4)
        x = stage['conv_0'](torch.cat([skip, x], 1)).relu()
        x = stage['conv_1'](x).relu()
      return self.head(x)

  return Net


def test_unet2015_is_the_paper_s_network():
  """Figure 1: 572 → 388 pixels; its layers' parameters."""
  torch = pytest.importorskip('torch')
  with torch.device('meta'):
    net = unet2015(torch)((1, 64, 128, 256, 512, 1024), 2)
    assert net(torch.empty(1, 1, 572, 572)).shape[-2:] == (388, 388)
  model = models.UNet2015(2)
  x = jnp.ones((1, 388, 388, 1))
  y, variables = jax.eval_shape(model.init_with_output, KEY, x)
  assert y.shape == (1, 388, 388, 2)
  count = sum(p.numel() for p in net.parameters())
  assert size(variables['params']) == count == 31_030_658
  features = functools.partial(model.apply, features=True)
  assert jax.eval_shape(features, variables, x)['stage_0'].shape[1] == 568


def attention_unet(torch):
  """Two convolutions per stage, and the gate of Oktay et al., equation 1."""
  nn = torch.nn

  def stage(i, o, stride):
    layers = {
      'conv_0': nn.Conv2d(i, o, 3, stride, 1),
      'norm_0': nn.InstanceNorm2d(o, affine=True),
      'relu_0': nn.LeakyReLU(0.01),
      'conv_1': nn.Conv2d(o, o, 3, 1, 1),
      'norm_1': nn.InstanceNorm2d(o, affine=True),
      'relu_1': nn.LeakyReLU(0.01),
    }
    return nn.Sequential(collections.OrderedDict(layers))

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      self.encoder_0, self.encoder_1 = stage(1, 4, 1), stage(4, 6, 2)
      self.encoder_2 = stage(6, 8, 2)
      gate = {
        'skip': nn.Conv2d(6, 6, 2, 2, bias=False),
        'signal': nn.Conv2d(8, 6, 1),
        'weight': nn.Conv2d(6, 1, 1),
      }
      self.gate_1 = nn.ModuleDict(gate)
      self.upsample_1 = nn.ConvTranspose2d(8, 6, 2, 2)
      self.upsample_0 = nn.ConvTranspose2d(6, 4, 2, 2)
      self.decoder_1, self.decoder_0 = stage(12, 6, 1), stage(8, 4, 1)
      self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
      fine = self.encoder_0(x)
      skip = self.encoder_1(fine)
      x = self.encoder_2(skip)
      q = (self.gate_1['skip'](skip) + self.gate_1['signal'](x)).relu()
      weight = self.gate_1['weight'](q).sigmoid()
      weight = nn.functional.interpolate(
        weight, scale_factor=2, mode='bilinear'
      )
      x = torch.cat([self.upsample_1(x), weight * skip], 1)
      x = torch.cat([self.upsample_0(self.decoder_1(x)), fine], 1)
      return self.head(self.decoder_0(x))

  return Net


def encoder_decoder(torch):
  """Over `Backbone`: strides of two, and maps cropped to odd sizes."""
  nn = torch.nn

  def stage(i, o):
    layers = {}
    for k in range(2):
      block = {
        'conv': nn.Conv2d(o if k else i, o, 3, 1, 1, bias=False),
        'norm': nn.BatchNorm2d(o),
        'relu': nn.ReLU(),
      }
      layers[f'layer_{k}'] = nn.Sequential(collections.OrderedDict(block))
    return nn.Sequential(collections.OrderedDict(layers))

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      layers = {'stage_0': (1, 4), 'stage_1': (4, 6)}
      self.backbone = nn.ModuleDict(
        {k: nn.Conv2d(*v, 3, 2, 1) for k, v in layers.items()}
      )
      self.decoder_1, self.decoder_0 = stage(10, 6), stage(6, 4)
      self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
      up = lambda x, like: nn.functional.interpolate(
        x, scale_factor=2, mode='bilinear'
      )[..., : like.shape[2], : like.shape[3]]
      fine = self.backbone['stage_0'](x).relu()
      y = self.backbone['stage_1'](fine).relu()
      y = self.decoder_1(torch.cat([up(y, fine), fine], 1))
      return self.head(self.decoder_0(up(y, x)))

  return Net


def narrow_vnet(rank, channels, width):
  """MONAI's V-Net, which has no argument for its channels."""
  net = pytest.importorskip('monai.networks.nets.vnet')
  act, part = 'elu', functools.partial

  class Net(net.VNet):
    def __init__(self):
      super(net.VNet, self).__init__()
      down, up = part(net.DownTransition, rank), part(net.UpTransition, rank)
      w = [width * 2**i for i in range(5)]
      self.in_tr = net.InputTransition(rank, channels, w[0], act)
      self.down_tr32 = down(w[0], 1, act)
      self.down_tr64 = down(w[1], 2, act)
      self.down_tr128 = down(w[2], 3, act)
      self.down_tr256 = down(w[3], 2, act)
      self.up_tr256 = up(w[4], w[4], 2, act)
      self.up_tr128 = up(w[4], w[3], 2, act)
      self.up_tr64 = up(w[3], w[2], 1, act)
      self.up_tr32 = up(w[2], w[1], 1, act)
      self.out_tr = net.OutputTransition(rank, w[1], 3, act)

  return Net()


def reference(name):
  """(torch network, model, shape of an image, margin to mirror)."""
  torch = pytest.importorskip('torch')
  if name in ('unet', 'segresnet'):
    nets = pytest.importorskip('monai.networks.nets')
  if name == 'unet':
    net = nets.DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2, 2], [4, 6, 8])
    return net, models.UNet(3, (4, 6, 8)), (8, 12, 8, 1), 0
  if name == 'segresnet':
    net = nets.SegResNet(
      3, 8, 1, 3, blocks_down=(1, 2), blocks_up=(1,), dropout_prob=0.2
    )
    return net, models.SegResNet(3, (8, 16), (1, 2)), (6, 8, 10, 1), 0
  if name == 'vnet':
    model = models.VNet(3, (2, 4, 8, 16, 32))
    return narrow_vnet(2, 2, 2), model, (32, 16, 2), 0
  if name == 'unet2015':
    return unet2015(torch)(), models.UNet2015(3, (4, 6, 8)), (12, 12, 1), 20
  if name == 'attention':
    model = models.UNet(3, (4, 6, 8), attention=True)
    return attention_unet(torch)(), model, (16, 12, 1), 0
  model = models.EncoderDecoder(3, Backbone(), features=(4, 6))
  return encoder_decoder(torch)(), model, (13, 16, 1), 0


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


@pytest.mark.parametrize(
  'name',
  ['unet', 'segresnet', 'vnet', 'unet2015', 'attention', 'encoder_decoder'],
)
def test_agrees_with_torch(name, quick):
  """Logits to 1e-4 in evaluation mode, and in double precision gradients.

  In single a voxel at the kink of a ReLU falls on either side.
  """
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  net, model, shape, margin = reference(name)
  perturb(torch, net)
  net.eval()
  x = np.random.default_rng(0).normal(size=(2, *shape)).astype('f')
  pad = [(0, 0), *[(margin, margin)] * (x.ndim - 2), (0, 0)]
  tx = np.moveaxis(np.pad(x, pad, mode='reflect'), -1, 1).copy()
  tx = torch.tensor(tx)
  template = jax.eval_shape(model.init, KEY, x)
  convert = functools.partial(as_flax, net, MONAI.get(name, {}), template)
  read = lambda p: p.detach().numpy()
  with torch.no_grad():
    expected = np.moveaxis(net(tx).numpy(), 1, -1)
  y = quick(model.apply)(convert(read), jnp.asarray(x))
  error = np.abs(y - expected).max() / np.abs(expected).max()
  print(f'{name}: largest relative error {error:.1e}')
  assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max()
  assert error <= 1e-4
  if name == 'unet':
    return  # unet_test.py has its gradient

  net.double()(tx.double()).sin().mean().backward()
  grad = lambda p: np.zeros(p.shape) if p.grad is None else p.grad.numpy()
  theirs = convert(grad)['params']
  with jax.enable_x64(True):
    variables = jax.tree.map(jnp.asarray, convert(read))
    x64 = jnp.asarray(x, jnp.float64)

    def loss(params):
      # The model's logits are float32: that is where precision is lost.
      return jnp.sin(model.apply({**variables, 'params': params}, x64)).mean()

    ours = jax.tree.map(np.asarray, quick(jax.grad(loss))(variables['params']))
  largest = max(np.abs(g).max() for g in jax.tree.leaves(theirs))
  close = functools.partial(
    np.testing.assert_allclose, rtol=1e-4, atol=1e-5 * largest
  )
  jax.tree.map(close, ours, theirs)


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
