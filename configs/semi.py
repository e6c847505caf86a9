"""Few labels: semi-supervised training, and the supervised control beside it.

--config=configs/semi.py:DATA,METHOD --config.data.labelled=47
  DATA: pneumoniamnist or another MedMNIST set, hippocampus, folder (images in
  classes) or masks (images and masks), with --config.data.path=DIR.
  METHOD: supervised (where it is left out), mean_teacher, fixmatch, cps or
  uamt, which is for segmentation.

data.labelled are the patients of the training split whose reference is used,
evenly of their classes; the others are unlabelled. A folder may have cases
without a reference anyway: an empty cell of the table, an image without a mask,
a folder unlabelled/. docs/labels.md has what it brings.
"""

from ml_collections.config_dict import placeholder

from medjax.config import default_config

_TASKS = {
  'mean_teacher': 'MeanTeacher',
  'fixmatch': 'FixMatch',
  'cps': 'CrossPseudo',
  'uamt': 'UncertaintyAware',
}
# What the student sees, beside the image as the teacher sees it.
STRONG = (
  dict(name='brightness', p=0.8, factor=(0.6, 1.4)),
  dict(name='contrast', p=0.8, factor=(0.6, 1.4)),
  dict(name='gamma', p=0.5, exponent=(0.6, 1.7)),
  dict(name='gaussian_blur', p=0.3, sigma=(0.5, 1.5)),
  dict(name='gaussian_noise', p=0.5),
)
_TURNED = (
  dict(name='affine', p=1.0, rotate=20.0, scale=(0.8, 1.25), translate=4.0),
)


def get_config(variant='pneumoniamnist,mean_teacher'):
  """The experiment 'DATA,METHOD'."""
  data, _, method = variant.partition(',')
  method = method or 'supervised'
  if method != 'supervised' and method not in _TASKS:
    raise ValueError(
      f'semi.py has supervised, {", ".join(_TASKS)}, not {method!r}'
    )
  dense = data in ('hippocampus', 'masks')
  config = volumes(data) if dense else pictures(data)
  if method != 'supervised':
    _learn(config, method, dense)
  return config


def _learn(config, method, dense):
  """The method, on what the supervised experiment is."""
  kind = 'Segmentation' if dense else 'Classification'
  if method == 'uamt' and not dense:
    raise ValueError('uamt is for segmentation: take mean_teacher')
  config.task.name = _TASKS[method] + kind
  config.task.ramp = config.train.steps // 3
  config.task.consistency = dict(mean_teacher=10.0, uamt=10.0).get(method, 1.0)
  # Labelled cases in a batch are those of the supervised run.
  config.data.batch_size *= 2
  if method in ('mean_teacher', 'fixmatch'):
    inner = STRONG if dense else (*_TURNED, *STRONG)
    config.augment = (*config.augment, dict(name='strong', augment=inner))
  if method == 'cps':
    config.model = dict(name='Pair', network=config.model.to_dict())


def pictures(data):
  """Images of one size, in classes."""
  config = default_config()
  if data == 'folder':
    config.data.name = 'folder'
    config.data.preprocess = (
      dict(name='resize', shape=(64, 64)),
      dict(name='scale', mean=127.5, std=127.5),
    )
  else:
    config.data.name = f'medmnist/{data}'
    config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.data.batch_size = 16
  config.augment = (
    dict(name='affine', p=0.8, rotate=10.0, scale=(0.9, 1.1), translate=2.0),
    dict(name='brightness', p=0.3, factor=(0.8, 1.2)),
    dict(name='contrast', p=0.3, factor=(0.8, 1.2)),
  )
  config.model = dict(name='ResNet18', width=16, stem='small')
  config.task = dict(
    name='Classification', multi_label=data.startswith('chestmnist')
  )
  config.optimizer.update(learning_rate=1e-3, weight_decay=1e-2)
  config.schedule.update(name='cosine', warmup_steps=20)
  config.train.update(steps=200, log_every=25, eval_every=50, ema_decay=0.99)
  config.inference.batch_size = 64
  return config


def volumes(data):
  """Images and masks, by patches."""
  config = default_config()
  config.data.batch_size = 2
  if data == 'hippocampus':
    config.data.name = 'msd/hippocampus'
    config.data.splits = dict(
      train='fold1[50%:]+fold2+fold3+fold4',
      validation='fold1[:50%]',
      test='fold0',
    )
    config.data.patch_size = (32, 48, 32)
    config.data.preprocess = (dict(name='zscore'),)
    config.task = dict(name='Segmentation', num_classes=3)
  else:
    config.data.update(name='folder', patch_size=None)
    config.data.preprocess = (dict(name='reorient'), dict(name='normalise'))
    config.task = dict(name='Segmentation', num_classes=placeholder(int))
  config.augment = (
    dict(name='affine', p=0.3, rotate=20.0, scale=(0.8, 1.25), mode='edge'),
    dict(name='brightness', p=0.15, factor=(0.75, 1.25)),
    dict(name='contrast', p=0.15, factor=(0.75, 1.25)),
    dict(name='gamma', p=0.3, exponent=(0.7, 1.5)),
    dict(name='flip', p=0.5, axes=(0,)),
  )
  config.model = dict(name='UNet', features=(6, 12, 24, 48))
  # So few steps want a high rate (docs/search.md): with 3e-3 and 200 of them
  # the second class was not found yet with some choices of labels.
  config.optimizer.update(learning_rate=1e-2, weight_decay=1e-4, clip_norm=12.0)
  config.schedule.update(name='cosine', warmup_steps=20)
  config.train.update(steps=300, log_every=25, eval_every=100, ema_decay=0.99)
  config.inference.update(batch_size=8)
  return config
