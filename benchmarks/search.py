"""TPE against random: benchmarks/search.py [--seeds=30] [--trials=40].

Whole searches, as `medjax search` makes them, of objectives that cost nothing:
Branin and Hartmann-6 (the loss left above the known optimum), and a tabulated
task, the validation AUROC of a kernel ridge classifier on PneumoniaMNIST for
each of 2,028 settings, computed once (the AUROC left below the table's best).
Prints the median over seeds of what is left after all trials with its 95 %
interval (bootstrap), the two-sided Mann-Whitney p of TPE against random, and
the seconds that the search itself takes of a trial; keeps all of it as JSON.
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np
from scipy import stats

from medjax.data import records
from medjax.search import worker

SETTINGS = {'gamma': 13, 'ridge': 13, 'size': (28, 14, 7)}
CONTRASTS = {
  'raw': lambda x: x,
  'zscore': lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True),
  'root': np.sqrt,
  'ranks': lambda x: stats.rankdata(x, axis=1) / x.shape[1],
}


def branin(x, y):
  """Picheny et al. 2013, x in [-5, 10], y in [0, 15]; least .397887."""
  valley = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
  return valley**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10


_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
  [
    [10, 3, 17, 3.5, 1.7, 8],
    [0.05, 10, 17, 0.1, 8, 14],
    [3, 3.5, 1.7, 10, 17, 8],
    [17, 8, 0.05, 10, 0.1, 14],
  ]
)
_P = 1e-4 * np.array(
  [
    [1312, 1696, 5569, 124, 8283, 5886],
    [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650],
    [4047, 8828, 8732, 5743, 1091, 381],
  ]
)


def hartmann(x):
  """Hartmann's function of six numbers in [0, 1]; least -3.32237."""
  return -_ALPHA @ np.exp(-(_A * (np.asarray(x) - _P) ** 2).sum(1))


def tabulated(n=400):
  """{(gamma, ridge, size, contrast): validation AUROC}, of real images."""
  splits = []
  for split in ('train', 'validation'):
    cases = records.open_split('medmnist/pneumoniamnist', split)
    cases = [cases[i] for i in range(min(n, len(cases)))]
    images = np.stack([c['image'][..., 0] for c in cases]).astype(float) / 255
    splits.append((images, np.array([int(c['label']) for c in cases])))
  (train, y), (validation, truth) = splits
  found = {}
  for size in SETTINGS['size']:
    for contrast, change in CONTRASTS.items():
      a, b = (change(_pooled(x, size) + 1e-3) for x in (train, validation))
      own, cross = _distances(a, a), _distances(b, a)
      for i, gamma in enumerate(np.geomspace(1e-3, 1e3, SETTINGS['gamma'])):
        scale = gamma / np.median(own)
        values, vectors = np.linalg.eigh(np.exp(-scale * own))
        out, target = (
          np.exp(-scale * cross) @ vectors,
          vectors.T @ (y - y.mean()),
        )
        for j, ridge in enumerate(np.geomspace(1e-6, 1e3, SETTINGS['ridge'])):
          scores = out @ (target / (values.clip(0) + ridge))
          found[i, j, size, contrast] = _auroc(scores, truth)
  return found


def _pooled(x, size):
  k = x.shape[1] // size
  return x.reshape(-1, size, k, size, k).mean((2, 4)).reshape(len(x), -1)


def _distances(a, b):
  return ((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T).clip(0)


def _auroc(scores, truth):
  ranks, positive = stats.rankdata(scores), truth == 1
  n, m = positive.sum(), (~positive).sum()
  return (ranks[positive].sum() - n * (n + 1) / 2) / (n * m)


def problems():
  """{name: (space, values → what is left above the least)}."""
  table = tabulated()
  top = max(table.values())

  def plane(trial):
    return {'x': trial.suggest_float('x', -5, 10),
            'y': trial.suggest_float('y', 0, 15)}  # fmt: skip

  def cube(trial):
    return {str(i): trial.suggest_float(str(i), 0, 1) for i in range(6)}

  def settings(trial):
    return {
      'gamma': trial.suggest_int('gamma', 0, SETTINGS['gamma'] - 1),
      'ridge': trial.suggest_int('ridge', 0, SETTINGS['ridge'] - 1),
      'size': trial.suggest_categorical('size', SETTINGS['size']),
      'contrast': trial.suggest_categorical('contrast', list(CONTRASTS)),
    }

  return {
    'Branin': (plane, lambda v: branin(v['x'], v['y']) - 0.397887),
    'Hartmann-6': (cube, lambda v: hartmann([*v.values()]) + 3.32237),
    'PneumoniaMNIST, tabulated': (
      settings, lambda v: top - table[tuple(v.values())],
    ),
  }  # fmt: skip


def left(space, loss, kind, seed, trials):
  """(least loss of a search, seconds of a trial)."""
  began = time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    found = worker.search(
      folder, lambda overrides, place, until: {until: -loss(overrides)}, space,
      trials=trials, levels=(1,), kind=kind, seed=seed,
      show=lambda line: None,
    )  # fmt: skip
  seconds = (time.monotonic() - began) / trials
  return float(min(-t.value for t in found)), seconds


def summary(values, rng):
  """[median, low, high] over seeds."""
  drawn = rng.choice(values, (5000, len(values)))
  return [
    float(np.median(values)),
    *np.quantile(np.median(drawn, 1), (0.025, 0.975)).tolist(),
  ]


def main():
  """Prints a table; writes results/search.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--seeds', type=int, default=30)
  parser.add_argument('--trials', type=int, default=40)
  parser.add_argument(
    '--out', default=pathlib.Path(__file__).parent / 'results'
  )
  args = parser.parse_args()
  rows = {}
  print('| objective | random | TPE | p |\n|---|---|---|---|')
  for name, (space, loss) in problems().items():
    runs = {
      kind: [left(space, loss, kind, s, args.trials) for s in range(args.seeds)]
      for kind in ('random', 'tpe')
    }
    losses = {k: [loss for loss, _ in v] for k, v in runs.items()}
    row = {k: summary(v, np.random.default_rng(0)) for k, v in losses.items()}
    row['p'] = float(stats.mannwhitneyu(losses['tpe'], losses['random']).pvalue)
    row['seconds_of_a_trial'] = {
      k: float(np.median([s for _, s in v])) for k, v in runs.items()
    }
    rows[name] = {**row, 'left': losses}
    said = [f'{m:.4f} ({a:.4f} to {b:.4f})' for m, a, b in
            (row['random'], row['tpe'])]  # fmt: skip
    print(f'| {name} | {said[0]} | {said[1]} | {row["p"]:.2g} |', flush=True)
    print(f'  seconds of a trial: {row["seconds_of_a_trial"]}', flush=True)
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  document = {'seeds': args.seeds, 'trials': args.trials, 'rows': rows}
  (out / 'search.json').write_text(json.dumps(document, indent=1) + '\n')


if __name__ == '__main__':
  main()
