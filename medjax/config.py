"""The config of a run: what it may be, and its copy in the workdir."""

import copy
import itertools
import json
import math
import pathlib
import re

import ml_collections
from ml_collections.config_dict import placeholder

from medjax import files
from medjax.build import closest
from medjax.defaults import default_config as default_config

# Field: (least, below which it must be, or None); of whole numbers an int.
_RANGES = {
  'seed': (0, None),
  'members': (1, None),
  'folds': (0, None),
  'data.batch_size': (0, None),
  'data.foreground': (0.0, None),
  'data.held_out': (0.0, 1),
  'data.labelled': (0, None),
  'data.labelled_share': (0.0, 1),
  'data.cache_gb': (0.0, None),
  'optimizer.learning_rate': (0.0, None),
  'optimizer.weight_decay': (0.0, None),
  'optimizer.clip_norm': (0.0, None),
  'optimizer.layer_decay': (0.0, None),
  'train.steps': (1, None),
  'train.log_every': (1, None),
  'train.eval_every': (1, None),
  'train.patience': (0, None),
  'train.ema_decay': (0.0, 1),
  'train.microbatches': (1, None),
  'train.shard_above': (0, None),
  'privacy.epsilon': (0.0, None),
  'privacy.delta': (0.0, 1),
  'privacy.clip_norm': (0.0, None),
  'privacy.microbatch': (1, None),
  'inference.batch_size': (1, None),
  'inference.overlap': (0.0, 1),
}
_LISTS = ('data.preprocess', 'augment')  # of entries with a name
# Parts whose further fields are arguments of what they name.
NAMED = ('model', 'adapt', 'task', 'optimizer', 'schedule')
# Where things lie, which changes no result: another machine may say otherwise.
PLACES = (
  'data.data_dir',
  'train.profile',
  'train.shard_above',
  'train.together',
  'train.writer',
)
# Fields that say which cases are whose. With another of them those of training
# may be tested.
OF_THE_DATA = (
  'seed', 'members', 'folds', 'data.name', 'data.path', 'data.table',
  'data.where', 'data.join', 'data.landmark', 'data.fields', 'data.uncertain',
  'data.patient', 'data.group', 'data.fractions', 'data.seed', 'data.held_out',
  'data.folds', 'data.splits',
)  # fmt: skip


def part(tree):
  """A mapping as a part of a config."""
  return ml_collections.ConfigDict(dict(tree))


def is_part(value):
  """Whether a value of a config has fields of its own."""
  return isinstance(value, ml_collections.ConfigDict)


def to_json(config):
  """The config as JSON text with sorted keys."""
  plain = config.to_dict() if hasattr(config, 'to_dict') else config
  return json.dumps(plain, indent=2, sort_keys=True) + '\n'


def load(workdir):
  """The config that a workdir was trained with."""
  path = pathlib.Path(workdir) / 'config.json'
  stored = files.read_json(path, mend='take another workdir, or train again')
  if stored is None:
    raise FileNotFoundError(f'{path} is missing: {workdir} holds no run')
  if not isinstance(stored, dict):
    raise ValueError(f'{path} holds no config: take another workdir')
  defaults = json.loads(to_json(default_config()))
  for name, below in defaults.items():
    if isinstance(below, dict) and not isinstance(stored.get(name, {}), dict):
      raise ValueError(
        f'{path} is damaged: {name} is no group of fields; take another '
        'workdir, or train again'
      )
  config = ml_collections.ConfigDict(_tuples(_filled(stored, defaults)))
  return _typed(config, default_config())


def _typed(config, known):
  """The config with the types of those fields that are None, for flags."""
  for name, value in known.items():
    if is_part(value):
      _typed(config[name], value)
    elif config[name] is None:
      config[name] = placeholder(known.get_type(name))
  return config


def _tuples(value):
  """JSON's lists as the tuples they were, so that a flag may set them."""
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _filled(stored, defaults):
  """A stored config with the defaults of fields that are newer than it."""
  if not (isinstance(stored, dict) and isinstance(defaults, dict)):
    return stored
  old = {k: _filled(v, defaults.get(k)) for k, v in stored.items()}
  return {**defaults, **old}


def members(config, workdir):
  """[(config, workdir)] of the runs that a config stands for, mostly itself.

  The members of an ensemble differ in their seed, but not in how patients are
  divided. In a cross-validation fold i is the test set of member i, the next
  fold validates and the rest trains, or data.held_out of the rest validates.
  Each is an ordinary run, in a folder of
  its own.
  """
  workdir = pathlib.Path(workdir)
  count, folds = config.get('members', 1), config.get('folds', 0)
  held_out = config.data.get('held_out', 0)
  if folds == 2 and not held_out:
    raise ValueError(
      'folds=2: one tests, the other trains, and none validates; say '
      'data.held_out=0.2 too, the share of the other that does'
    )
  if count < 1 or folds < 0 or folds == 1 or (count > 1 and folds):
    raise ValueError(
      f'members={count}, folds={folds}: give members of 1 or more, or folds of '
      '3 or more, which train, validate and test (2 with data.held_out)'
    )
  if count == 1 and not folds:
    return [(config, workdir)]
  runs = []
  for i in range(folds or count):
    run = copy.deepcopy(config)
    run.members, run.folds, run.train.together = 1, 0, None
    if folds:
      order = [f'fold{(i + k) % folds}' for k in range(folds)]
      if not held_out:
        run.data.splits.validation = order.pop(1)
      run.data.splits.test, *train = order
      run.data.splits.train = '+'.join(sorted(train))
    else:
      run.data.seed = (
        config.seed if config.data.seed is None else config.data.seed
      )
      run.seed = config.seed + i
    runs.append((run, workdir / f'{"fold" if folds else "member"}{i}'))
  return runs


def _flat(tree, prefix=''):
  if not isinstance(tree, dict):
    return {prefix: tree}
  items = {}
  for key, value in tree.items():
    items.update(_flat(value, f'{prefix}.{key}' if prefix else key))
  return items


def changes(config, workdir):
  """{field: (what a workdir was trained with, what this config says)}.

  Of the fields that differ, but for `PLACES`; one that is newer than the run
  has its default.
  """
  old = _flat(json.loads(to_json(default_config())))
  old |= _flat(json.loads(to_json(load(workdir))))
  new = _flat(json.loads(to_json(config)))
  return {
    k: (old.get(k), new.get(k))
    for k in sorted({*old, *new})
    if old.get(k) != new.get(k) and k not in PLACES
  }


def compare(
  config,
  workdir,
  fields=('',),
  mend='take a new --workdir, or the old config',
):
  """Checks that a workdir was trained with this config.

  A run is one config from its first step to its last. `fields` are prefixes of
  the names compared, by default all. Raises ValueError that names the first
  fields that differ, and how to mend that.
  """
  path = pathlib.Path(workdir) / 'config.json'
  changed = [
    f'{k}: {old!r} → {new!r}'
    for k, (old, new) in changes(config, workdir).items()
    if k.startswith(tuple(fields))
  ]
  if changed:
    raise ValueError(
      f'{path} belongs to a run with another config ('
      + '; '.join(changed[:3])
      + ('; …' if len(changed) > 3 else '')
      + f'): {mend}'
    )


def store(config, workdir):
  """Writes config.json."""
  tree = json.loads(to_json(config))  # in its order
  files.write_json(pathlib.Path(workdir) / 'config.json', tree, sealed=True)


def complete(config):
  """A config with the defaults of the fields that it does not name.

  So a whole part of it may be given, optimizer=dict(name='sgd'). Raises
  ValueError for a field that there is not; what is named, a model, a task, an
  optimizer, says itself what it takes.
  """
  defaults, given = default_config().to_dict(), config.to_dict()
  _check_names(given, defaults)
  values = given.get('data', {}).get('mask_values')
  if isinstance(values, dict):  # JSON has no numbers as keys
    given['data']['mask_values'] = tuple(sorted(values.items()))
  return ml_collections.ConfigDict(_filled(given, defaults))


def _check_names(given, defaults, prefix=''):
  for name, value in given.items():
    if name not in defaults:
      near = closest(name, sorted(defaults))
      if prefix == 'data.fields.' and not near.startswith('; did'):
        continue  # a further image may have any name
      raise ValueError(f'no config field {prefix}{name}{near}')
    below = defaults[name]
    if isinstance(below, dict) and not isinstance(value, dict):
      raise ValueError(f'{prefix}{name} must be a dict, not {value!r}')
    if isinstance(below, dict) and name not in NAMED:
      _check_names(value, below, f'{prefix}{name}.')


def check(config):
  """Raises ValueError for a field whose value can mean nothing."""
  value = lambda name: _get(config, name)
  for name, (least, below) in _RANGES.items():
    number = value(name)
    if isinstance(number, bool) or not isinstance(number, int | float):
      raise ValueError(f'{name} must be a number, not {number!r}')
    if isinstance(least, int) and not isinstance(number, int):
      raise ValueError(f'{name} must be a whole number, not {number!r}')
    if not number >= least or (below is not None and not number < below):
      range_ = f'{least:g} or more' + (f' and below {below:g}' if below else '')
      raise ValueError(f'{name} must be {range_}, not {number}')
  if value('data.foreground') > 1:
    raise ValueError(
      'data.foreground is a share of the patches, from 0 to 1, not '
      f'{value("data.foreground")}'
    )
  for name in _LISTS:
    entries = value(name)
    if isinstance(entries, str) or not isinstance(entries, list | tuple):
      raise ValueError(
        f'{name} must be a tuple of entries, (dict(name=…), …), not {entries!r}'
        ': a tuple of one ends with a comma'
      )
    for entry in entries:
      if not hasattr(entry, 'items') or 'name' not in entry:
        raise ValueError(f'{name}: {entry!r} is no entry dict(name=…)')
  profile = value('train.profile')
  if profile and not (
    isinstance(profile, list | tuple)
    and len(profile) == 2
    and all(type(step) is int for step in profile)
    and 1 <= profile[0] <= profile[1]
  ):
    raise ValueError(
      f'train.profile must be the first and the last step, (10, 15), not '
      f'{profile!r}'
    )
  for size in tuple(value('data.patch_size') or ()):
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
      raise ValueError(
        f'data.patch_size must be whole numbers of 1 or more, not {size!r}'
      )


def check_splits(splits):
  """Raises ValueError where two splits take the same part of a set.

  Or where that cannot be told, of parts written in two ways.
  """
  parts = {k: [p.strip() for p in v.split('+')] for k, v in splits.items()}
  for a, b in itertools.combinations(parts, 2):
    for one, other in itertools.product(parts[a], parts[b]):
      overlap = _overlap(one, other)
      if overlap is None:
        name = one.partition('[')[0]
        raise ValueError(
          f'data.splits: whether {one!r} of {a} and {other!r} of {b} share '
          'cases cannot be told: count both from one end and in one unit, '
          f"'{name}[:80%]' and '{name}[80%:]'"
        )
      if overlap:
        raise ValueError(
          f'data.splits: {one!r} of {a} is in {b} too, {other!r}; a case of '
          'training may not be one of testing'
        )


def _overlap(one, other):
  """Whether two parts, 'train[:80%]', share a case; None where none can say."""
  (name, a), (same, b) = _range(one), _range(other)
  if name != same or one == other or name in (one, other):
    return name == same
  if a is None or b is None or len(a[2] | b[2]) > 1:
    return None
  return max(a[0], b[0]) < min(a[1], b[1])


def _range(part):
  """(name, (from, to, {unit})) of a part; (name, None) of another kind.

  Numbers are of percent, of cases, or of cases from the end, which are below 0.
  """
  edge = r'(-?\d+%?)?'
  found = re.fullmatch(rf'([^[]+)(?:\[{edge}:{edge}\])?', part)
  if not found:
    return part.partition('[')[0], None
  name, *edges = found.groups()
  units, bounds = set(), [-math.inf, math.inf]
  for i, text in enumerate(edges):
    if text and '%' in text:
      bounds[i] = float(text[:-1]) + 100 * text.startswith('-')
      units.add('%')
    elif text:
      bounds[i] = float(text)
      units.add('from the end' if text.startswith('-') else 'from the start')
  return name, (*bounds, units)


def _get(config, name):
  for part in name.split('.'):
    config = config[part]
  return config
