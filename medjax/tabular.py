"""The tabular baseline of a fusion: a linear model of its table alone.

Logistic or Cox regression, an ordinary run in WORKDIR/tabular, of the same
cases and splits.
"""

import copy
import dataclasses
import pathlib
import sys

import jax

from medjax import config as config_lib
from medjax import experiment as experiment_lib
from medjax import report
from medjax.evaluate import test_rows
from medjax.train import train

FOLDER = 'tabular'
_OF_A_TABLE = ('standardise', 'compress')


def config_of(config, *, causes=1):
  """The config of the baseline of a fusion's, or None where it has no table.

  Or where the fusion has a budget of privacy, which would be spent twice.
  `causes` are those that compete, of a task of survival.
  """
  config = copy.deepcopy(config_lib.complete(config))
  table = 'covariates' in (config.task.get('inputs') or ())
  if not table or config.privacy.epsilon:
    return None
  defaults = config_lib.default_config()
  config.task.inputs, config.members = ('covariates',), 1
  if config.task.name == 'Survival':
    config.task.model = 'competing' if causes > 1 else 'cox'
  config.data.preprocess = tuple(
    step for step in config.data.preprocess if step['name'] in _OF_A_TABLE
  ) or ({'name': 'standardise'},)
  config.data.update(batch_size=0, patch_size=(), subgroups=())
  config.model = {'name': 'MLP', 'hidden': ()}
  for part in ('pretrained', 'adapt', 'inference', 'train', 'optimizer'):
    config[part] = defaults[part]
  config.augment = ()
  # All cases at once, until nothing moves; the penalty is the decay.
  config.optimizer.update(name='adam', learning_rate=2e-2, weight_decay=6e-2)
  config.schedule = {'name': 'cosine', 'warmup_steps': 0}
  config.train.update(steps=600, log_every=100, eval_every=600)
  config.inference.batch_size = 1024
  return config


def rows(config, made, workdir, *, training):
  """Test rows of the baseline of a fusion, trained if asked.

  `config` is that of the Experiment `made`. None where there is no fusion, no
  table, or no baseline was trained; and, said, where it cannot be trained.
  """
  if not (made.optional and len(made.task.inputs) > 1):
    return None
  baseline = config_of(config, causes=made.facts.causes)
  folder = pathlib.Path(workdir) / FOLDER
  if baseline is None or not (training or (folder / 'config.json').exists()):
    return None
  try:
    return _rows(baseline, made, folder, training)
  except (ArithmeticError, FileNotFoundError, ValueError) as e:
    if jax.process_count() > 1:  # The others may wait for this one.
      raise
    # The fusion is evaluated without it.
    print(f'medjax: there is no tabular baseline: {e}', file=sys.stderr)
    return None


def _rows(baseline, made, folder, training):
  own = [e.facts for _, e in made.members] if made.folds else made.facts
  one = experiment_lib.make(baseline, facts=own)
  one = _of_cases(one, made)
  if training:
    if jax.process_index() == 0:
      print(f'the tabular baseline, in {folder}')
    train(one, folder)
  found = test_rows(one, folder)
  if jax.process_index() == 0:
    for _, each in one.runs(folder):
      report.write_report(each)
    report.write_report(folder)
  return found


def _of_cases(one, made):
  """An experiment on the very cases of another: their ids are the same."""
  if not one.members:
    runs = made.members or ((None, made),)
    return dataclasses.replace(one, cases=runs[0][1].cases)
  return dataclasses.replace(
    one,
    members=tuple(
      (folder, dataclasses.replace(own, cases=other.cases))
      for (folder, own), (_, other) in zip(
        one.members, made.members, strict=True
      )
    ),
  )
