"""One model of several sites: medjax federated simulate --config=…

--config=configs/federated.py: PneumoniaMNIST, which has no sites: they are
  drawn, --sites='dirichlet(0.5, 5)'. A narrow ResNet with batch norm, which is
  what sites differ in, and plain SGD, which scaffold needs.
--config=configs/federated.py:adrenalmnist3d: shapes of adrenal glands in 3-D,
  normal or not; its sites are drawn, too.
--config=configs/federated.py:pneumoniamnist,private: with differential privacy
  at every site, --set=privacy.epsilon=3 (by default 8).
--config=configs/federated.py:vessels: CHASE_DB1, a small U-Net; its sites are
  children, --sites=patient. Those of validation and test are at no site that
  trains.
--config=configs/federated.py:folder: your own images, --set=data.path=DIR, and
  a column of the table that says the site, --sites=site.
"""

from medjax.config import default_config


def get_config(variant='pneumoniamnist'):
  """The experiment on X-rays, glands, vessels or a folder: `variant`.

  'VARIANT,private' gives each site a privacy budget.
  """
  variant, _, way = variant.partition(',')
  if way not in ('', 'private'):  # no site may train without what it asked for
    raise ValueError(
      f'federated.py: VARIANT or VARIANT,private, not {variant!r} with {way!r}'
    )
  if way and variant == 'vessels':
    raise ValueError(
      'federated.py: private has a network of classes, which is not for '
      'vessels: take another variant'
    )
  config = pictures(variant)
  return private(config) if way == 'private' else config


def pictures(variant):
  """Images in classes, or what else the variant is."""
  config = default_config()
  if variant == 'vessels':
    return vessels(config)
  if variant == 'folder':
    config.data.name = 'folder'
    resize = (dict(name='resize', shape=(64, 64)),)
  elif variant in ('pneumoniamnist', 'adrenalmnist3d'):
    config.data.name = f'medmnist/{variant}'
    resize = ()
  else:
    raise ValueError(
      'the variants are pneumoniamnist, adrenalmnist3d, vessels and folder, '
      f'not {variant!r}'
    )
  config.data.batch_size = 32
  config.data.preprocess = (*resize, dict(name='scale', mean=127.5, std=127.5))
  config.augment = (
    dict(name='affine', p=0.5, rotate=10.0, scale=(0.9, 1.1), translate=2.0),
  )
  config.model = dict(
    name='ResNet18', width=8, stage_sizes=(1, 1, 1), stem='small'
  )
  config.task = dict(name='Classification')
  config.optimizer.update(name='sgd', learning_rate=0.05)
  config.schedule.update(name='cosine')
  config.inference.batch_size = 64
  if variant == 'adrenalmnist3d':  # in 3-D a stem that strides is a tenth
    config.model.stem = 'imagenet'
    config.augment = (dict(name='flip', p=0.5),)
  return config


def private(config):
  """The same with a budget: few parameters, GroupNorm, as configs/resnet.py."""
  config.data.batch_size = 64
  config.augment = ()
  config.model = dict(
    name='ResNet18',
    width=16,
    stage_sizes=(1, 1),
    stem='imagenet',
    norm='group',
  )
  config.optimizer.update(name='adamw', learning_rate=1.5e-2, weight_decay=0.0)
  config.schedule.update(name='constant')
  config.privacy.update(epsilon=8.0, microbatch=8)
  return config


def vessels(config):
  """Colour patches of the eyes of ten children, four of whom are others'."""
  config.data.update(name='chase_db1', batch_size=2)
  config.data.splits = dict(
    train='train[:16]', validation='train[16:]', test='test'
  )
  config.data.preprocess = (dict(name='zscore'),)
  config.data.update(patch_size=(96, 96), foreground=0.9)
  config.augment = (dict(name='flip', p=0.5),)
  config.model = dict(name='UNet', features=(8, 16, 32))
  config.task = dict(name='Segmentation', num_classes=2)
  config.optimizer.update(name='sgd', learning_rate=0.1)
  config.inference.update(batch_size=16, overlap=0.25)
  return config
