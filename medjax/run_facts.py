"""The facts of a run's data: measured of training cases, or as it kept them."""

import inspect
import pathlib

from medjax import config as config_lib
from medjax import files, tasks
from medjax.build import lookup
from medjax.data import facts as facts_lib
from medjax.data.facts import DataFacts


def of(config, own):
  """The facts of each of the divisions of the data, split → raw cases.

  Of its training cases alone: no fold knows what it is tested on.
  """
  every = [cases('train') for cases in own]
  kind = lookup(tasks, config.task.get('name', ''))
  takes = inspect.signature(kind).parameters
  count = 'num_classes' in takes and not config.task.get('num_classes')
  return facts_lib.alike(
    [DataFacts.of(c, count=count and c is every[0]) for c in every]
  )


def stored(config, workdir):
  """The facts of a workdir; of a cross-validation those of each fold."""
  if not config.get('folds', 0):
    return read(workdir)
  runs = config_lib.members(config, workdir)
  return [read(folder) for _, folder in runs]


def read(workdir):
  """The facts that one run was built on."""
  path = pathlib.Path(workdir) / 'facts.json'
  values = files.read_json(path, mend='take another workdir, or train again')
  if values is None:
    raise FileNotFoundError(f'{path} is missing: {workdir} holds no run')
  try:
    return DataFacts.read(values)
  except ValueError as e:
    raise ValueError(
      f'{path} is damaged: {e}; take another workdir, or train again'
    ) from None
