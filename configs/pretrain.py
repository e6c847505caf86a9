"""Pre-training on images without labels, in 2-D and 3-D.

--config=configs/pretrain.py:DATA,METHOD or :DATA,METHOD,MODEL; DATA is a set
  of datasets/medmnist.py ('pneumoniamnist', 'adrenalmnist3d'), 'lidc_nodules',
  'hippocampus', or 'folder' with --config.data.path=DIR; METHOD one of simclr,
  moco, byol, dino, vicreg, barlow and mae; MODEL resnet, vit or, of mae, unet.

The workdir is the pretrained.path of configs/resnet.py, of configs/unet.py
(hippocampus, and an EncoderDecoder around a ResNet), or of a ViT of the same
arguments. docs/pretraining.md says how, and what it was worth.
"""

from medjax.config import default_config

SCALE = dict(name='scale', mean=127.5, std=127.5)
METHODS = {
  'simclr': dict(task=dict(name='SimCLR')),
  'moco': dict(task=dict(name='MoCo'), ema=0.99),
  'byol': dict(task=dict(name='BYOL'), ema=0.99, predictor=True),
  'dino': dict(task=dict(name='DINO'), ema=0.99, prototypes=True),
  'vicreg': dict(task=dict(name='VICReg')),
  'barlow': dict(task=dict(name='BarlowTwins')),
  'mae': dict(task=dict(name='MAE')),
}


def get_config(variant='pneumoniamnist,simclr'):
  """The experiment 'DATA,METHOD' or 'DATA,METHOD,MODEL'."""
  data, method, model, *rest = (*variant.split(','), '', '')
  if method not in METHODS or [*filter(None, rest)]:
    raise ValueError(
      f'pretrain.py:DATA,METHOD[,MODEL] has the methods {", ".join(METHODS)}, '
      f'not {variant!r}'
    )
  sets = dict(lidc_nodules=lidc_nodules, hippocampus=hippocampus, folder=folder)
  config, side = sets[data]() if data in sets else medmnist(data)
  model = model or ('unet' if data == 'hippocampus' else 'resnet')
  if model == 'unet' and method != 'mae':
    raise ValueError(
      f'pretrain.py: {method} compares images, which trains no decoder of a '
      f'UNet: say {data},mae,unet or {data},{method},resnet'
    )
  way = METHODS[method]
  config.task = way['task']
  config.model = _model(method, way, model, side)
  if method != 'mae':
    config.augment = (dict(name='views', augment=_strong(side)),)
  config.optimizer.update(learning_rate=1e-3, weight_decay=1e-2)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(
    steps=1500, log_every=25, eval_every=250, ema_decay=way.get('ema', 0.0)
  )
  return config


def _model(method, way, model, side):
  """What wraps the backbone; that is as in the config that will load it."""
  backbone = dict(
    resnet=dict(name='ResNet18', width=16, stem='small'),
    vit=dict(
      name='ViT', width=96, depth=6, heads=4, patch_size=max(side // 8, 2),
      image_size=side,
    ),
    unet=dict(name='UNet', features=(12, 24, 48, 96)),
  )  # fmt: skip
  if model not in backbone:
    raise ValueError(f'pretrain.py: {model!r} is none of {", ".join(backbone)}')
  if method == 'mae':
    options = dict(
      maps=model == 'unet', ratio=0.75 if model == 'vit' else 0.6
    )  # SimMIM's
    return dict(name='MaskedAutoencoder', backbone=backbone[model], **options)
  options = {k: way[k] for k in ('predictor', 'prototypes') if k in way}
  return dict(name='Projected', backbone=backbone[model], **options)


def _strong(side):
  """Views of an image of some `side` voxels: parts of it, in other light."""
  return (
    dict(name='flip', p=0.5, axes=(1,)),
    dict(
      name='affine', p=0.9, rotate=15.0, scale=(0.9, 1.8),
      translate=side / 10, mode='edge',
    ),
    dict(name='brightness', p=0.8, factor=(0.6, 1.4)),
    dict(name='contrast', p=0.8, factor=(0.6, 1.4)),
    dict(name='gaussian_blur', p=0.3, sigma=(0.3, 1.0)),
    dict(name='gaussian_noise', p=0.3),
  )  # fmt: skip


def medmnist(name):
  """A set of MedMNIST."""
  config = default_config()
  config.data.update(name=f'medmnist/{name}', batch_size=128)
  config.data.preprocess = (SCALE,)
  config.inference.batch_size = 128
  size = name.rpartition('_')[2]
  side = int(size) if size.isdigit() else 28
  if '3d' in name:
    config.data.batch_size = config.inference.batch_size = 32
  return config, side


def folder():
  """Your own images, with or without labels: a folder or a table."""
  config = default_config()
  config.data.update(name='folder', batch_size=128)
  config.data.preprocess = (dict(name='resize', shape=(64, 64)), SCALE)
  return config, 64


def lidc_nodules():
  """Nodules of LIDC-IDRI: what configs/resnet.py:lidc_nodules trains on."""
  config = default_config()
  config.data.update(name='lidc_idri/nodules', batch_size=32)
  config.data.splits = dict(
    train='fold2+fold3+fold4', validation='fold1', test='fold0'
  )
  config.data.preprocess = (
    dict(name='reorient'),
    dict(name='resample', spacing=(1.0, 1.0, 2.0)),
    dict(name='window', low=-1000.0, high=400.0),
    dict(name='crop_or_pad', shape=(32, 32, 16)),
    dict(name='scale', mean=0.5, std=0.5),
  )
  config.inference.batch_size = 32
  return config, 32


def hippocampus():
  """MSD Task04: the patches that configs/unet.py:hippocampus trains on."""
  config = default_config()
  config.data.update(
    name='msd/hippocampus',
    batch_size=4,
    patch_size=(32, 48, 32),
    foreground=0.0,
  )
  config.data.splits = dict(
    train='fold1[50%:]+fold2+fold3+fold4',
    validation='fold1[:50%]',
    test='fold0',
  )
  config.data.preprocess = (dict(name='zscore'),)
  config.inference.update(batch_size=8)
  return config, 32
