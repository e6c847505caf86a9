"""What pre-training without labels is worth when few labels are left.

    python benchmarks/pretraining.py pneumoniamnist runs/simclr runs/mae
    python benchmarks/pretraining.py lidc_nodules runs/lidc_simclr --share=10

On a share of the training cases, another one for each seed, the network of the
workdirs of configs/pretrain.py is trained from scratch, and from the weights of
each: all of it, and the head alone (linear_probe). Beside it a random forest on
the pixels of the same cases. A workdir with optimizer.learning_rate=0 is what
weights by chance do. A tenth of the validation split chooses the checkpoint, as
one would not have more labels there; test is read once by each. Prints a table
of Markdown: AUROC, the mean over seeds and each, what it is more than from
scratch in pairs, and the minutes.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time

import harness

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEAD, ALL = 'linear_probe', 'full'


def backbone_of(workdir):
  """The network that a run of configs/pretrain.py trained."""
  config = json.loads((workdir / 'config.json').read_text())
  return config['model']['backbone']


def config_of(data, seed, share, steps, model, *, pretrained='', way=ALL):
  """The config of one training."""
  from medjax import public

  config = public.read_config(f'{ROOT}/configs/resnet.py:{data}')
  part = f'[{seed * share}%:{(seed + 1) * share}%]'
  splits = config.data.splits
  splits.train = '+'.join(f'{p}{part}' for p in splits.train.split('+'))
  splits.validation += '[:10%]'
  config.seed, config.model = seed, model
  config.data.batch_size = 16
  config.pretrained.path = str(pretrained)
  config.adapt = dict(name=way)
  config.optimizer.learning_rate = 5e-3 if way == HEAD else 1e-3
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


def forest(config):
  """(AUROC on test of a random forest on prepared pixels, minutes)."""
  import numpy as np
  from sklearn.ensemble import RandomForestClassifier
  from sklearn.metrics import roc_auc_score

  from medjax import experiment

  begun = time.monotonic()
  made = experiment.make(config)

  def table(split):
    cases = made.cases(split)
    found = [made.preprocess(cases[i]) for i in range(len(cases))]
    pixels = np.stack([np.ravel(x['image']) for x in found])
    return pixels, np.array([int(x['label']) for x in found])

  model = RandomForestClassifier(500, random_state=config.seed)
  model.fit(*table('train'))
  x, y = table('test')
  auroc = roc_auc_score(y, model.predict_proba(x)[:, 1])
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
  ways = {'from scratch': {}}
  for workdir in args.workdirs:
    ways[f'{workdir.name}, all of it'] = dict(pretrained=workdir)
    ways[f'{workdir.name}, linear probe'] = dict(pretrained=workdir, way=HEAD)
  common = (args.share, args.steps, backbone_of(args.workdirs[0]))
  found = {
    name: [
      trained(config_of(args.data, seed, *common, **way))
      for seed in range(args.seeds)
    ]
    for name, way in ways.items()
  }
  found['random forest on pixels'] = [
    forest(config_of(args.data, seed, *common)) for seed in range(args.seeds)
  ]
  print(f'{harness.describe()}\n')
  print('| way | AUROC | seeds | more | better | minutes |')
  print('| --- | --- | --- | --- | --- | --- |')
  for name, each in found.items():
    print(line(name, each, found['from scratch']), flush=True)


if __name__ == '__main__':
  main()
