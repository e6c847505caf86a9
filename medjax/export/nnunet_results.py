"""A result folder of nnU-Net v2: plans.json, dataset.json, fold_N/."""

import pathlib

import numpy as np

from medjax import files

_MEND = "take nnU-Net's folder as it was written"
_SCHEMES = {
  'ZScoreNormalization': 'zscore',
  'CTNormalization': 'ct',
  'NoNormalization': 'none',
  'RescaleTo01Normalization': 'rescale_0_1',
  'RGBTo01Normalization': 'rgb_0_1',
}
_MASK = 'use_mask_for_norm'
_MASKED = (
  'note: nnU-Net measures within the outline of what is not 0 in any channel, '
  'medjax where the channel itself is not 0: they agree but for holes'
)


def read(folder, fold):
  """The parts of a workdir, for `foreign`."""
  folder = pathlib.Path(folder)
  plans, told, name, plan = _stated(folder)
  weights = folder / f'fold_{fold}' / 'checkpoint_final.pth'
  if not weights.is_file():
    raise FileNotFoundError(f'{weights}: no such file')
  rank = len(plan['patch_size'])
  # nnU-Net has the axes as SimpleITK does, z first; medjax x first.
  forward = plans.get('transpose_forward', [0, 1, 2])
  order = tuple(2 - forward[i] for i in range(3)) if rank == 3 else (1, 0)
  if rank == 2:
    raise ValueError(f'{folder}: {name} is of slices; take a 3-D configuration')
  ours = lambda values: tuple(values[order.index(axis)] for axis in range(rank))
  as_stored, model = (_model(plan, turn) for turn in (tuple, ours))
  labels, regions, region_order = _labels(told)
  schemes = [_scheme(s, folder) for s in plan['normalization_schemes']]
  schemes, normalised = _normalised(plan, schemes, folder)
  spacing = ours([float(v) for v in plan['spacing']])
  return {
    'model': model,
    'as_stored': as_stored,
    'order': order,
    'task': dict(name='Segmentation'),
    'preprocess': [
      dict(name='crop_foreground'),
      *normalised,
      dict(name='resample', spacing=spacing, order='cubic'),
    ],
    'patch_size': ours([int(n) for n in plan['patch_size']]),
    'inference': {'flips': True, 'overlap': 0.5},
    'weights': weights,
    'facts': dict(
      channels=len(told['channel_names']),
      rank=rank,
      shape=ours([int(n) for n in plan['patch_size']]),
      spacing=spacing,
      class_names=labels,
      regions=regions,
      region_order=region_order,
      num_labels=None if not regions else 1 + max(map(max, regions)),
      channel_names=tuple(map(str, told['channel_names'].values())),
      normalisation=tuple(schemes),
      statistics=_statistics(plans, schemes),
    ),
    'notes': [
      f'model: {model}',
      'note: nnU-Net resamples slices apart where they are thick, medjax does '
      'not, and resamples the logits, medjax the probabilities',
      *([_MASKED] if any(plan.get(_MASK) or ()) else []),
    ],
  }


def _stated(folder):
  """plans.json, dataset.json, and the name and plan of a configuration."""
  name = folder.resolve().name.rpartition('__')[2]
  plans = files.read_json(folder / 'plans.json', mend=_MEND)
  told = files.read_json(folder / 'dataset.json', mend=_MEND)
  if told is None:
    raise FileNotFoundError(f'{folder} holds no dataset.json')
  if name not in plans['configurations']:
    raise ValueError(
      f'{folder}: plans.json has no configuration {name!r}, only '
      f'{", ".join(plans["configurations"])}: name the folder after one'
    )
  plan = plans['configurations'][name]
  if 'architecture' not in plan:
    raise ValueError(f'{folder}: plans.json is older than nnU-Net 2.4')
  return plans, told, name, plan


def _model(plan, turn):
  """The entry of a config; `turn` puts axes in order."""
  network = plan['architecture']
  kind = network['network_class_name'].rpartition('.')[2]
  given = network['arch_kwargs']
  each = lambda values: tuple(
    turn(v if isinstance(v, list) else [v] * len(plan['patch_size']))
    for v in values
  )
  if kind not in ('PlainConvUNet', 'ResidualEncoderUNet'):
    raise ValueError(
      f'plans.json: {kind} is not known, only PlainConvUNet and '
      'ResidualEncoderUNet'
    )
  for field, ending in (('norm_op', 'InstanceNorm3d'), ('nonlin', 'LeakyReLU')):
    if not str(given[field]).endswith(ending):
      raise ValueError(f'plans.json: {field}={given[field]} is not known')
  model = dict(
    features=tuple(given['features_per_stage']),
    strides=each(given['strides']),
    kernel_sizes=each(given['kernel_sizes']),
  )
  if kind == 'ResidualEncoderUNet':
    if {*np.ravel(given['n_conv_per_stage_decoder'])} != {1}:
      raise ValueError('plans.json: n_conv_per_stage_decoder is not 1')
    blocks = tuple(given['n_blocks_per_stage'])
    return {'name': 'ResEncUNet', **model, 'blocks_per_stage': blocks}
  convs = {
    *np.ravel(given['n_conv_per_stage']),
    *np.ravel(given['n_conv_per_stage_decoder']),
  }
  if len(convs) != 1:
    raise ValueError(
      'plans.json: stages differ in their number of convolutions'
    )
  return {'name': 'UNet', **model, 'convs_per_stage': int(convs.pop())}


def _scheme(name, folder):
  if name not in _SCHEMES:
    raise ValueError(f'{folder}: normalisation {name} is not known')
  return _SCHEMES[name]


def _normalised(plan, schemes, folder):
  """(schemes of `normalise`, steps): of skull-stripped MRI zeros stay zeros."""
  masked = plan.get(_MASK) or [False] * len(schemes)
  for scheme, on in zip(schemes, masked, strict=True):
    if on and scheme != 'zscore':
      raise ValueError(f'{folder}: {_MASK} with {scheme} is not known')
  if not any(masked):
    return schemes, [dict(name='normalise')]
  if all(masked):
    return schemes, [dict(name='zscore', nonzero=True)]
  channels = tuple(c for c, on in enumerate(masked) if on)
  # What is left to `normalise`.
  schemes = ['none' if on else s for s, on in zip(schemes, masked, strict=True)]
  steps = [dict(name='zscore', nonzero=True, channels=channels)]
  return schemes, [*steps, dict(name='normalise')]


def _statistics(plans, schemes):
  if 'ct' not in schemes:
    return ()
  found = plans['foreground_intensity_properties_per_channel']
  keys = ('mean', 'std', 'percentile_00_5', 'percentile_99_5')
  return tuple(
    tuple(float(found[str(c)][k]) for k in keys) for c in range(len(schemes))
  )


def _labels(told):
  """(class names, regions, their order)."""
  labels = {k: v for k, v in told['labels'].items() if k != 'ignore'}
  lists = {k: v for k, v in labels.items() if isinstance(v, list)}
  if not lists:
    return tuple(sorted(labels, key=labels.get)), (), ()
  named = {k: v for k, v in labels.items() if k != 'background'}
  regions = tuple(
    tuple(v) if isinstance(v, list) else (v,) for v in named.values()
  )
  return tuple(named), regions, tuple(told['regions_class_order'])
