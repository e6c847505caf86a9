"""Plans a segmentation: `python -m medjax.plan NAME|PATH --out=configs/foo.py`.

Reads the data once (or the fingerprint.json that `medjax.inspect` wrote: give
its path), and writes an ordinary config file: voxel size, patch, network,
batch, normalisation, augmentation. Every number is printed with its reason.
The rules are nnU-Net's; medjax/rules.py has them.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib

import numpy as np

from medjax import cli
from medjax.survey import measure, rules

STEPS = 12_500  # a twentieth of nnU-Net's 1000 epochs of 250 steps
FOREGROUND = 1 / 3
# A box of nonzero voxels smaller than this is cropped to, and below the second
# number the rest of it is taken for outside of the patient (nnU-Net).
_CROPPED, _MASKED = 0.95, 0.75
_COVERED = 0.25  # of the median image: below it nnU-Net adds a coarser network
_CACHE_GB = 2.0
_SCALE = (round(1 / 1.4, 3), round(1 / 0.7, 3))  # nnU-Net's (0.7, 1.4)


@dataclasses.dataclass(frozen=True)
class Setup:
  """What the config will say, and the table (name, value, reason) of why."""

  about: dict
  plan: rules.Plan
  preprocess: tuple[dict, ...]
  augment: tuple[dict, ...]
  splits: dict
  table: tuple[tuple[str, str, str], ...]


def read_fingerprint(path):
  """The fingerprint in a file."""
  path = pathlib.Path(path)
  try:
    about = json.loads(path.read_text(encoding='utf-8'))
    about['geometries'], about['source']
  except FileNotFoundError:
    raise FileNotFoundError(f'{path}: no such file') from None
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path}: not a fingerprint ({e!r}); python -m medjax.inspect writes one'
    ) from None
  return about


def device_memory():
  """Gigabytes that the accelerator gives to jax."""
  import jax

  device = jax.local_devices()[0]
  known = device.memory_stats() or {}
  if 'bytes_limit' not in known:
    raise ValueError(
      f'{device.device_kind} does not say how much memory it has; give it in '
      'GB: --memory=8'
    )
  return known['bytes_limit'] / 1e9


def make_setup(about, *, memory_gb=rules.REFERENCE_GB, spacing=None):
  """The `Setup` for data with this fingerprint.

  `spacing` (mm, axes as in the file) replaces the rule for the voxel size.
  Raises ValueError for data that are not segmented.
  """
  title, rank = about['source']['title'], about['rank']
  if about['class_voxels'] is None:
    raise ValueError(
      f'{title}: has no masks; medjax.plan plans segmentation, for labels of '
      'images begin with configs/resnet.py'
    )
  if about['intensity'] is None:
    raise ValueError(f'{title}: its masks label nothing')
  boxed = about['zero_background'] and about['box_share'] < _CROPPED
  shapes = _repeated(about, 'box' if boxed else 'shape')
  spacings = _repeated(about, 'spacing')
  target, why = _target(spacings, shapes, spacing)
  resampled = np.maximum(1, np.rint(shapes * spacings / target))
  median = np.median(resampled, 0)
  plan = rules.make_plan(
    target,
    median,
    cases=about['cases'],
    num_classes=len(about['classes']),
    memory_gb=memory_gb,
  )
  preprocess, told = _preprocess(about, boxed, target)
  augment, limits = _augment(about, plan, target)
  splits, cut = _splits(about)
  unit = 'mm' if rank == 3 else 'px'
  table = [
    ('spacing', f'{_by(target)} {unit}', why),
    ('median image', _by(median), 'at that spacing'),
    *_network_rows(plan, target, median, memory_gb, about),
    *told,
    *limits,
    (
      'sampling',
      f'{FOREGROUND:.0%} of patches',
      'centred on a voxel of a random class; the rest anywhere',
    ),
    ('splits', ', '.join(splits.values()), cut),
    _cache_row(about, median),
    (
      'steps',
      f'{STEPS:,}',
      "a twentieth of nnU-Net's 250 000; more is better",
    ),
  ]
  return Setup(
    about=about,
    plan=plan,
    preprocess=preprocess,
    augment=augment,
    splits=splits,
    table=tuple(table),
  )


# The rules that are not rules.py's.


def _repeated(about, name):
  """One row per case (m, n) of what `geometries` lists once."""
  rows = [g[name] for g in about['geometries']]
  counts = [g['cases'] for g in about['geometries']]
  return np.repeat(np.array(rows, float), counts, axis=0)


def _target(spacings, shapes, given):
  """Voxel size in mm (n,) and the reason for it."""
  n = spacings.shape[1]
  if given is not None:
    target = np.array(given, float)
    if target.shape != (n,) or (target <= 0).any():
      raise ValueError(f'--spacing needs {n} positive numbers, not {given}')
    return target, 'as you said (--spacing)'
  target = rules.target_spacing(spacings, shapes)
  if np.ptp(spacings, 0).max() < 1e-4:
    return target, 'all images have it'
  median = np.median(spacings, 0)
  if np.allclose(target, median):
    return target, 'the median'
  axis = rules.coarse_axis(median)
  return target, (
    f'the median; axis {axis} ({median[axis]:.3g} mm) is more than 3 times as '
    'coarse: its 10th percentile'
  )


def _network_rows(plan, spacing, median, memory_gb, about):
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
  most = rules.REFERENCE[about['rank']]
  return [
    ('patch', _by(patch), why),
    (
      'strides',
      strided,
      f'halved while ≥ {2 * rules.MIN_EDGE} voxels and < 2 times the finest '
      'spacing' + (f'; axis {_and(shallow)} less often' if shallow else ''),
    ),
    (
      'kernels',
      ', '.join(_each(k) for k in network.kernel_sizes),
      '3, but 1 along an axis ≥ 2 times as coarse as the finest',
    ),
    (
      'features',
      ', '.join(map(str, network.features)),
      f'{rules.BASE_FEATURES}, doubled to at most '
      f'{rules.MAX_FEATURES[about["rank"]]}',
    ),
    (
      'batch',
      str(plan.batch),
      f'{plan.memory_batch} fit: {memory_gb:g} GB hold {most[1]} examples of '
      f'{plan.limit / 1e6:.0f} M feature values, one here has '
      f'{plan.cost / 1e6:.0f} M; {rules.DATA_SHARE:.0%} of all voxels are '
      f'{plan.data_batch}; at least {rules.MIN_BATCH}',
    ),
  ]


def _preprocess(about, boxed, target):
  """Entries of config.data.preprocess, and their reasons."""
  steps, rows = [], []
  if about['reoriented']:
    steps.append(_entry('reorient'))
    rows.append(('orientation', 'to RAS', 'it differs between images'))
  if boxed:
    steps.append(_entry('crop_foreground'))
    share = f'{about["box_share"]:.0%} of an image (median)'
    rows.append(('crop', 'to what is not 0', share))
  if about['rank'] == 3 or _varies(about):
    coarse = max(target) > rules.ANISOTROPY * min(target)
    order = 'linear' if coarse else 'cubic'
    spacing = tuple(float(f'{s:.6g}') for s in target)
    steps.append(_entry('resample', spacing=spacing, order=order))
    why = "nnU-Net's; masks take the nearest voxel"
    if coarse:
      why = 'cubic would ring across the thick slices'
    rows.append(('resampling', order, why))
  entries, norms = _normalise(about)
  return (*steps, *entries), [*rows, *norms]


def _varies(about):
  spacings = _repeated(about, 'spacing')
  return np.ptp(spacings, 0).max() > 1e-4


def _normalise(about):
  names = about['modality']
  ct = [k for k, name in enumerate(names) if name.upper() in ('CT', 'HU')]
  rest = [k for k in range(about['channels']) if k not in ct]
  guess = ' (guessed from the values: --modality)' * about['modality_guessed']
  entries, rows = [], []
  for k in ct:
    seen = {n: float(f'{v:.6g}') for n, v in about['intensity'][k].items()}
    low, high = seen['percentile_00_5'], seen['percentile_99_5']
    only = {'channels': (k,)} if len(names) > 1 else {}
    entries.append(
      _entry(
        'scale', low=low, high=high, mean=seen['mean'], std=seen['std'], **only
      )
    )
    rows.append(
      (
        f'channel {k}' if only else 'normalisation',
        f'{low:g} to {high:g}, z-score',
        f'CT{guess}: 0.5 and 99.5 %, mean and std of the labelled voxels',
      )
    )
  if rest:
    masked = about['zero_background'] and about['box_share'] < _MASKED
    only = {'channels': tuple(rest)} if ct else {}
    entries.append(
      _entry('zscore', **({'nonzero': True} if masked else {}), **only)
    )
    said = ', '.join(dict.fromkeys(names[k] for k in rest if names[k]))
    why = (f'{said}: ' if said else '') + 'its scale has no unit'
    rows.append(
      (
        f'channel {_and(rest)}' if only else 'normalisation',
        'z-score of each image' + (' where not 0' if masked else ''),
        why + (', and much of the image is empty' if masked else ''),
      )
    )
  return entries, rows


def _augment(about, plan, spacing):
  """Entries of config.augment, and the reasons for its limits."""
  flat = rules.is_flat(plan.patch, spacing)
  plane = {}
  if flat:
    axis = rules.coarse_axis(spacing)
    others = tuple(a for a in range(3) if a != axis)
    plane = {'axes': others}
    angle, why = (
      180.0,
      f'the patch is flat along axis {axis}: in its plane only',
    )
  elif about['rank'] == 2:
    square = max(plan.patch) <= 1.5 * min(plan.patch)
    angle = 180.0 if square else 15.0
    why = f'the patch is {"nearly square" if square else "oblong"}'
  else:
    angle, why = 30.0, 'about every axis: the patch is not flat'
  sided = [
    name
    for name in about['classes']
    if {'left', 'right', 'l', 'r'}
    & set(name.lower().replace('_', ' ').replace('-', ' ').split())
  ]
  entries = (
    _entry('affine', p=0.2, rotate=angle, scale=_SCALE, **plane),
    _entry('gaussian_noise', p=0.1),
    _entry('gaussian_blur', p=0.2, p_channel=0.5, sigma=(0.5, 1.0)),
    _entry('brightness', p=0.15, factor=(0.75, 1.25)),
    _entry('contrast', p=0.15, factor=(0.75, 1.25)),
    _entry('low_resolution', p=0.25, p_channel=0.5, zoom=(0.5, 1.0), **plane),
    _entry('gamma', p=0.1, exponent=(0.7, 1.5), invert=True),
    _entry('gamma', p=0.3, exponent=(0.7, 1.5)),
    *(() if sided else (_entry('flip', p=0.5),)),
  )
  return entries, [
    ('rotation', f'± {angle:g}°', why),
    (
      'mirroring',
      'none' if sided else 'every axis',
      f'{sided[0]!r} would become its other side'
      if sided
      else 'no class names a side',
    ),
  ]


def _splits(about):
  """{train, validation, test: names as in tfds} and the reason."""
  names = list(about['splits'])
  if {'train', 'validation', 'test'} <= {*names}:
    return dict(
      train='train', validation='validation', test='test'
    ), 'as the data set has them'
  folds = [name for name in names if name.startswith('fold')]
  if len(folds) > 2:
    test, validation, *train = folds
    return dict(
      train='+'.join(train), validation=validation, test=test
    ), f'one fold each for test and validation of {len(folds)}'
  if about['source']['name'] == 'folder':  # it validates on part of train
    return dict(
      train='train', validation='validation', test='validation'
    ), 'the folder has no test split: validation stands in for it'
  first = 'train' if 'train' in names else names[0]
  if 'validation' in names:
    cut, why = dict(train=first, validation='validation'), 'as it has them'
  elif about['patients'] < about['cases']:
    raise ValueError(
      f'{about["source"]["title"]}: has only {_and(names)}, which a '
      'percentage would cut through patients; make splits by patient first'
    )
  else:
    cut = dict(train=f'{first}[15%:]', validation=f'{first}[:15%]')
    why = f'15 % of {first} validate'
  if 'test' in names:
    return {**cut, 'test': 'test'}, why
  return (
    {**cut, 'test': cut['validation']},
    f'{why}; there is no test split: validation stands in for it',
  )


def _cache_row(about, median):
  bytes_each = math.prod(median) * (4 * about['channels'] + 1)
  need = bytes_each * about['cases'] / 1e9
  return (
    'memory',
    f'{need:.2g} GB',
    'all cases preprocessed; data.cache_gb of them are held'
    + (f' ({_CACHE_GB:g}: raise it if you can)' if need > _CACHE_GB else ''),
  )


def _entry(name, **arguments):
  return {'name': name, **arguments}


# Words.


def _by(values):
  return ' × '.join(f'{v:.4g}' for v in values)


def _each(stage):
  """'2', or '2×2×1' where the axes differ."""
  return str(stage[0]) if len({*stage}) == 1 else '×'.join(map(str, stage))


def _and(items):
  return ' and '.join(map(str, items))


def _quotable(text):
  """A text for a docstring: file names may hold anything."""
  return text.replace('\\', '/').replace('"', "'")


# The file.


def source_text(setup, command):
  """The config file."""
  about, plan = setup.about, setup.plan
  data = {k: v for k, v in about['source'].items() if k != 'title'}
  data['batch_size'] = plan.batch
  title = _quotable(about['source']['title'])
  lines = [
    f'"""Segmentation of {title}, planned by medjax.plan.',
    '',
    f'Made by: {_quotable(command)}',
    f'From {about["cases"]} cases of {about["patients"]} patients. Edit it as '
    'you like.',
    '"""',
    '',
    'from medjax.config import default_config',
    '',
    '',
    'def get_config():',
    f'  """U-Net for {title}; see the comments for why."""',
    '  config = default_config()',
    *_call('config.data.update', data),
  ]
  standard = {'train': 'train', 'validation': 'validation', 'test': 'test'}
  if setup.splits != standard:
    lines += _call('config.data.splits = dict', setup.splits)
  why = {name: reason for name, _, reason in setup.table}
  task = {'name': 'Segmentation', 'num_classes': len(about['classes'])}
  if about['labelled']:  # the names of the set are those of the labels
    task['class_names'] = tuple(about['classes'])
  lines += [
    *_comment('spacing', why),
    *_tuple('config.data.preprocess', setup.preprocess),
    *_comment('patch', why),
    f'  config.data.patch_size = {plan.patch}',
    '  config.data.foreground = 1 / 3',
    *_comment('rotation', why),
    *_tuple('config.augment', setup.augment),
    *_comment('strides', why),
    *_comment('batch', why),
    '  config.model = dict(',
    "    name='UNet',",
    f'    features={plan.topology.features},',
    f'    strides={_stages(plan.topology.strides)},',
    f'    kernel_sizes={_stages(plan.topology.kernel_sizes)},',
    '    deep_supervision=True,',
    '  )',
    *_call('config.task = dict', task),
    *_call(
      'config.optimizer.update',
      dict(learning_rate=1e-3, weight_decay=1e-4, clip_norm=12.0),
    ),
    *_call('config.schedule.update', dict(name='cosine', warmup_steps=100)),
    *_comment('steps', why),
    *_call(
      'config.train.update',
      dict(steps=STEPS, log_every=50, eval_every=STEPS // 10, ema_decay=0.999),
    ),
    *_call('config.inference.update', dict(batch_size=2 * plan.batch)),
    '  return config',
  ]
  return '\n'.join(lines) + '\n'


def _call(function, values, indent=2, end=''):
  """Lines of a call, on one if it fits, as ruff would lay it out."""
  space = ' ' * indent
  arguments = ', '.join(f'{k}={v!r}' for k, v in values.items())
  line = f'{space}{function}({arguments}){end}'
  if len(line) <= 80:
    return [line]
  if len(arguments) + indent + 2 <= 80:
    inner = [f'{space}  {arguments}']
  else:
    inner = [f'{space}  {k}={v!r},' for k, v in values.items()]
  return [f'{space}{function}(', *inner, f'{space}){end}']


def _comment(name, why, width=76):
  words, line = f'{name.capitalize()}: {why[name]}.'.split(), '  #'
  for word in words:
    if len(line) + 1 + len(word) > width:
      yield line
      line = '  #'
    line += ' ' + word
  yield line


def _tuple(name, entries):
  lines = [line for e in entries for line in _call('dict', e, 4, ',')]
  return [f'  {name} = (', *lines, '  )']


def _stages(stages):
  """Stages as source: one number where the axes agree."""
  each = [s[0] if len({*s}) == 1 else tuple(s) for s in stages]
  return (
    f'({", ".join(map(repr, each))},)' if len(each) == 1 else repr(tuple(each))
  )


def write_config(path, text):
  """Writes the config; a file that is there is not overwritten."""
  path = pathlib.Path(path)
  if path.suffix != '.py':
    raise ValueError(f'--out={path}: a config is a .py file')
  if path.exists():
    raise FileExistsError(f'{path} is there already; choose another --out')
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(text, encoding='utf-8')
  os.replace(temporary, path)


def _numbers(text, name):
  try:
    return tuple(float(v) for v in text.split(','))
  except ValueError:
    raise ValueError(f'{name}={text}: needs numbers, as in 1,1,3') from None


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    'name', metavar='NAME|PATH', help='data set, folder or fingerprint.json'
  )
  parser.add_argument('--out', required=True, help='the config file to write')
  parser.add_argument(
    '--memory',
    default='8',
    help='of the device in GB, or auto: what jax gets of it [8]',
  )
  parser.add_argument('--spacing', help='in mm, instead of the rule: 1,1,3')
  args = measure.parse_arguments(parser)
  with cli.one_line_errors():
    run(args)


def run(args):
  """Plans what the arguments say, prints the table and writes the file."""
  if args.memory == 'auto':
    memory = device_memory()
  else:
    (memory,) = _numbers(args.memory, '--memory')[:1]
  if memory <= 0:
    raise ValueError(f'--memory={args.memory}: must be above 0')
  spacing = _numbers(args.spacing, '--spacing') if args.spacing else None
  if args.name.endswith('.json'):
    about = read_fingerprint(args.name)
  else:
    about = measure.fingerprint(measure.survey(measure.from_arguments(args)))
  setup = make_setup(about, memory_gb=memory, spacing=spacing)
  command = f'python -m medjax.plan {args.name} --out={args.out}'
  if args.memory != '8':
    command += f' --memory={args.memory}'
  if args.spacing:
    command += f' --spacing={args.spacing}'
  write_config(args.out, source_text(setup, command))
  axes = 'rows, columns'
  if about['rank'] == 3:
    axes = "axes as in the file (nnU-Net's are reversed)"
  print(
    f'{about["source"]["title"]}: {about["rank"]}-D, from {about["cases"]} '
    f'cases outside the test split; {axes}\n'
  )
  print(cli.aligned(('', 'Value', 'Why'), setup.table, 'lll'))
  print(
    f'\nwritten: {args.out}\n'
    f'python -m medjax.main --config={args.out} --workdir=runs/'
    f'{pathlib.Path(args.out).stem}'
  )


if __name__ == '__main__':
  main()
