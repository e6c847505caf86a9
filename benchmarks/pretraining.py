"""What pre-training without labels is worth when few labels are left.

    python benchmarks/pretraining.py pneumoniamnist runs/simclr runs/mae
    python benchmarks/pretraining.py lidc_nodules runs/lidc_simclr --share=10

On a share of the training cases, another one for each seed, the network of the
workdirs of configs/pretrain.py is trained from scratch, and from the weights of
each; and a logistic regression reads their embeddings as they are. Beside it a
random forest on the pixels of the same cases. A workdir that was trained with
optimizer.learning_rate=0 is what weights by chance do. A tenth of the
validation split chooses the checkpoint, as one would not have more labels
there; test is read once by each. Prints a table of Markdown: AUROC, the mean
over seeds and each, what it is more than from scratch in pairs, the minutes.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time

import harness
import numpy as np
from sklearn import ensemble, metrics

ROOT = pathlib.Path(__file__).resolve().parents[1]


def config_of(data, seed, share, steps, like, *, pretrained=''):
  """The config of one training, of the network and preparation of a run."""
  from medjax import public

  stored = json.loads((like / 'config.json').read_text())
  config = public.read_config(f'{ROOT}/configs/resnet.py:{data}')
  part = f'[{seed * share}%:{(seed + 1) * share}%]'
  splits = config.data.splits
  splits.train = '+'.join(f'{p}{part}' for p in splits.train.split('+'))
  splits.validation += '[:10%]'
  config.seed, config.model = seed, stored['model']['backbone']
  config.data.preprocess = tuple(stored['data']['preprocess'])
  config.data.batch_size = 16
  config.pretrained.path = str(pretrained)
  config.optimizer.learning_rate = 1e-3
  config.schedule.warmup_steps = 20
  config.train.update(
    steps=steps, log_every=steps // 2, eval_every=steps // 4, ema_decay=0.95
  )
  return config


def trained(config):
  """(AUROC on test, minutes)."""
  from medjax import experiment
  from medjax.evaluate import evaluate
  from medjax.train import train

  begun = time.monotonic()
  with tempfile.TemporaryDirectory() as workdir:
    made = experiment.make(config)
    train(made, workdir, read_test=False)
    scores = evaluate(made, workdir)['test']['scores']
  return scores['auroc'], (time.monotonic() - begun) / 60


def every(cases):
  """The cases of a split, read."""
  return [cases[i] for i in range(len(cases))]


def labels(cases):
  """The label of each case."""
  return np.array([int(case['label']) for case in cases])


def probed(config, workdir):
  """(AUROC on test of a logistic regression on embeddings, minutes)."""
  from medjax import experiment
  from medjax.prediction import trained as runs
  from medjax.tasks import probing

  begun = time.monotonic()
  made, run = experiment.make(config), runs.load(workdir)

  def embedded(cases):
    found = run.predict_cases(cases)
    return np.array([[*each.values.values()] for _, each in found])

  train, test = (every(made.cases(split)) for split in ('train', 'test'))
  p = probing.linear(
    embedded(train), labels(train), embedded(test), num_classes=2
  )
  auroc = metrics.roc_auc_score(labels(test), p[:, 1])
  return auroc, (time.monotonic() - begun) / 60


def forest(config):
  """(AUROC on test of a random forest on prepared pixels, minutes)."""
  from medjax import experiment

  begun = time.monotonic()
  made = experiment.make(config)
  train, test = (every(made.cases(split)) for split in ('train', 'test'))
  pixels = lambda cases: np.stack(
    [np.ravel(made.preprocess(case)['image']) for case in cases]
  )
  model = ensemble.RandomForestClassifier(500, random_state=config.seed)
  model.fit(pixels(train), labels(train))
  p = model.predict_proba(pixels(test))
  auroc = metrics.roc_auc_score(labels(test), p[:, 1])
  return auroc, (time.monotonic() - begun) / 60


def line(name, found, base):
  """A line of the table: of (AUROC, minutes) of each seed."""
  scores, minutes = zip(*found, strict=True)
  gains = [a - b for (a, _), (b, _) in zip(found, base, strict=True)]
  each = ', '.join(f'{s:.3f}' for s in scores)
  more = '' if found is base else f'{statistics.mean(gains):+.4f}'
  wins = f'{sum(g > 0 for g in gains)} of {len(gains)}'
  return (
    f'| {name} | **{statistics.mean(scores):.4f}** | {each} | {more} | '
    f'{wins if more else ""} | {statistics.mean(minutes):.1f} |'
  )


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('data', help='a variant of configs/resnet.py')
  parser.add_argument('workdirs', nargs='+', type=pathlib.Path)
  parser.add_argument('--share', type=int, default=1, help='% of training')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--steps', type=int, default=200)
  args = parser.parse_args()
  common = (args.share, args.steps, args.workdirs[0])

  def over_seeds(function, *more, **options):
    configs = [
      config_of(args.data, k, *common, **options) for k in range(args.seeds)
    ]
    return [function(config, *more) for config in configs]

  found = {'from scratch': over_seeds(trained)}
  for workdir in args.workdirs:
    name = workdir.name
    found[f'{name}, trained on'] = over_seeds(trained, pretrained=workdir)
    found[f'{name}, linear probe'] = over_seeds(probed, workdir)
  found['random forest on pixels'] = over_seeds(forest)
  print(f'{harness.describe()}\n')
  print('| way | AUROC | seeds | more | better | minutes |')
  print('| --- | --- | --- | --- | --- | --- |')
  for name, each in found.items():
    print(line(name, each, found['from scratch']), flush=True)


if __name__ == '__main__':
  main()
