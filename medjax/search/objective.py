"""What a trial is worth: a run, trained to a step, scored on validation."""

import json
import pathlib

from medjax import experiment
from medjax.search import space
from medjax.train import train


class Objective:
  """Trains trials of a config: `objective(overrides, folder, until) → score`.

  The score is the best of validation so far, by the task's monitor. The test
  split is never opened.
  """

  def __init__(self, config):
    self.config = config
    settings = space.configured(config, {}).train
    self.steps = settings.steps

  def __call__(self, overrides, folder, until):
    """The score of a trial that goes on to step `until` in its folder."""
    made = experiment.make(space.configured(self.config, overrides))
    if made.members:
      raise ValueError(
        'a search trains one run a trial: members and folds of the config must '
        'be 1 and 0'
      )
    train(made, folder, until=until, read_test=False)
    return score(folder, made.task.monitor)


def score(folder, monitor):
  """The best validation score that a run has logged."""
  name, found = f'validation/{monitor}', []
  path = pathlib.Path(folder) / 'metrics.jsonl'
  for line in path.read_text('utf-8').splitlines():
    try:
      value = json.loads(line).get(name)
    except ValueError:  # cut off by a kill; the run has written it again
      continue
    if value is not None:
      found.append(float(value))
  if not found:
    raise ValueError(f'{path}: no {name} was logged')
  return max(found)
