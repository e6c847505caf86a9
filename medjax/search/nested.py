"""A search inside each fold of a cross-validation (nested cross-validation).

What a search finds is too good on the cases that chose it. Here each outer fold
is tested once, by the winner of a search that never saw it: what is measured is
the whole procedure, search and training (Varma & Simon, Bias in error
estimation when using cross-validation for model selection, 2006).
"""

import pathlib

import numpy as np

from medjax import experiment, files
from medjax.search import ledger, space, winner

RESULT = 'nested.json'


def folds(config):
  """How many outer folds a config has.

  Raises ValueError for none, or other than the data have.
  """
  made = space.configured(config, {})
  if not made.get('folds', 0):
    raise ValueError(
      f'--nested searches inside each fold of a cross-validation, and {config} '
      'has no folds: set folds=5 in it (of own files data.folds=5, too)'
    )
  return len(experiment.make(made).members)


def places(workdir):
  """The searches of a nested one, by fold; empty for an ordinary search."""
  found = pathlib.Path(workdir).glob('fold*')
  return sorted(
    (p for p in found if p.name[4:].isdigit()), key=lambda p: int(p.name[4:])
  )


def place(workdir, fold):
  """The workdir of the search inside a fold."""
  return pathlib.Path(workdir) / f'fold{fold}'


def judge(workdir, config, *, seeds=3, show=print):
  """Trains the winner of each fold in new seeds, then tests each in its fold.

  No test fold is opened before the winners of all are trained. Writes
  nested.json: by fold what best.json says, the mean over folds of the scores on
  test and of the optimism, with intervals over folds. Raises ValueError where
  the search of a fold has not ended.
  """
  inside = [place(workdir, i) for i in range(folds(config))]
  _check_ended(inside)
  runs = [
    winner.trained(path, config, seeds=seeds, fold=i, show=show)
    for i, path in enumerate(inside)
  ]
  found = [winner.look(*each) for each in zip(inside, runs, strict=True)]
  tests = np.array([winner.mean(each['test']) for each in found])
  optimism = np.array([each['optimism'] for each in found])
  result = {
    'monitor': found[0]['monitor'],
    'folds': found,
    'test': winner.mean(tests),
    'interval': winner.interval(tests),
    'optimism': winner.mean(optimism),
    'optimism_interval': winner.interval(optimism),
  }
  files.write_json(pathlib.Path(workdir) / RESULT, result, sealed=True)
  return result


def _check_ended(inside):
  trials = [ledger.read(path) for path in inside]
  most = max(map(len, trials))
  for path, found in zip(inside, trials, strict=True):
    ended = sum(t.state != 'running' and t.has_arrived for t in found)
    if ended < most or not found:
      raise ValueError(
        f'{path}: {ended} trials of {most or "none"} have ended; go on with '
        'the search before the test folds are read'
      )
    winner.best(path)
