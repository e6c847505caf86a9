"""The raw cases that a config means: of a prepared set, or of a folder."""

import inspect

import jax
from jax.experimental import multihost_utils

from medjax import prepare, tasks
from medjax.build import lookup
from medjax.data import builders, folder, records
from medjax.defaults import default_config


def open_cases(config, parts):
  """The raw cases of parts of a set: 'train', 'fold1+fold2'."""
  data = config.data
  if data.name == 'folder':
    if not data.path:  # which would be the current folder
      raise ValueError(
        'data.path: say where the files are, as in --config.data.path=FOLDER'
      )
    return folder.open_folder(data.path, parts, **folder_options(config))
  _check_prepared(data)
  if jax.process_index() == 0:
    prepare.prepare(
      data.name,
      data_dir=data.data_dir or None,
      manual_dir=data.manual_dir or None,
    )
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('prepared')
  return records.open_split(data.name, parts, data_dir=data.data_dir or None)


# Fields of config.data that say what a folder holds, or divide it.
_OF_A_FOLDER = (
  'path', 'table', 'where', 'join', 'fields', 'ignore', 'mask_values',
  'landmark', 'uncertain', 'patient', 'group', 'hash_ids', 'fractions', 'folds',
)  # fmt: skip


def _check_prepared(data):
  """Raises ValueError for a field that a prepared set would not heed."""
  builders.find(data.name)  # a name that is misspelt is said first
  given, known = data.to_dict(), default_config().data.to_dict()
  for name in _OF_A_FOLDER:
    if _plain(given[name]) != _plain(known[name]):
      raise ValueError(
        f"data.{name} is for data.name='folder', and nothing to {data.name}, "
        'which is as it was prepared: leave it out, or take a config for your '
        'own files'
      )


def _plain(value):
  """A value as it is compared: what is empty is None, lists are tuples."""
  if isinstance(value, dict):
    value = {k: v for k, v in value.items() if v}
  value = tuple(value) if isinstance(value, list) else value
  return None if value in ((), '', {}) else value


def _inputs(kind):
  """What a kind of task is called with where the config does not say."""
  taken = inspect.signature(kind).parameters.get('inputs')
  known = (
    getattr(kind, 'inputs', ('image',)) if taken is None else taken.default
  )
  return known if isinstance(known, tuple) else ('image',)


def folder_options(config):
  """The options of `folder.open_folder` that a config, also as a dict, says."""
  data, task = config['data'], config['task']
  names = () if task.get('regions') else task.get('class_names', ())
  kind, alike = lookup(tasks, task.get('name', '')), (
    'fractions', 'folds', 'table', 'where', 'patient', 'group', 'uncertain',
    'landmark',
    'hash_ids',
  )  # fmt: skip
  few = data.get('labelled') or data.get('labelled_ids')
  return {name: data[name] for name in alike} | dict(
    join=dict(data['join']),
    seed=config['seed'] if data['seed'] is None else data['seed'],
    fields=dict(data['fields']),
    class_names=tuple(names or ()) or None,
    dense='mask' in kind.fields,
    images='image' in (task.get('inputs') or _inputs(kind)),
    ignore=task.get('ignore') if data['ignore'] is None else data['ignore'],
    mask_values=data['mask_values'],
    unlabelled=kind.unlabelled and not kind.fields,
    partly=bool(kind.fields and (kind.unlabelled or few)),
  )
