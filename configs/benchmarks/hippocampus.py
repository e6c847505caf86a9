"""MSD Task04, hippocampus in MRI: nnU-Net's five folds, a narrow 3-D U-Net.

--config=configs/benchmarks/hippocampus.py:fold0: fold 0 is the test set, half
  of the next one validates, the rest trains (182 cases). What two CPU cores do.
--config=configs/benchmarks/hippocampus.py:fold0,ensemble: three such networks,
  all other folds to train on but a twentieth, which chooses nothing.
--config=configs/benchmarks/hippocampus.py:fold0,full: nnU-Net's own network and
  patch, for a GPU; its plan is what `python -m medjax.plan` finds.
--config=configs/benchmarks/hippocampus.py:fold0,small: a minute's work, for
  searches; fold0,long: the same network for 3000 steps. small-no_augmentation
  and other names of ABLATIONS leave out, add, or change one part of either.

The recipe is that of configs/unet.py:hippocampus, written out so that the table
stays true when that one moves on. Command, time and scores:
benchmarks/RESULTS.md.
"""

from medjax.config import default_config

FOLDS = 5


def get_config(variant='fold0'):
  """'fold0', 'fold3,full', 'fold0,small-no_ema', …"""
  fold, _, size = variant.partition(',')
  size, _, without = size.partition('-')
  config = default_config()
  k = int(fold.removeprefix('fold'))
  following = (k + 1) % FOLDS
  others = [f'fold{(k + i) % FOLDS}' for i in (2, 3, 4)]
  config.data.name = 'msd/hippocampus'
  config.data.splits = dict(
    train='+'.join([f'fold{following}[50%:]', *others]),
    validation=f'fold{following}[:50%]',
    test=f'fold{k}',
  )
  recipe(config)
  SIZES[size](config) if size else None
  if without:
    ABLATIONS[without](config)
  return config


def recipe(config):
  """For two CPU cores."""
  config.data.preprocess = (dict(name='zscore'),)
  # Smaller than nnU-Net's 40 x 56 x 40: twice the steps in the same time. Nor
  # are there flips but left to right: a short run is better off learning the
  # anatomy in the orientation it is asked for.
  config.data.update(batch_size=2, patch_size=(32, 48, 32))
  config.augment = (
    dict(name='affine', p=0.3, rotate=20.0, scale=(0.8, 1.25), mode='edge'),
    dict(name='gaussian_noise', p=0.1),
    dict(name='gaussian_blur', p=0.2, p_channel=0.5, sigma=(0.5, 1.0)),
    dict(name='brightness', p=0.15, factor=(0.75, 1.25)),
    dict(name='contrast', p=0.15, factor=(0.75, 1.25)),
    dict(name='low_resolution', p=0.25, p_channel=0.5, zoom=(0.5, 1.0)),
    dict(name='gamma', p=0.1, exponent=(0.7, 1.5), invert=True),
    dict(name='gamma', p=0.3, exponent=(0.7, 1.5)),
    dict(name='flip', p=0.5, axes=(0,)),
  )
  config.model = dict(name='UNet', features=(12, 24, 48, 96))
  config.task = dict(name='Segmentation', num_classes=3)
  config.optimizer.update(learning_rate=3e-3, weight_decay=1e-4, clip_norm=12.0)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(steps=3000, log_every=25, eval_every=250, ema_decay=0.995)
  config.inference.update(batch_size=8)


def ensemble(config):
  """The mean of three, trained on nearly all that nnU-Net trains on."""
  config.members = 3
  k = int(config.data.splits.test.removeprefix('fold'))
  config.data.splits = dict(
    train='+'.join(f'fold{(k + i) % FOLDS}' for i in (1, 2, 3, 4)),
    test=f'fold{k}',
  )
  config.data.held_out = 0.05
  config.train.eval_every = config.train.steps  # the last one is taken


def full(config):
  """nnU-Net's network, patch and batch; a tenth of its 1000 epochs."""
  config.data.update(batch_size=9, patch_size=(40, 56, 40))
  config.model.features = (32, 64, 128, 256)
  config.train.update(
    steps=40 * 250, log_every=250, eval_every=1000, ema_decay=0.999
  )
  config.inference.update(batch_size=32)


def small(config):
  """A narrower network, and few steps."""
  config.model.features = (8, 16, 32, 64)
  config.train.update(steps=300, eval_every=150, ema_decay=0.98)


def long(config):
  """The narrower network, trained to where it has learnt what it can."""
  small(config)
  config.train.update(steps=3000, eval_every=1500, ema_decay=0.995)


SIZES = dict(ensemble=ensemble, full=full, small=small, long=long)


def as_nnunet_optimizes(config):
  """SGD with Nesterov's momentum, and the rate falling by a power."""
  config.optimizer = dict(
    name='sgd', learning_rate=1e-2, momentum=0.99, nesterov=True,
    weight_decay=3e-5, clip_norm=12.0,
  )  # fmt: skip
  config.schedule = dict(name='poly')


ABLATIONS = dict(
  no_augmentation=lambda config: config.update(augment=()),
  deep_supervision=lambda config: config.model.update(deep_supervision=True),
  no_ema=lambda config: config.train.update(ema_decay=0.0),
  bfloat16=lambda config: config.model.update(dtype='bfloat16'),
  cross_entropy=lambda config: config.task.update(loss={'cross_entropy': 1.0}),
  wide=lambda config: config.model.update(features=(12, 24, 48, 96)),
  large_patch=lambda config: config.data.update(patch_size=(40, 56, 40)),
  sgd=as_nnunet_optimizes,
  residual=lambda config: config.model.update(name='ResEncUNet'),
)
