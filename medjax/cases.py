"""The raw cases that a config means: of a prepared set, or of a folder."""

import inspect
import pathlib

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


# Of a run that is there, other cases.


def options_of_others(experiment, path):
  """The options of `folder.open_folder` for other files, read as the run's.

  Classes, covariates and the label to ignore are those that it was trained on,
  whoever named them.
  """
  options, facts = folder_options(experiment.config), experiment.facts
  regions = experiment.config['task'].get('regions') or facts.regions
  if names := () if options['dense'] and regions else facts.class_names:
    options['class_names'] = tuple(names)
  if 'covariates' in experiment.task.inputs:
    options['covariates'] = facts.covariate_names
  if options['ignore'] is None:
    options['ignore'] = facts.ignore
  return options | _tables_of(path, options)


def _tables_of(path, options):
  """The options that name tables, of those that lie with other data.

  Never the run's own, which has their name and may lie where we are.
  """
  root, join = path.parent if path.is_file() else path, options['join']
  here = lambda name: root / pathlib.Path(name).name
  table, other = options['table'], join.get('table')
  if path.is_file() or not table or not here(table).exists():
    table = ''  # the file itself, or what is found in the folder
  if other and not here(other).exists():
    raise FileNotFoundError(
      f'{here(other)}: no such file; the run joins a table of that name'
    )
  return {
    'table': str(here(table).resolve()) if table else '',
    'join': {**join, 'table': str(here(other).resolve())} if other else join,
  }


def check_classes(experiment, data, cases):
  """Raises ValueError where labels mean something else than in the training."""
  names, theirs = experiment.facts.class_names, tuple(cases.class_names or ())
  if names and theirs and tuple(names) != theirs:
    raise ValueError(
      f'{data} has the classes {", ".join(theirs)}, the run was trained on '
      f'{", ".join(names)}: they must be the same, in the same order'
    )
  names, theirs = experiment.facts.covariate_names, cases.covariate_names
  if 'covariates' in experiment.task.inputs and names != tuple(theirs):
    raise ValueError(
      f'{data} has the covariates {", ".join(theirs) or "none"}, the run was '
      f'trained on {", ".join(names)}'
    )
