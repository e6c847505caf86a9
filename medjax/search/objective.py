"""What a trial is worth: a run, trained to a step, scored on validation."""

import json
import math
import pathlib

from medjax import experiment
from medjax.search import space
from medjax.train import train


class Objective:
  """Trains trials of a config: `objective(overrides, folder, until) → curve`.

  Of a cross-validation those of one fold. The curve is {step: validation score
  by the task's monitor}. The test split is never opened.
  """

  def __init__(self, config, fold=None):
    self.config, self.fold = config, fold
    made = space.configured(config, {}, fold)
    if made.get('members', 1) > 1 or made.get('folds', 0):
      raise ValueError(
        f'{config}: a search trains one run a trial, so members must be 1 and '
        'folds 0; --nested searches inside each fold'
      )
    self.steps = made.train.steps

  def __call__(self, overrides, folder, until):
    """The curve of a trial that goes on to step `until` in its folder."""
    made = experiment.make(space.configured(self.config, overrides, self.fold))
    taken = (folder / 'checkpoints').is_dir()
    if taken and not (folder / 'config.json').exists():
      made.store(folder)  # the state is another trial's, the config its own
    train(made, folder, until=until, read_test=False)
    return curve(folder, made.task.monitor)


def curve(folder, monitor):
  """{step: validation score} of what a run has logged, where it is defined."""
  name, found = f'validation/{monitor}', {}
  path = pathlib.Path(folder) / 'metrics.jsonl'
  for line in path.read_text('utf-8').splitlines():
    try:
      entry = json.loads(line)
    except ValueError:  # cut off by a kill; the run has written it again
      continue
    if (value := entry.get(name)) is not None and math.isfinite(value):
      found[entry['step']] = float(value)
  if not found:
    raise ValueError(f'{path}: no {name} was logged')
  return found
