"""The best trial: its config, and what it is worth on test, looked at once."""

import math
import pathlib

import numpy as np

from medjax import experiment, files
from medjax.evaluate import evaluate
from medjax.run.checkpoint import Checkpointer
from medjax.search import ledger, population, space
from medjax.train import train

RESULT = 'best.json'
# What is there as soon as the test split was read, by an evaluation that was
# interrupted too.
_READ = (RESULT, 'best/seed*/metrics.json')
_CHOSEN = 'best/trial.json'  # which trial the runs beside it are of
_CONFIG = '''"""Trial {number}, the best of {trials}: {value:.4f} on validation.

Made by medjax.search best; {config} with what was found.
"""

from medjax.public import read_config

FOUND = {found}


def get_config():
  """The config with the fields that the search has found."""
  config = read_config({config!r})
  with config.unlocked():
    config.update_from_flattened_dict(FOUND)
  return config
'''


def best(workdir):
  """The `Trial` with the best score at the last rung.

  Raises ValueError before all have ended, and where none is done.
  """
  for t in ledger.read(workdir):
    if t.state == 'running' or (t.is_free and not t.has_arrived):
      raise ValueError(
        f'{workdir}: trial {t.number} has not ended, and may be the best: wait '
        'for it, or go on with the search'
      )
  return min(done(workdir), key=lambda t: (-t.value, t.number))


def done(workdir):
  """The `Trial`s that have come to the last rung.

  Raises ValueError where none has.
  """
  trials = ledger.read(workdir)
  if found := [t for t in trials if t.state == 'done']:
    return found
  failed = [t for t in trials if t.state == 'failed']
  why = f' ({len(failed)} failed: {failed[0].reason})' if failed else ''
  raise ValueError(
    f'{workdir}: no trial is done{why}; go on with the search'
    f'{", and more --trials" if failed else ""}'
  )


def write_config(workdir, out, config):
  """Writes a config file of the best trial; returns its path.

  Raises ValueError for a file that says something else, as the config does that
  was searched.
  """
  trial, out = best(workdir), pathlib.Path(out)
  found = space.plain(trial.overrides)
  lines = [f'  {k!r}: {v!r},' for k, v in sorted(found.items())]
  text = _CONFIG.format(
    trials=len(ledger.read(workdir)),
    number=trial.number,
    value=trial.value,
    config=config,
    found='\n'.join(['{', *lines, '}']),
  )
  if out.exists() and out.read_bytes() != text.encode():
    raise ValueError(
      f'{out} is there, and is not what would be written: give --out another '
      'name, or delete it'
    )
  files.write_text(out, text)
  return out


def check_unread(workdir):
  """Raises ValueError where the test split of a search has been read."""
  workdir = pathlib.Path(workdir)
  for name in _READ:
    for path in sorted((*workdir.glob(name), *workdir.glob(f'fold*/{name}'))):
      raise ValueError(
        f'{path}: the test split of this search has been read, and what is '
        'tried now would know it: `search best` gives the result, if it is not '
        'there yet; take a new --workdir to search on'
      )


def judge(workdir, config, *, seeds=3, show=print):
  """Trains the best trial in new seeds, and then evaluates each once on test.

  Writes best.json: the score of the search on validation, those of the seeds on
  validation and test, and the optimism, which is what the search saw less what
  test gives. Runs that are done are not done again.
  """
  return look(workdir, trained(workdir, config, seeds=seeds, show=show))


def trained(workdir, config, *, seeds, fold=None, show=print):
  """[(folder, Experiment, facts)] of the best trial in new seeds.

  Of a population by the schedule that it found. The test split is not opened.
  """
  workdir, runs = pathlib.Path(workdir), []
  parts = population.schedule(ledger.read(workdir), _chosen(workdir))
  for seed in range(1, seeds + 1):
    folder = workdir / 'best' / f'seed{seed}'
    for until, overrides in parts:
      if until <= _step(folder) and until < parts[-1][0]:
        continue  # done, before a kill
      settings = space.configured(config, overrides, fold)
      if settings.data.seed is None:  # the division stays that of the search
        settings.data.seed = settings.seed
      settings.seed += seed
      made = experiment.make(settings)
      if len(parts) > 1:
        made.store(folder)  # goes on with other settings than it began with
      facts = train(made, folder, until=until, read_test=False)
    runs.append((folder, made, facts))
    show(f'seed {settings.seed} is trained: {folder}')
  return runs


def _chosen(workdir):
  """The best trial, which the runs in best/ are of.

  Raises ValueError where it was another when these began.
  """
  trial, path = best(workdir), workdir / _CHOSEN
  before = files.read_json(path, mend=f'delete {path.parent}')
  if before is None:
    files.write_json(path, {'number': trial.number}, sealed=True)
  elif before['number'] != trial.number:
    raise ValueError(
      f'{path.parent} has runs of trial {before["number"]}, but the best is '
      f'trial {trial.number} since: delete {path.parent} to train that'
    )
  return trial


def _step(folder):
  """The step that a run has come to, 0 of none."""
  if not (folder / 'checkpoints').is_dir():
    return 0
  with Checkpointer(folder, read_only=True) as checkpoints:
    return checkpoints.latest_step() or 0


def look(workdir, runs):
  """Evaluates what `trained` gave on test, and writes best.json.

  A score that is not defined there is NaN, and does not count. Raises
  ValueError for a test split without references.
  """
  workdir = pathlib.Path(workdir)
  trial = _chosen(workdir)  # still: a search may have gone on
  tests, validations = [], []
  for folder, made, facts in runs:
    found = files.read_json(folder / 'metrics.json', mend='evaluate again')
    found = found or evaluate(made, folder, facts=facts)
    if 'test' not in found:
      raise ValueError(
        f'{folder}: nothing scores the test split, as no case of it has a '
        'reference: give it some, and delete metrics.json there'
      )
    monitor = made.task.monitor
    for scores, split in ((tests, 'test'), (validations, 'validation')):
      value = found[split]['scores'][monitor]
      scores.append(math.nan if value is None else value)
  result = {
    'trial': trial.number,
    'overrides': trial.overrides,
    'monitor': monitor,
    'searched': trial.value,
    'validation': validations,
    'test': tests,
    'optimism': trial.value - mean(tests),
    'interval': interval(trial.value - np.array(tests)),
  }
  files.write_json(workdir / RESULT, result, sealed=True)
  return result


def mean(values):
  """Mean of those that are defined; NaN of none."""
  values = np.asarray(values, float)
  defined = values[~np.isnan(values)]
  return float(defined.mean()) if defined.size else math.nan


def interval(values):
  """Mean ± t · standard error over seeds or folds; None of fewer than two.

  Of those that are defined.
  """
  values = values[~np.isnan(values)]
  if len(values) < 2:
    return None
  from scipy import stats

  half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
  return [float(values.mean() - half), float(values.mean() + half)]
