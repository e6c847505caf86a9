"""MedMNIST against its own table, three seeds: 0, 1, 2 (--config.seed).

--config=configs/benchmarks/medmnist.py:pneumoniamnist,official: their recipe:
  Adam, steps, no augmentation, best epoch by validation AUC; on a network of a
  quarter of the width, 10 epochs instead of 100: what two CPU cores do.
--config=configs/benchmarks/medmnist.py:pneumoniamnist,best: ours.
--config=configs/benchmarks/medmnist.py:adrenalmnist3d,official and ,best: the
  same in 3-D; ours sees the thickness of the gland along three axes, and so is
  for sets of shapes: this and vesselmnist3d.

Command, time and scores: benchmarks/RESULTS.md.
"""

from medjax.config import default_config

# Training images of each set, without the size that its name may end in.
IMAGES = dict(
  pathmnist=89996, chestmnist=78468, dermamnist=7007, octmnist=97477,
  pneumoniamnist=4708, retinamnist=1080, breastmnist=546, bloodmnist=11959,
  tissuemnist=165466, organamnist=34561, organcmnist=12975, organsmnist=13932,
  organmnist3d=971, nodulemnist3d=1158, adrenalmnist3d=1188,
  fracturemnist3d=1027, vesselmnist3d=1335, synapsemnist3d=1230,
)  # fmt: skip
SHAPES = ('adrenalmnist3d', 'vesselmnist3d')  # volumes of 0 and 255


def get_config(variant='pneumoniamnist,best'):
  """A set and a recipe: 'pneumoniamnist,official'."""
  name, _, recipe = variant.partition(',')
  recipes = dict(official=official, best=best)
  if recipe not in recipes or name.partition('_')[0] not in IMAGES:
    raise ValueError(
      f'medmnist.py:SET,RECIPE has the recipes {", ".join(recipes)} and the '
      f'sets {", ".join(IMAGES)}; not {variant!r}'
    )
  if '3d' in name and recipe == 'best' and not name.startswith(SHAPES):
    raise ValueError(
      f'best in 3-D is for shapes ({", ".join(SHAPES)}), not {name}: take '
      'official'
    )
  config = default_config()
  config.data.name = f'medmnist/{name}'
  config.task = dict(
    name='Classification', multi_label=name.startswith('chestmnist')
  )
  return recipes[recipe](config, name)


def official(config, name):
  """MedMNIST v2's recipe, made smaller."""
  volumes = '3d' in name
  config.data.batch_size = 32 if volumes else 128
  if volumes:  # 0 and 1/2, in training 0 and anything up to 1
    config.data.preprocess = (dict(name='scale', std=510.0),)
    config.augment = (dict(name='brightness', p=1.0, factor=(0.01, 2.0)),)
  else:
    config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.model = dict(
    name='ResNet18',
    width=16,
    stem='imagenet' if volumes else 'small',
  )
  config.optimizer.update(name='adam', learning_rate=1e-3)
  config.schedule = dict(name='step')
  images = IMAGES[name.partition('_')[0]]
  epoch = images // config.data.batch_size + 1
  config.train.update(steps=10 * epoch, log_every=epoch, eval_every=epoch)
  config.inference.batch_size = 64
  return config


def best(config, name):
  """Augmentation, AdamW, a cosine, averaged weights."""
  volumes = '3d' in name
  if volumes:
    config.data.batch_size = 32
    config.data.preprocess = (
      dict(name='distance_map', threshold=127.0),
      dict(name='orthogonal_views', of='max'),
    )
    config.augment = (
      dict(name='flip', p=0.5),
      dict(name='affine', p=0.8, rotate=30.0, scale=(0.9, 1.1), translate=2.0),
    )
    config.train.update(steps=1000, eval_every=100)
  else:
    config.data.batch_size = 64
    config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
    config.augment = (
      dict(name='affine', p=0.8, rotate=10.0, scale=(0.9, 1.1), translate=2.0),
      dict(name='brightness', p=0.3, factor=(0.8, 1.2)),
      dict(name='contrast', p=0.3, factor=(0.8, 1.2)),
    )
    config.train.update(steps=1500, eval_every=150)
  config.train.update(log_every=25, ema_decay=0.99)
  config.model = dict(name='ResNet18', width=16, stem='small')
  config.optimizer.update(learning_rate=2e-3, weight_decay=1e-2)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.inference.batch_size = 64
  return config
