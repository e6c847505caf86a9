"""Every architecture beside an independent implementation: the parity table.

python benchmarks/parity.py [NAMES…]    needs torch, monai, transformers

The networks are narrow: same code, same weights, same input. The tests measure
the same cases (tests/models/parity_test.py). To add one: a line in CASES, and
a line in PUBLISHED for every variant whose parameters are to be counted.

Columns: largest relative error of the logits in evaluation mode, in single
precision; of any parameter's gradient, and of the running statistics of batch
norm after a step in training mode, both in double precision, where no value at
the kink of a ReLU falls to either side; parameters at 1000 classes, and as
published (torchvision's or MONAI's where the paper gives none).
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medjax import models

# XLA's effort is better spent elsewhere: these programs run once.
_QUICK = {
  'xla_backend_optimization_level': 0,
  'xla_cpu_use_fusion_emitters': False,
}


@dataclasses.dataclass(frozen=True)
class Case:
  """Our model, and from `references` the same network in torch.

  `variables` gives (net, read, template) as our variables; None:
  `references.as_flax`.
  """

  reference: str
  model: Any
  net: Callable[[Any], Any]
  shape: Sequence[int]
  variables: Callable | None = None


_STAGES = dict(stage_sizes=(1, 2, 1, 1), width=4)
_DENSE = dict(stage_sizes=(2, 1), growth=4, width=8)
_V3 = ((1, 3, 1, 16, True, False, 2), (1, 5, 2.5, 16, True, True, 1))


def _resnet(block, shape, stem='imagenet'):
  model = models.ResNet(3, block=block, stem=stem, **_STAGES)
  rank = len(shape) - 2
  net = lambda r: r.monai_resnet(block, **_STAGES, rank=rank, stem=stem)
  return Case('MONAI', model, net, shape)


def _densenet(*shape):
  net = lambda r: r.monai_densenet(**_DENSE, rank=len(shape) - 2)
  return Case('MONAI', models.DenseNet(3, **_DENSE), net, shape)


_EFFICIENT = dict(
  width=0.25, depth=0.9, stages=((1, 3, 1, 16, 1), (2, 5, 2, 24, 2))
)
_NEXT = dict(stage_sizes=(1, 1), width=4)
_VIT = dict(
  width=8, depth=2, heads=2, hidden=12, patch_size=(3, 3, 2),
  image_size=(6, 9, 4),
)  # fmt: skip


def _efficientnet(*shape):
  model = models.EfficientNet(3, **_EFFICIENT, drop_path=0.0)
  net = lambda r: r.monai_efficientnet(**_EFFICIENT, shape=shape)
  return Case('MONAI', model, net, shape)


def _segmentation(name, *arguments):
  """A network of `references_segmentation`."""

  def net(references, **options):
    del references
    import references_segmentation

    return getattr(references_segmentation, name)(*arguments, **options)

  return net


def _unetr(*shape):
  sizes = dict(features=4, width=12, heads=2, hidden=16)
  model = models.UNETR(3, **sizes, image_size=shape[1:-1])
  net = lambda r: _segmentation('monai_unetr', shape[1:-1])(r, **sizes)
  return Case('MONAI', model, net, shape)


def _swin_unetr(*shape):
  sizes = dict(features=12, heads=(1, 2, 2, 3), window=2)
  model = models.SwinUNETR(3, depths=(1, 2, 1, 1), **sizes)
  net = lambda r: _segmentation('monai_swin_unetr', len(shape) - 2)(r, **sizes)
  return Case('MONAI', model, net, shape)


def _mednext(*shape):
  model = models.MedNeXt(3, (1, 2, 1), (2, 3, 2), width=4)
  return Case(
    'MONAI', model, _segmentation('monai_mednext', len(shape) - 2), shape
  )


CASES = {
  'lenet': Case(
    'torch.nn', models.LeNet5(3), lambda r: r.lenet(), (2, 32, 32, 1)
  ),
  'alexnet': Case(
    'torch.nn',
    models.AlexNet(3, features=(4, 6, 8, 6, 5), hidden=7),
    lambda r: r.alexnet(),
    (2, 67, 90, 1),
  ),
  **{
    name: Case(
      'torch.nn',
      models.VGG(3, (1, 2), width=4, hidden=7, norm=norm),
      lambda r, norm=norm: r.vgg(norm),
      (2, 21, 36, 1),
    )
    for name, norm in (('vgg', None), ('vgg_bn', 'batch'))
  },
  'resnet_basic': _resnet('basic', (2, 33, 36, 1)),
  'resnet_bottleneck': _resnet('bottleneck', (2, 33, 36, 1)),
  'resnet_3d': _resnet('bottleneck', (2, 8, 9, 11, 1), stem='small'),
  'densenet': _densenet(2, 37, 45, 1),
  'densenet_3d': _densenet(2, 17, 20, 24, 1),
  'mobilenet_v2': Case(
    'transformers',
    models.MobileNetV2(3, width=0.5, epsilon=1e-3),
    lambda r: r.transformers_mobilenet_v2(0.5),
    (2, 37, 45, 1),
  ),
  'mobilenet_v3': Case(
    'torch.nn',
    models.MobileNetV3Small(3, stages=_V3, hidden=8, momentum=0.99),
    lambda r: r.mobilenet_v3(),
    (2, 21, 28, 1),
  ),
  'inception': Case(
    'torch.nn',
    models.InceptionV3(3, width=1 / 16),
    lambda r: r.inception(),
    (2, 299, 299, 1),
  ),
  'unet': Case(
    'MONAI',
    models.UNet(3, (4, 6, 8)),
    lambda r: r.monai_unet(),
    (2, 8, 12, 8, 1),
  ),
  'unet_attention': Case(
    'torch.nn',
    models.UNet(3, (4, 6, 8), attention=True),
    lambda r: r.AttentionUNet(),
    (2, 16, 12, 1),
  ),
  'unet2015': Case(
    'torch.nn',
    models.UNet2015(3, (4, 6, 8)),
    lambda r: r.UNet2015(margin=20),
    (2, 24, 24, 1),
  ),
  'unet2018': Case(
    'MONAI',
    models.UNet2018(3, (4, 6, 8), norm='batch'),
    _segmentation('monai_unet2018'),
    (2, 16, 24, 1),
  ),
  'resenc': Case(
    'dynamic_network_architectures',
    models.ResEncUNet(3, (4, 6, 8), blocks_per_stage=(1, 2, 2)),
    _segmentation('nnunet_resenc'),
    (2, 16, 24, 1),
  ),
  'swin_unetr': _swin_unetr(2, 64, 64, 1),
  'swin_unetr_3d': _swin_unetr(2, 32, 32, 64, 1),
  'unetr': _unetr(2, 32, 16, 1),
  'unetr_3d': _unetr(2, 16, 16, 32, 1),
  'mednext': _mednext(2, 16, 12, 1),
  'mednext_3d': _mednext(2, 4, 8, 4, 1),
  'segresnet': Case(
    'MONAI',
    models.SegResNet(3, (8, 16), (1, 2)),
    lambda r: r.monai_segresnet(),
    (2, 6, 8, 10, 1),
  ),
  'vnet': Case(
    'MONAI',
    models.VNet(3, (2, 4, 8, 16, 32)),
    lambda r: r.monai_vnet(),
    (2, 32, 16, 2),
  ),
  'encoder_decoder': Case(
    'torch.nn',
    models.EncoderDecoder(3, models.ResNet(3, (1,), width=4), features=(4, 6)),
    lambda r: r.EncoderDecoder(),
    (2, 13, 16, 1),
  ),
  'efficientnet': _efficientnet(2, 33, 33, 1),
  'efficientnet_3d': _efficientnet(2, 9, 9, 9, 1),
  'convnext': Case(
    'transformers',
    models.ConvNeXt(3, **_NEXT, drop_path=0.0),
    lambda r: r.transformers_convnext(**_NEXT),
    (2, 31, 37, 1),
  ),
  'vit_3d': Case(
    'MONAI', models.ViT(3, **_VIT), lambda r: r.monai_vit(**_VIT),
    (2, 6, 9, 4, 1),
  ),
}  # fmt: skip

# Of each variant the case that stands for it and its parameters, at 1000
# classes and three channels unless `count` is told otherwise.
_VOLUME = (1, 16, 16, 16, 1)
PUBLISHED = {
  'LeNet5': ('lenet', 61_706, 10, (1, 32, 32, 1)),
  'AlexNet': ('alexnet', 61_100_840),
  'VGG11': ('vgg', 132_863_336),
  'VGG11BN': ('vgg_bn', 132_868_840),
  'VGG13': ('vgg', 133_047_848),
  'VGG13BN': ('vgg_bn', 133_053_736),
  'VGG16': ('vgg', 138_357_544),
  'VGG16BN': ('vgg_bn', 138_365_992),
  'VGG19': ('vgg', 143_667_240),
  'VGG19BN': ('vgg_bn', 143_678_248),
  'ResNet18': ('resnet_basic', 11_689_512),
  'ResNet34': ('resnet_basic', 21_797_672),
  'ResNet50': ('resnet_bottleneck', 25_557_032),
  'ResNet101': ('resnet_bottleneck', 44_549_160),
  'ResNet152': ('resnet_bottleneck', 60_192_808),
  'InceptionV3': ('inception', 27_161_264),
  'MobileNetV2': ('mobilenet_v2', 3_504_872),
  'MobileNetV3Small': ('mobilenet_v3', 2_542_856),
  'MobileNetV3Large': ('mobilenet_v3', 5_483_032),
  'DenseNet121': ('densenet', 7_978_856),
  'DenseNet169': ('densenet', 14_149_480),
  'UNet2015': ('unet2015', 31_030_658, 2, (1, 388, 388, 1)),
  'EfficientNetB0': ('efficientnet', 5_288_548),
  'EfficientNetB1': ('efficientnet', 7_794_184),
  'EfficientNetB2': ('efficientnet', 9_109_994),
  'EfficientNetB3': ('efficientnet', 12_233_232),
  'EfficientNetB4': ('efficientnet', 19_341_616),
  'ConvNeXtT': ('convnext', 28_589_128),
  'ConvNeXtS': ('convnext', 50_223_688),
  'ViTS16': ('vit_3d', 22_050_664),
  'ViTB16': ('vit_3d', 86_567_656),
  'MedNeXtS': ('mednext_3d', 5_550_914, 2, _VOLUME),
  'MedNeXtB': ('mednext_3d', 10_510_850, 2, _VOLUME),
  'MedNeXtM': ('mednext_3d', 17_533_506, 2, _VOLUME),
  'MedNeXtL': ('mednext_3d', 61_726_754, 2, _VOLUME),
}


def count(name):
  """Parameters of a variant."""
  num_classes, shape = (*PUBLISHED[name][2:], 1000, (1, 75, 75, 3))[:2]
  model = getattr(models, name)(num_classes=num_classes)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones(shape))
  return sum(p.size for p in jax.tree.leaves(shapes['params']))


def measure(case):
  """{'forward', 'gradient', 'statistics'}: largest relative errors, NaN: none.

  Raises:
    ImportError: where the reference's package is missing.
    ValueError: if parameters have no counterpart, or the reference gives the
      same for any input.
  """
  import references
  import torch

  torch.manual_seed(0)
  net = case.net(references)
  _perturb(torch, net)
  model = case.model.clone(dropout=0.0)
  x = np.random.default_rng(0).normal(size=case.shape).astype('f')
  x[1:] *= 5  # Means of noise of one strength would be too much alike.
  variables_of = functools.partial(
    case.variables or references.as_flax,
    net,
    template=jax.eval_shape(model.init, jax.random.key(0), x),
  )
  return {
    'forward': _forward(torch, model, net, variables_of(_read), x),
    **_training(torch, model, net, variables_of, x),
  }


def _read(tensor):
  return tensor.detach().numpy().copy()


def _perturb(torch, net):
  """Moves what torch makes one or zero, so that nothing passes by being it.

  Kernels grow to He's variance: under torch's own the signal of a deep network
  dies out, and its logits are those of no input at all.
  """
  with torch.no_grad():
    for name, p in (*net.named_parameters(), *net.named_buffers()):
      if p.ndim == 1:
        noise = 0.1 * torch.randn_like(p)
        p.add_(noise.abs() if 'running' in name else noise)
      elif p.ndim > 2:
        fan = p[0].numel()
        p.normal_(std=(2 / fan) ** 0.5)


def _outputs(y):
  """Outputs as a list: a network may give several, or name its logits."""
  y = getattr(y, 'logits', y)
  return list(y) if isinstance(y, tuple | list) else [y]


def _error(ours, theirs, least=0.0):
  """Largest error by the largest value, or by `least` if that is larger."""
  scale = max(np.abs(theirs).max(), least)
  return float(np.abs(np.asarray(ours) - theirs).max() / scale)


def _forward(torch, model, net, variables, x):
  net.eval()
  with torch.no_grad():
    (y,) = _outputs(net(torch.tensor(np.moveaxis(x, -1, 1).copy())))
  expected = np.moveaxis(_read(y), 1, -1)
  if np.ptp(expected, axis=0).max() < 1e-3 * np.abs(expected).max():
    raise ValueError('the reference ignores its input')
  y = jax.jit(model.apply, compiler_options=_QUICK)(variables, x)
  return _error(y, expected)


def _training(torch, model, net, variables_of, x):
  """Errors of a step's gradients and batch statistics, double precision."""
  net.double().train()
  before = variables_of(_read)
  _torch_step(torch, net, x)
  after = variables_of(lambda p: _read(p if p.grad is None else p.grad))
  theirs = after.pop('params')
  with jax.enable_x64(True):
    ours, updates = _our_step(model, before, x)
  # A bias before a norm has no gradient but rounding.
  largest = max(np.abs(g).max() for g in jax.tree.leaves(theirs))
  error = functools.partial(_error, least=1e-3 * largest)
  gradient = jax.tree.leaves(jax.tree.map(error, ours, theirs))
  statistics = jax.tree.leaves(jax.tree.map(_error, updates, after))
  return {
    'gradient': max(gradient),
    'statistics': max(statistics, default=float('nan')),
  }


def _torch_step(torch, net, x):
  """Backward pass; running variances become flax's, the biased ones."""
  nn, sizes, before = torch.nn, {}, {}
  for module in net.modules():
    if isinstance(module, (nn.Dropout, nn.Dropout2d, nn.Dropout3d)):
      module.p = 0.0
    if getattr(module, 'running_var', None) is not None:
      before[module] = module.running_var.clone()
      module.register_forward_hook(
        lambda m, i, o: sizes.__setitem__(m, i[0].numel() / i[0].shape[1])
      )
  y = _outputs(net(torch.tensor(np.moveaxis(x, -1, 1).copy()).double()))
  sum(z.sin().mean() for z in y).backward()
  for module, n in sizes.items():
    kept = (1 - module.momentum) * before[module]
    added = (module.running_var - kept) * (n - 1) / n
    module.running_var.copy_(kept + added)


def _our_step(model, variables, x):
  """Gradients and updated statistics."""

  @functools.partial(jax.jit, compiler_options=_QUICK)
  @functools.partial(jax.grad, has_aux=True)
  def step(params, x):
    y, updates = model.apply(
      {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
    )
    return sum(jnp.sin(z).mean() for z in _outputs(y)), dict(updates)

  return jax.tree.map(np.asarray, step(variables['params'], x.astype('d')))


def table(names):
  """Prints a line per variant of the cases, and per case without one."""
  print(
    '| model | reference | forward | gradient | statistics | parameters '
    '| published |\n|---|---|---|---|---|---|---|'
  )
  for name in names:
    case = CASES[name]
    try:
      errors = [f'{e:.1e}' for e in measure(case).values()]
    except ImportError as e:
      errors = [f'left out: {e}', '', '']
    variants = {k: v[1] for k, v in PUBLISHED.items() if v[0] == name}
    for variant, published in (variants or {name: None}).items():
      counts = ['–', '–']
      if published:
        counts = [f'{count(variant):,}', f'{published:,}']
      line = [variant, case.reference, *errors, *counts]
      print('|', ' | '.join(line).replace('nan', '–'), '|', flush=True)


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description='The parity table.')
  parser.add_argument('names', nargs='*', help=f'of {", ".join(CASES)} [all]')
  chosen = parser.parse_args().names or list(CASES)
  if unknown := set(chosen) - set(CASES):
    parser.error(f'no case {sorted(unknown)}; there are {", ".join(CASES)}')
  table(chosen)
