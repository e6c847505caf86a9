"""Does training for other scanners help on one that was left out?

    python benchmarks/sites.py train --data=DATA [--networks]
    python benchmarks/sites.py table

DATA is the folder of lidc_nodules and lidc_pyradiomics. LIDC-IDRI is of several
hospitals, and says of none which it is. What stands for a site is the spacing
of the slices, which goes with scanner and protocol. Malignant nodules are told
from benign; one group of spacings is left out of training, with all of its
patients, and is the test. Beside it the same where half of the patients of that
group train, which is what there is to be won by any training for other sites.

First by 107 radiomics features and a logistic regression, in seconds. With
--networks also by a small ResNet on three planes of the CT alone, three seeds:
plain, and with histogram matching, mixed amplitudes, MixStyle, GroupDRO.

`train` keeps each nodule's probability in evidence/sites.csv; what is there is
not trained again. Differences are paired, intervals by patient; the worst site
is found anew in each resample.
"""

import argparse
import csv
import dataclasses
import functools
import gzip
import itertools
import pathlib
import tempfile

import nodule_features
import numpy as np
from PIL import Image

from medjax import experiment, files
from medjax.config import default_config
from medjax.data import formats, transforms
from medjax.evaluate import best_of
from medjax.metrics import bootstrap, classification
from medjax.prediction.predictor import Predictor
from medjax.public import read_config
from medjax.train import train

KEPT = pathlib.Path(__file__).resolve().parent / 'evidence' / 'sites.csv'
# mm between slices, below which it is one of these.
SITES = {'to .75': 0.8, '1.0': 1.1, '1.25': 1.5, '1.8 to 2': 2.2, '2.5': 9.0}
SEEDS, STEPS = 3, 120
KNOWN = ', site in training'
FEATURES, PLAIN = '107 features', 'network'
WAYS = {
  PLAIN: {},
  'network, histogram matching': {'augment': dict(name='histogram_match')},
  'network, mixed amplitudes': {'augment': dict(name='amplitude_mix')},
  'network, MixStyle': {'adapt': dict(name='mixstyle')},
  'network, GroupDRO': {'task': dict(name='GroupDRO', groups=len(SITES) - 1)},
}


def write_pictures(data, folder):
  """Three planes of each nodule as the colours of a picture; [row of each]."""
  rows = []
  with (data / 'metadata.csv').open(newline='') as f:
    table = [row for row in csv.DictReader(f) if row['has_image'] == 'True']
  steps = (
    transforms.reorient,
    functools.partial(transforms.resample, spacing=(1.0, 1.0, 1.0)),
    functools.partial(transforms.crop_or_pad, shape=(24, 24, 24), value=-1000),
    transforms.orthogonal_views,
  )
  for row in table:
    volume = formats.read(data / 'image' / row['file'])
    sample = {
      'image': volume.array.astype(np.float32),
      'affine': volume.affine,
      'spacing': np.asarray(volume.spacing),
    }
    for step in steps:
      sample = step(sample)
    values = np.clip((sample['image'] + 1000) / 1400, 0, 1)
    name = f'{formats.stem(row["file"])}.png'
    Image.fromarray(np.rint(255 * values).astype(np.uint8)).save(folder / name)
    spacing = float(volume.spacing[2])
    rows.append(
      {
        'id': name.removesuffix('.png'),
        'path': name,
        'patient': row['patient_id'],
        'label': row['Diagnosis_value'],
        'site': next(s for s, top in SITES.items() if spacing < top),
        'diameter': float(row['diameter_mm']),
      }
    )
  return rows


def divided(rows, site, half=None):
  """Rows with `split` and `group`, the site or a half of its patients test.

  Patients of the test are nowhere else. Groups are numbered without the site.
  """
  others = [s for s in SITES if s != site]
  patients = sorted({r['patient'] for r in rows if r['site'] == site})
  order = np.random.default_rng(0).permutation(len(patients))
  tested = {
    patients[i] for k, i in enumerate(order) if half in (None, k % 2)
  }  # fmt: skip
  found = []
  for row in rows:
    is_test = row['patient'] in tested
    if is_test and row['site'] != site:
      continue
    group = others.index(row['site']) if row['site'] in others else 0
    split = 'test' if is_test else 'train'
    found.append({**row, 'split': split, 'group': group})
  return found


def config_of(folder, table, way):
  """configs/benchmarks/lidc_nodules.py on pictures, half as wide, shorter."""
  config = read_config('configs/benchmarks/lidc_nodules.py:malignancy,fold0')
  config.members = SEEDS
  config.data.update(name='folder', path=str(folder), table=table)
  config.data.splits = default_config().data.splits
  config.data.update(fractions=(0.8, 0.2, 0.0), held_out=0.0)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  style = (way['augment'],) if 'augment' in way else ()
  config.augment = (*style, *config.augment)
  config.model.width = 8
  config.task = way.get('task', dict(name='Classification'))
  config.adapt = way.get('adapt', dict(name='full'))
  config.optimizer.learning_rate = 2e-3
  config.schedule.warmup_steps = 20
  config.train.update(steps=STEPS, log_every=60, eval_every=STEPS)
  config.train.ema_decay = 0.95
  config.inference.flips = False
  return config


def by_network(folder, way, rows):
  """{id: probability of malignant, of each seed} of the test rows."""
  files.write_csv(folder / 'cases.csv', rows)
  made = experiment.make(config_of(folder, 'cases.csv', way))
  with tempfile.TemporaryDirectory() as workdir:
    train(made, workdir, read_test=False)
    _, members = best_of(made, workdir)
  cases = made.cases('test')
  samples = [made.prepare(cases[i]) for i in range(len(cases))]
  alone = Predictor(dataclasses.replace(made, members=()))
  found = {sample['id']: [] for sample in samples}
  for variables in members:
    for sample, one in alone.with_weights(variables)(samples):
      found[sample['id']].append(float(one.prediction[1]))
  return found


def by_features(rows, features):
  """{id: [probability]} of the test rows, by what the other rows have."""
  x = np.stack([features[row['id']] for row in rows])
  train = np.array([row['split'] == 'train' for row in rows])
  y = np.array([float(row['label']) for row in rows])
  # As strong as it is; nothing is chosen.
  z = nodule_features.predicted(x[train], y[train], x[~train], 1e-2, True)
  ids = [row['id'] for row in rows if row['split'] == 'test']
  return {i: [float(p)] for i, p in zip(ids, 1 / (1 + np.exp(-z)), strict=True)}


def read_features(path):
  """{id: values (107,)} of PyRadiomics' table of the nodules."""
  with gzip.open(path, 'rt', newline='') as f:
    return {
      formats.stem(row.pop('file')): np.array([*map(float, row.values())])
      for row in csv.DictReader(f)
    }


def measure(data, networks):
  """Trains what is not kept yet, and keeps it one by one."""
  kept = files.read_csv(KEPT, mend='remove it')[0] if KEPT.exists() else []
  kept = {row['id']: {k: v for k, v in row.items() if v} for row in kept}
  features = read_features(data / 'lidc_pyradiomics' / 'features.csv.gz')
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    rows = write_pictures(data / 'lidc_nodules', folder)
    ways = {FEATURES: functools.partial(by_features, features=features)}
    if networks:
      ways |= {
        k: functools.partial(by_network, folder, v) for k, v in WAYS.items()
      }
    for row in rows:
      about = {k: v for k, v in row.items() if k != 'path'}
      kept[row['id']] = {**about, **kept.get(row['id'], {})}
    for name, way in ways.items():
      halves = {name: (None,)}
      if name in (FEATURES, PLAIN):
        halves[name + KNOWN] = (0, 1)
      for (called, parts), site in itertools.product(halves.items(), SITES):
        if all(
          f'{called}/0' in kept[r['id']] for r in rows if r['site'] == site
        ):
          continue
        for half in parts:
          for i, each in way(divided(rows, site, half)).items():
            kept[i] |= {f'{called}/{k}': f'{p:.5f}' for k, p in enumerate(each)}
        files.write_csv(KEPT, kept.values())
        print(f'{called}: {site}', flush=True)


def areas(rows, weights):
  """{way: AUROC (r, sites), the mean of its seeds} of weighted rows (r, n)."""
  truth = np.array([row['label'] == '1' for row in rows])[:, None]
  site = np.array([row['site'] for row in rows])
  columns = {'diameter': ['diameter']}
  for key in rows[0]:
    way, seed, _ = key.partition('/')
    if seed and all(row[key] for row in rows):
      columns.setdefault(way, []).append(key)
  found = {}
  for name, keys in columns.items():
    scores = [np.array([float(row[k]) for row in rows]) for k in keys]
    found[name] = np.stack(
      [
        np.mean([_auroc(truth, p, weights, site == s) for p in scores], 0)
        for s in SITES
      ],
      -1,
    )
  return found


def _auroc(truth, score, weights, inside):
  w = weights[:, inside]
  return classification.auroc(truth[inside], score[inside, None], weights=w)[
    ..., 0
  ]


def statistics(rows, weights):
  """{(way, what): (r,)}: of the sites the mean and the worst, and the gain.

  The gain of a network is over the plain one, else over the features.
  """
  found = {}
  for name, each in areas(rows, weights).items():
    values = {'mean': each.mean(-1), 'worst': each.min(-1)}
    base = PLAIN if name.startswith(PLAIN) else FEATURES
    for what, value in values.items():
      found[name, what] = value
      found[name, f'{what}, gain'] = value - found.get((base, what), value)
  return found


def table():
  """Prints what is kept as a table of Markdown, and how many nodules it is."""
  rows, _ = files.read_csv(KEPT, mend='train again')
  one = np.ones((1, len(rows)))
  groups = [row['patient'] for row in rows]
  bounds = bootstrap.intervals(functools.partial(statistics, rows), groups)
  once = statistics(rows, one)
  print(f'| by | {" | ".join(SITES)} | mean, gain | worst, gain |')
  print('|---' * (len(SITES) + 3) + '|')
  for name, (each,) in areas(rows, one).items():
    cells = [f'{v:.3f}' for v in each]
    for what in ('mean', 'worst'):
      low, high = bounds[name, f'{what}, gain']
      gain = once[name, f'{what}, gain'][0]
      told = f' {gain:+.3f} ({low:+.3f} to {high:+.3f})' if gain else ''
      cells.append(f'{once[name, what][0]:.3f}{told}')
    print(f'| {name} | {" | ".join(cells)} |')
  for site in SITES:
    mine = [row for row in rows if row['site'] == site]
    sick = sum(row['label'] == '1' for row in mine)
    patients = len({row['patient'] for row in mine})
    print(
      f'{site} mm: {len(mine)} nodules, {patients} patients, {sick} malignant'
    )


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('what', choices=('train', 'table'))
  parser.add_argument('--data', type=pathlib.Path, help='folder of both sets')
  parser.add_argument('--networks', action='store_true', help='ResNets, too')
  args = parser.parse_args()
  if args.what == 'train' and not args.data:
    parser.error('train needs --data')
  if args.what == 'train':
    measure(args.data, args.networks)
  table()


if __name__ == '__main__':
  main()
