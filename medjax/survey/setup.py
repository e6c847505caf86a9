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
# Networks that nnU-Net plans of volumes.
VARIANTS = {
  'full': 'the resolution of the data',
  'low': 'coarser voxels, where a patch of the full resolution sees too little',
  'cascade': 'the full resolution, told what a run of the low one found',
  '2d': 'slices, one by one',
}
_CASCADE = 'medjax.prediction.cascade'
_SAMPLING = 'centred on a voxel of a random class; the rest anywhere'
_BUDGET = "a twentieth of nnU-Net's 250 000; more is better"


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
  variant='full',
  previous='',
):
  """The `Setup` for data with this fingerprint.

  `spacing` (mm, axes as in the fingerprint) replaces the rule for the voxel
  size, `width` nnU-Net's number of features of the first stage. `preset`: of
  `rules.PRESETS`, with its memory. `variant`: of `VARIANTS`; of a cascade
  `previous` is the workdir of the low resolution. Raises ValueError for data
  that are not segmented, or for a variant that nnU-Net does not plan of them.
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
  plan, target, median, across, others = _network(
    about, target, median, memory_gb, preset, variant
  )
  if variant == 'low':
    why = 'coarser, step by step, until a patch sees enough'
  features = tuple(
    n * width // rules.BASE_FEATURES for n in plan.topology.features
  )
  preprocess, told = choices.preprocess(about, target, across)
  if variant == 'cascade':
    preprocess, told = _told_by(previous, preprocess, told)
  augment, limits = choices.augment(about, plan, target)
  splits, data, cut = choices.splits(about)
  table = (
    ('spacing', f'{_by(target)} {about["unit"]}', why),
    ('median image', _by(median), 'at that spacing'),
    *_network_rows(plan, features, median, memory_gb, about, preset),
    *told,
    *limits,
    ('sampling', f'{FOREGROUND:.0%} of patches', _SAMPLING),
    ('splits', ', '.join(splits.values()), cut),
    *others,
    choices.cache_row(about, median),
    ('steps', f'{STEPS:,}', _BUDGET),
  )
  config = _config(about, plan, features, augment, preset)
  config['data'].update(**data, splits=splits, preprocess=preprocess)
  return Setup(plan=plan, memory_gb=memory_gb, config=config, table=table)


def _network(about, target, median, memory_gb, preset, variant):
  """(`Plan`, spacing, median shape, axis of slices or None, rows of others)."""
  options = dict(
    cases=about['cases'],
    num_classes=len(about['classes']),
    memory_gb=memory_gb,
    preset=preset,
  )
  title = about['source']['title']
  if variant not in VARIANTS:
    raise ValueError(f'--variant={variant}: known are {", ".join(VARIANTS)}')
  plan = rules.make_plan(target, median, **options)
  if about['rank'] == 2:
    if variant != 'full':
      raise ValueError(f'{title}: --variant={variant} is of volumes')
    return plan, target, median, None, ()
  low = rules.low_resolution(plan, target, median, **options)
  if variant in ('low', 'cascade') and not low:
    raise ValueError(
      f'{title}: nnU-Net plans no low resolution, and no cascade: a patch of '
      f'the full one sees {math.prod(plan.patch) / math.prod(median):.0%} of '
      f'the median image ({rules.COVERED:.0%} are enough), or it would save '
      'less than half'
    )
  known = [v for v in VARIANTS if v != variant]
  if not low:
    known = [v for v in known if v not in ('low', 'cascade')]
  rows = [
    ('variants', ', '.join(known), 'nnU-Net plans these too: --variant=…'),
  ]
  if low and variant != 'low':
    by = _by(low[0])
    rows[0] = (*rows[0][:2], f'{rows[0][2]} (low: {by} {about["unit"]})')
  if variant == 'low':
    return low[2], low[0], low[1], None, rows
  if variant == '2d':
    across, plan = rules.slices(target, median, **options)
    return plan, target, median, across, rows
  return plan, target, median, None, rows


def _told_by(previous, preprocess, rows):
  """Steps of a preparation between those of a cascade, and their rows."""
  if not previous:
    raise ValueError(
      '--variant=cascade: say which run of --variant=low tells it what it '
      'found: --previous=WORKDIR'
    )
  steps = (
    {'name': f'{_CASCADE}:find', 'run': previous},
    *preprocess,
    {'name': f'{_CASCADE}:append'},
  )
  why = 'what this run finds is a channel'
  return steps, [*rows, ('cascade', previous, why)]


def _check_masks(about):
  title = about['source']['title']
  if about['class_voxels'] is None:
    raise ValueError(
      f'{title}: has no masks; medjax.plan plans segmentation, for labels of '
      'images begin with configs/resnet.py'
    )
  if about['intensity'] is None:
    raise ValueError(f'{title}: its masks label nothing')


def _config(about, plan, features, augment, preset):
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
      'features': features,
      'strides': _stages(plan.topology.strides),
      'kernel_sizes': _stages(plan.topology.kernel_sizes),
      'deep_supervision': True,
      **_blocks(plan, preset),
    },
    'task': task,
    'augment': augment,
    'optimizer': dict(learning_rate=1e-3, weight_decay=1e-4, clip_norm=12.0),
    'schedule': dict(name='cosine', warmup_steps=100),
    'train': dict(
      steps=STEPS, log_every=50, eval_every=STEPS // 10, ema_decay=0.999
    ),
    'inference': dict(
      batch_size=2 * plan.batch, flips=any(e['name'] == 'flip' for e in augment)
    ),
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
  if network.rank:  # a slice is judged by itself
    median = np.where(np.array(patch) == 1, 1, median)
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
  if covered < rules.COVERED:
    why += f'; it sees {covered:.0%} of the median image'
    if about['rank'] == 3 and not network.rank:
      why += ': nnU-Net adds a coarser network (--variant=low)'
  poolings = [
    sum(s > 1 for s in stage) for stage in np.transpose(network.strides)
  ]
  strided = ', '.join(_each(s) for s in network.strides)
  shallow = [k for k, n in enumerate(poolings) if n < max(poolings)]
  rank = network.rank or about['rank']
  if network.rank:  # slices are seen one by one, whatever their distance
    shallow = [k for k in shallow if patch[k] > 1]
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
      '3, but 1 along an axis ≥ 2 times as coarse as the finest'
      + (', and across slices' if network.rank else ''),
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
