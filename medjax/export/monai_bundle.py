"""A MONAI bundle: its network, its preparation of images, its weights."""

import json
import math
import pathlib

from medjax import files

_MEND = 'take the bundle as it was published'
# Steps that read and arrange, which a workdir does anyway.
_READING = (
  'LoadImaged', 'EnsureChannelFirstd', 'EnsureTyped', 'ToTensord',
  'CastToTyped', 'AddChanneld', 'Invertd', 'Activationsd', 'AsDiscreted',
  'SaveImaged',
)  # fmt: skip


_SPACED = (
  'note: MONAI resamples about the first voxel, medjax about the centre of the '
  'volume: voxels may lie up to half a voxel apart'
)


def read(folder):
  """The parts of a workdir, for `foreign`."""
  folder = pathlib.Path(folder)
  inference = _inference(folder)
  network = _plain(inference, inference.get('network_def'), 'network_def')
  model, rank, channels, classes = _network(network)
  dense = model['name'] not in ('DenseNet', 'DenseNet121', 'DenseNet169')
  preprocess, spacing = _preprocess(inference, channels)
  left_out = _postprocessing(inference)
  patch, settings, notes = _windows(inference, rank, dense)
  names = _names(folder, classes)
  return {
    'model': model,
    'task': dict(
      name='Segmentation' if dense else 'Classification',
      num_classes=classes,
      class_names=names,
    ),
    'preprocess': preprocess,
    'patch_size': patch,
    'inference': settings,
    'weights': _weights(folder),
    'facts': dict(
      channels=channels,
      rank=rank,
      shape=patch or (64,) * rank,
      spacing=spacing or (1.0,) * rank,
      class_names=names,
      num_labels=classes,
    ),
    'notes': [
      f'model: {model}',
      f'data.preprocess: {preprocess}',
      *notes,
      *left_out,
      *([_SPACED] if spacing else []),
    ],
  }


def _inference(folder):
  for name in ('inference.json', 'train.json'):
    found = files.read_json(folder / 'configs' / name, mend=_MEND)
    if found is not None:
      return found
  raise ValueError(
    f'{folder}/configs holds no inference.json (YAML is not read): convert it '
    'by `python -m monai.bundle`'
  )


def _weights(folder):
  for name in ('model.safetensors', 'model.pt', 'model.pth'):
    if (folder / 'models' / name).is_file():
      return folder / 'models' / name
  raise FileNotFoundError(f'{folder}/models holds no model.pt')


def _plain(whole, value, where):
  """A value whose references, '@name', are looked up; no expressions."""
  if isinstance(value, str) and value.startswith('@'):
    return _plain(whole, _referred(whole, value, where), where)
  if isinstance(value, str) and value.startswith('$'):
    raise ValueError(f'{where}: {value!r} is an expression, which is not run')
  if isinstance(value, dict):
    return {k: _plain(whole, v, f'{where}.{k}') for k, v in value.items()}
  if isinstance(value, list):
    return [_plain(whole, v, where) for v in value]
  return value


def _referred(whole, value, where):
  """What '@name', '@name#part' or '@name::0' stands for."""
  found = whole
  for part in value[1:].replace('::', '#').split('#'):
    part = int(part) if isinstance(found, list) and part.isdigit() else part
    try:
      found = found[part]
    except (KeyError, IndexError, TypeError):
      raise ValueError(
        f'{where}: {value} refers to nothing in the bundle'
      ) from None
  return found


def _kind(entry, where):
  """(name, arguments) of an entry with a _target_."""
  if not isinstance(entry, dict) or '_target_' not in entry:
    raise ValueError(
      f'{where} names no _target_: it is {json.dumps(entry)[:80]}'
    )
  arguments = {k: v for k, v in entry.items() if k[0] != '_'}
  return str(entry['_target_']).rpartition('.')[2], arguments


# Networks: (entry of a config, rank, channels, classes).


def _network(entry):
  name, given = _kind(entry, 'network_def')
  readers = dict(
    UNet=_unet,
    DynUNet=_dynunet,
    SegResNet=_segresnet,
    DenseNet121=_densenet,
    DenseNet169=_densenet,
  )
  if name not in readers:
    raise ValueError(
      f'network_def: {name} is not known, only {", ".join(readers)}'
    )
  take = _Taken(name, given)
  rank = take('spatial_dims', 3)
  channels, classes = take('in_channels'), take('out_channels')
  model = readers[name](take)
  take.end()
  return {'name': _OURS.get(name, name), **model}, rank, channels, classes


_OURS = {'UNet': 'UNet2018', 'DynUNet': 'UNet'}


# Arguments of norms and activations as the networks here have them.
_USUAL = {
  'affine': True,
  'eps': 1e-5,
  'negative_slope': 0.01,
  'num_groups': 8,
  'init': 0.25,
  'num_parameters': 1,
}


class _Taken:
  """Arguments that are taken one by one; what is left over is refused."""

  def __init__(self, name, given):
    self._name, self._left = name, dict(given)

  def __call__(self, key, *default):
    if key not in self._left and not default:
      raise ValueError(f'{self._name} lacks {key}')
    return self._left.pop(key, *default)

  def only(self, key, *allowed, default):
    """Takes an argument that must be one of few."""
    value = self(key, default)
    if isinstance(value, list | tuple):
      value, *more = value
      for name, given in (more[0] if more else {}).items():
        if name != 'inplace' and _USUAL.get(name) != given:
          raise ValueError(
            f'{self._name}: {key} with {name}={given!r} is not known'
          )
    value = value.lower() if isinstance(value, str) else value
    if value not in allowed:
      raise ValueError(
        f'{self._name}: {key}={value!r} is not known, only '
        + ', '.join(map(repr, allowed))
      )
    return value

  def end(self):
    """Raises ValueError for arguments that nobody took."""
    if self._left:
      raise ValueError(f'{self._name}: {next(iter(self._left))} is not known')


def _unet(take):
  take.only('kernel_size', 3, default=3)
  take.only('up_kernel_size', 3, default=3)
  take.only('act', 'prelu', default='prelu')
  units = take('num_res_units', 0)
  take('bias', True)
  take.only('adn_ordering', 'nda', default='NDA')
  return dict(
    features=tuple(take('channels')),
    strides=tuple(take('strides')),
    convs_per_stage=units,
    norm=take.only('norm', 'instance', 'batch', default='instance'),
    dropout=float(take('dropout', 0.0)),
  )


def _dynunet(take):
  take.only('res_block', False, default=False)
  take('deep_supervision', False), take('deep_supr_num', 1)
  take('upsample_kernel_size')
  take.only('act_name', 'leakyrelu', default='leakyrelu')
  take('dropout', None), take('trans_bias', False)
  strides = _tuples(take('strides'))
  kernels = _tuples(take('kernel_size'))
  features = take('filters', None) or [
    min(2 ** (5 + i), 512) for i in range(len(strides))
  ]
  return dict(
    features=tuple(features),
    strides=strides,
    kernel_sizes=kernels,
    decoder_kernel_sizes=kernels[1:],
    norm=take.only('norm_name', 'instance', 'batch', default='instance'),
  )


def _segresnet(take):
  width = take('init_filters', 8)
  down = tuple(take('blocks_down', (1, 2, 2, 4)))
  take.only('norm', 'group', default='group')
  take.only('act', 'relu', default='relu')
  take.only('upsample_mode', 'nontrainable', default='nontrainable')
  take.only('num_groups', 8, default=8)
  take.only('use_conv_final', True, default=True)
  take('norm_name', '')
  return dict(
    features=tuple(width * 2**i for i in range(len(down))),
    encoder_blocks=down,
    decoder_blocks=tuple(take('blocks_up', (1, 1, 1)))[::-1],
    dropout=float(take('dropout_prob', None) or 0.0),
  )


def _densenet(take):
  take('pretrained', False), take('progress', True)
  return dict(dropout=float(take('dropout_prob', 0.0)))


def _tuples(values):
  return tuple(tuple(v) if isinstance(v, list) else v for v in values)


# What is done to an image, and how it is cut.


def _preprocess(inference, channels):
  """(entries of data.preprocess, spacing or None)."""
  steps, spacing = [], None
  for where, name, given in _transforms(inference, 'preprocessing'):
    if name in _READING:
      continue
    if name not in _STEPS:
      raise ValueError(f'{where}: {name} is not known')
    given = _plain(inference, given, where)
    measured = name in ('NormalizeIntensityd', 'ScaleIntensityd')
    measured &= not {'subtrahend', 'divisor'} & {*given}
    if measured and channels > 1 and not given.get('channel_wise'):
      raise ValueError(
        f'{where}: {name} over all channels at once is not known: channel_wise '
        'is'
      )
    made = _STEPS[name](given, where)
    spacing = made[0].get('spacing', spacing)
    steps += made
  return steps, spacing


def _transforms(inference, part):
  """Yields (where, name, arguments) of the steps of a part."""
  if inference.get(part) is not None:
    _, arguments = _kind(inference[part], part)
    for i, step in enumerate(arguments.get('transforms', [])):
      where = f'{part}.transforms[{i}]'
      yield where, *_kind(step, where)


def _postprocessing(inference):
  """A note for each step that is left out; of probabilities softmax is known.

  Raises ValueError for channels that do not exclude each other.
  """
  notes = []
  for where, name, given in _transforms(inference, 'postprocessing'):
    for option in ('sigmoid', 'threshold'):
      if given.get(option):
        raise ValueError(
          f'{where}: {name} with {option} is not known: channels that overlap, '
          'whose labels the bundle does not say'
        )
    if name not in _READING:
      notes.append(f'note: {where}, {name}, is left out')
  return notes


def _spaced(given, where):
  spacing = given['pixdim']
  if not isinstance(spacing, list) or min(spacing) <= 0:
    raise ValueError(f'{where}: Spacingd with pixdim={spacing} is not known')
  return [dict(name='resample', spacing=tuple(spacing))]


def _scaled(given, where):
  low, high, bottom, top = (
    given[k] for k in ('a_min', 'a_max', 'b_min', 'b_max')
  )
  slope = (top - bottom) / (high - low)
  cut = given.get('clip')
  return [
    dict(
      name='scale',
      mean=low - bottom / slope,
      std=1 / slope,
      low=low if cut else None,
      high=high if cut else None,
    )
  ]


def _between(given, where):
  """From the least value to the largest."""
  if given.get('factor') is not None:
    raise ValueError(f'{where}: ScaleIntensityd with factor is not known')
  bottom, top = given.get('minv', 0.0), given.get('maxv', 1.0)
  steps = [dict(name='percentile', low=0.0, high=100.0)]
  if (bottom, top) != (0, 1):
    width = top - bottom
    steps.append(dict(name='scale', mean=-bottom / width, std=1 / width))
  return steps


def _normalised(given, where):
  if 'subtrahend' in given or 'divisor' in given:
    if given.get('nonzero'):
      raise ValueError(
        f'{where}: NormalizeIntensityd with subtrahend and nonzero is not known'
      )
    mean, std = given.get('subtrahend', 0), given.get('divisor', 1)
    return [dict(name='scale', mean=mean, std=std)]
  return [dict(name='zscore', nonzero=bool(given.get('nonzero')))]


_STEPS = {
  'Orientationd': lambda given, _: [
    dict(name='reorient', codes=given['axcodes'])
  ],
  'Spacingd': _spaced,
  'ScaleIntensityRanged': _scaled,
  'ScaleIntensityd': _between,
  'NormalizeIntensityd': _normalised,
}


def _windows(inference, rank, dense):
  """(patch size, fields of config.inference, notes)."""
  if not dense:
    return (), {}, []
  entry = inference.get('inferer')
  name, given = _kind(entry, 'inferer') if entry else ('', {})
  if name != 'SlidingWindowInferer':
    raise ValueError(f'inferer: {name or "none"} is not known')
  given = _plain(inference, given, 'inferer')
  size, notes = given['roi_size'], []
  size = (size,) * rank if isinstance(size, int) else tuple(size)
  if given.get('mode', 'constant') != 'gaussian':
    notes.append(
      'note: the bundle weighs windows evenly, medjax the middle of a window '
      'more: they agree within a window, and nearly elsewhere'
    )
  overlap = float(given.get('overlap', 0.25))
  return size, {'overlap': overlap}, notes


def _names(folder, classes):
  """Names of the classes, or none."""
  meta = files.read_json(folder / 'configs' / 'metadata.json', mend=_MEND) or {}
  outputs = meta.get('network_data_format', {}).get('outputs', {})
  given = next(iter(outputs.values()), {}).get('channel_def', {})
  if len(given) != classes:
    return ()
  names = [str(given[k]) for k in sorted(given, key=_number)]
  return tuple(names) if len({*names}) == classes else ()


def _number(text):
  return int(text) if str(text).isdigit() else math.inf
