"""LIDC-IDRI nodules, five folds by patient.

--config=configs/benchmarks/lidc_nodules.py:malignancy,fold0: is a nodule
  malignant, by its readers (benign 650, malignant 344)? Three orthogonal planes
  through its middle, each with the readers' outline beside it.
--config=configs/benchmarks/lidc_nodules.py:mask,fold0: the outline itself.

Fold k is the test set. Of outlines fold k + 1 validates and the other three
train; of malignancy, where validation chooses nothing but a threshold, a tenth
of the other patients validates. Command, time, scores: benchmarks/RESULTS.md.
"""

from medjax.config import default_config

FOLDS = 5


def get_config(variant='malignancy,fold0'):
  """The experiment 'malignancy' or 'mask' with a fold as its test set."""
  experiments = dict(malignancy=malignancy, mask=mask)
  name, _, fold = variant.partition(',')
  config = default_config()
  config.data.name = 'lidc_idri/nodules'
  k = int(fold.removeprefix('fold') or 0)
  others = [f'fold{(k + i) % FOLDS}' for i in range(1, FOLDS)]
  config.data.splits = dict(
    test=f'fold{k}', validation=others[0], train='+'.join(others[1:])
  )
  return experiments[name](config)


def malignancy(config):
  """Five members of a ResNet of three blocks on 32 x 32 mm, six channels."""
  config.members = 5
  splits = config.data.splits
  config.data.splits = dict(
    test=splits.test, train=f'{splits.train}+{splits.validation}'
  )
  config.data.held_out = 0.1
  config.data.batch_size = 32
  config.data.preprocess = (
    dict(name='reorient'),
    dict(name='resample', spacing=(1.0, 1.0, 1.0)),
    dict(name='window', low=-1000.0, high=400.0),
    dict(name='append_mask'),
    dict(name='crop_or_pad', shape=(32, 32, 32)),
    dict(name='orthogonal_views', of=('middle', 'mean')),
    dict(name='scale', mean=0.5, std=0.5),
  )
  config.augment = (
    dict(name='flip', p=0.5),
    dict(
      name='affine', p=0.9, rotate=90.0, scale=(0.9, 1.1), translate=2.0,
      mode='edge',
    ),
    dict(name='gaussian_noise', p=0.3),
  )  # fmt: skip
  config.model = dict(
    name='ResNet18', width=16, stem='small', stage_sizes=(1, 1, 1), dropout=0.5
  )
  config.task = dict(name='Classification', monitor='auroc')
  config.optimizer.update(learning_rate=1e-3, weight_decay=5e-2)
  config.schedule.update(name='cosine', warmup_steps=50)
  # One look at validation: of ten noisy ones the best is a matter of luck.
  config.train.update(steps=400, log_every=25, eval_every=400, ema_decay=0.98)
  config.inference.update(batch_size=64, flips=True)
  return config


def mask(config):
  """A narrow 3-D U-Net on 32 x 32 x 16 voxels of .8 x .8 x 1.5 mm."""
  config.data.batch_size = 4
  config.data.preprocess = (
    dict(name='resample', spacing=(0.8, 0.8, 1.5)),
    dict(name='scale', mean=-300.0, std=500.0, low=-1000.0, high=400.0),
  )
  config.data.patch_size = (32, 32, 16)
  config.augment = (
    dict(name='flip', p=0.5),
    dict(name='affine', p=0.5, rotate=30.0, scale=(0.8, 1.25), mode='edge'),
    dict(name='gaussian_noise', p=0.1),
  )
  config.model = dict(name='UNet', features=(12, 24, 48))
  config.task = dict(name='Segmentation', num_classes=2)
  config.optimizer.update(learning_rate=3e-3, weight_decay=1e-4, clip_norm=12.0)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(steps=2000, log_every=50, eval_every=500, ema_decay=0.995)
  config.inference.batch_size = 8
  return config
