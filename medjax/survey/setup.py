"""From a fingerprint to the fields of a config, each with its reason.

The rules are nnU-Net's (rules.py) and a few of our own (choices.py).
"""

import dataclasses
import math

import numpy as np

from medjax.survey import choices, rules
from medjax.survey.choices import and_

STEPS = rules.STEPS // 20
FOREGROUND = 1 / 3
_COVERED = 0.25  # of the median image: below it nnU-Net adds a coarser network


@dataclasses.dataclass(frozen=True)
class Setup:
  """A plan, the fields of a config, and the table (name, value, reason)."""

  plan: rules.Plan
  memory_gb: float
  config: dict
  table: tuple[tuple[str, str, str], ...]


def make_setup(
  about,
  *,
  memory_gb=None,
  spacing=None,
  width=rules.BASE_FEATURES,
  preset='unet',
):
  """The `Setup` for data with this fingerprint.

  `spacing` (mm, axes as in the file) replaces the rule, `width` nnU-Net's
  features of the first stage. `preset`: of `rules.PRESETS`, with its memory.
  Raises ValueError for data that are not segmented.
  """
  _check_masks(about)
  preset = rules.PRESETS[preset]
  memory_gb = memory_gb or preset.memory_gb
  shapes = choices.repeated(
    about, 'box' if choices.is_boxed(about) else 'shape'
  )
  spacings = choices.repeated(about, 'spacing')
  target, why = choices.target_spacing(spacings, shapes, spacing)
  median = np.median(np.maximum(1, np.rint(shapes * spacings / target)), 0)
  plan = rules.make_plan(
    target,
    median,
    cases=about['cases'],
    num_classes=len(about['classes']),
    memory_gb=memory_gb,
    preset=preset,
  )
  base = rules.BASE_FEATURES
  features = tuple(n * width // base for n in plan.topology.features)
  preprocess, told = choices.preprocess(about, target)
  augment, limits = choices.augment(about, plan, target)
  splits, data, cut = choices.splits(about)
  table = (
    ('spacing', f'{_by(target)} {about["unit"]}', why),
    ('median image', _by(median), 'at that spacing'),
    *_network_rows(plan, features, median, memory_gb, about, preset),
    *told,
    *limits,
    (
      'sampling',
      f'{FOREGROUND:.0%} of patches',
      'centred on a voxel of a random class; the rest anywhere',
    ),
    ('splits', ', '.join(splits.values()), cut),
    choices.cache_row(about, median),
    (
      'steps',
      f'{STEPS:,}',
      "a twentieth of nnU-Net's 250 000; more is better",
    ),
  )
  config = _config(about, plan, preset)
  config['model']['features'] = features
  config['data'].update(**data, splits=splits, preprocess=preprocess)
  config['augment'] = augment
  return Setup(plan=plan, memory_gb=memory_gb, config=config, table=table)


def _check_masks(about):
  title = about['source']['title']
  if about['class_voxels'] is None:
    raise ValueError(
      f'{title}: has no masks; medjax.plan plans segmentation, for labels of '
      'images begin with configs/resnet.py'
    )
  if about['intensity'] is None:
    raise ValueError(f'{title}: its masks label nothing')


def _config(about, plan, preset):
  """The fields that the network decides, and those that are always so."""
  task = {'name': 'Segmentation', 'num_classes': len(about['classes'])}
  if about['labelled']:  # the names of the set are those of the labels
    task['class_names'] = tuple(about['classes'])
  source = {k: v for k, v in about['source'].items() if k != 'title'}
  return {
    'data': {
      **source,
      'patch_size': plan.patch,
      'batch_size': plan.batch,
      'foreground': FOREGROUND,
    },
    'model': {
      'name': preset.model,
      'strides': _stages(plan.topology.strides),
      'kernel_sizes': _stages(plan.topology.kernel_sizes),
      'deep_supervision': True,
      **_blocks(plan, preset),
    },
    'task': task,
    'optimizer': dict(learning_rate=1e-3, weight_decay=1e-4, clip_norm=12.0),
    'schedule': dict(name='cosine', warmup_steps=100),
    'train': dict(
      steps=STEPS, log_every=50, eval_every=STEPS // 10, ema_decay=0.999
    ),
    'inference': dict(batch_size=2 * plan.batch),
  }


def _blocks(plan, preset):
  if preset.model != 'ResEncUNet':
    return {}
  return {'blocks_per_stage': rules.blocks(len(plan.topology.strides))}


def _stages(stages):
  """One number per stage where the axes agree."""
  return tuple(s[0] if len({*s}) == 1 else tuple(s) for s in stages)


def _network_rows(plan, features, median, memory_gb, about, preset):
  patch, network = plan.patch, plan.topology
  whole = all(p >= m for p, m in zip(patch, median, strict=True))
  covered = math.prod(patch) / math.prod(median)
  if plan.first_patch == patch:
    why = 'the median image' if whole else 'voxel aspect, the median image'
    why += f', made divisible by {_by(network.divisor)}'
  else:
    why = (
      f'cut from {_by(plan.first_patch)} until {rules.MIN_BATCH} fit '
      f'{memory_gb:g} GB, the axis that covers most first'
    )
  if covered < _COVERED:
    why += (
      f'; it sees {covered:.0%} of the median image: nnU-Net would add a '
      'coarser network (try --spacing, or more --memory)'
    )
  poolings = [
    sum(s > 1 for s in stage) for stage in np.transpose(network.strides)
  ]
  strided = ', '.join(_each(s) for s in network.strides)
  shallow = [k for k, n in enumerate(poolings) if n < max(poolings)]
  rank = about['rank']
  return [
    *_preset_row(plan, preset),
    ('patch', _by(patch), why),
    (
      'strides',
      strided,
      f'halved while ≥ {2 * rules.MIN_EDGE} voxels and < 2 times the finest '
      'spacing' + (f'; axis {and_(shallow)} less often' if shallow else ''),
    ),
    (
      'kernels',
      ', '.join(_each(k) for k in network.kernel_sizes),
      '3, but 1 along an axis ≥ 2 times as coarse as the finest',
    ),
    (
      'features',
      ', '.join(map(str, features)),
      f'{features[0]}, doubled to at most {max(features)}',
    ),
    (
      'batch',
      str(plan.batch),
      f'{plan.memory_batch} fit: {memory_gb:g} GB hold '
      f'{rules.REFERENCE_BATCH[rank]} examples of {plan.limit / 1e6:.0f} M '
      f'feature values, one here has '
      f'{plan.cost / 1e6:.0f} M; {preset.data_share:.0%} of all voxels are '
      f'{plan.data_batch}; at least {rules.MIN_BATCH}',
    ),
  ]


def _preset_row(plan, preset):
  if preset.model != 'ResEncUNet':
    return []
  repeats = rules.blocks(len(plan.topology.strides))
  why = (
    "residual blocks of each stage, nnU-Net's; one convolution on the way up"
  )
  return [('network', f'ResEncUNet {", ".join(map(str, repeats))}', why)]


def _by(values):
  return ' × '.join(f'{v:.4g}' for v in values)


def _each(stage):
  """'2', or '2×2×1' where the axes differ."""
  return str(stage[0]) if len({*stage}) == 1 else '×'.join(map(str, stage))
