"""Curves of labels: trains them, keeps what they are made of, prints tables.

python benchmarks/label_curves.py train active: `medjax labels curve` of a name
  in CURVES (of all if none is named) in --runs [runs/labels]. Again after a
  break it goes on where it was. `lidc` pre-trains first, and its forest grows
  on the features of PyRadiomics in $MEDJAX_TEST_DATA.
python benchmarks/label_curves.py keep active: curve.json, a config of each
  method, and what each run made of each test case, go to
  benchmarks/evidence/labels/.
python benchmarks/label_curves.py table: what is kept, as tables of Markdown.
"""

import csv
import gzip
import json
import os
import pathlib
import subprocess
import sys

import harness
import numpy as np

from medjax import files
from medjax.labels import curve

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / 'evidence' / 'labels'
CONFIGS = HERE.parent / 'configs'
_SMALL = (
  '--config.model.width=8',
  '--config.train.steps=100',
  '--config.train.ema_decay=0.95',
)
CURVES = {
  'hippocampus': (
    'semi.py:hippocampus',
    '--labels=5,10,20,52',
    '--seeds=1',
    '--methods=mean_teacher',
  ),
  'hippocampus10': (
    'semi.py:hippocampus',
    '--labels=10',
    '--seeds=2',
    '--methods=mean_teacher',
  ),
  'pneumonia47': (
    'semi.py:pneumoniamnist',
    '--labels=47',
    '--seeds=5',
    '--methods=mean_teacher,fixmatch',
    *_SMALL,
  ),
  'adrenal': (
    'semi.py:adrenalmnist3d',
    '--labels=47,235',
    '--seeds=5',
    '--methods=mean_teacher,fixmatch',
    # Thickness along three axes: an image of 28 x 28 x 3.
    '--config.data.preprocess=({"name": "distance_map", "threshold": 127.0},'
    ' {"name": "orthogonal_views", "of": "max"})',
    *_SMALL,
  ),
  'active': (
    'semi.py:pneumoniamnist',
    '--labels=10,30,100',
    '--seeds=5',
    '--methods=entropy,coreset,badge,typiclust',
    '--config.data.splits.train=train[:25%]',
    *_SMALL,
  ),
  'lidc': (
    'resnet.py:lidc_nodules',
    '--labels=20,80',
    '--seeds=1',
    '--methods=pretrained',
    '--pretrained={place}/simclr',
    '--table={place}/features.csv',
    '--config.model.width=8',
    '--config.model.stage_sizes=(1,1,1)',
    '--config.train.steps=60',
    '--config.schedule.warmup_steps=10',
  ),
}
# What teaches the network of a curve without labels.
PRETRAINING = {
  'lidc': (
    'pretrain.py:lidc_nodules,simclr',
    '--config.model.backbone.width=8',
    '--config.model.backbone.stage_sizes=(1,1,1)',
    '--config.train.steps=250',
  ),
}


def train(name, place):
  """Trains what a curve needs and lacks."""
  if name in PRETRAINING:
    _features(place / 'features.csv')
    if not (place / 'simclr/metrics.json').exists():
      _run('medjax.main', PRETRAINING[name], place / 'simclr')
  _run('medjax.labels curve', CURVES[name], place)


def _run(module, words, place):
  config, *rest = words
  rest = [word.format(place=place) for word in rest]
  command = [sys.executable, '-m', *module.split()]
  command += [f'--config={CONFIGS / config}', f'--workdir={place}', *rest]
  subprocess.run(command, check=True)


def _features(path):
  """The features of PyRadiomics of the nodules, by id."""
  data = pathlib.Path(os.environ['MEDJAX_TEST_DATA'])
  with gzip.open(data / 'lidc_pyradiomics/features.csv.gz', 'rt') as f:
    rows = [*csv.DictReader(f)]
  for row in rows:
    row['id'] = row.pop('file').removesuffix('.nii.gz')
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_csv(path, rows)


def keep(name, place):
  """Copies out of the runs of a curve what its numbers rest on."""
  kept = KEPT / name
  kept.mkdir(parents=True, exist_ok=True)
  result = json.loads((place / 'curve.json').read_text())
  result.pop('sha256', None)  # of another file
  config = pathlib.Path(result['config'])
  result['config'] = f'{config.parent.name}/{config.name}'
  files.write_json(kept / 'curve.json', result)
  cases = {}
  for run in sorted(place.glob('runs/*/*/*/metrics.json')):
    method, labels, seed = run.parent.relative_to(place / 'runs').parts
    stored = kept / f'{method}.json'
    if not stored.exists() and (run.parent / 'config.json').exists():
      text = (run.parent / 'config.json').read_text()
      config = json.loads(text.replace(f'{place}/', ''))  # as elsewhere
      config.pop('sha256', None)
      files.write_json(stored, config)
    for row in curve.rows_of(run.parent):
      line = cases.setdefault(row['id'], {'id': row['id']})
      line |= {'label': row['label']} if 'label' in row else {}
      line |= told(row, f'{method}/{labels}/{seed}')
  files.write_csv(kept / 'cases.csv', [cases[k] for k in sorted(cases)])


def told(row, run):
  """What a run made of a case: the last class's probability, or Dice."""
  if 'probability' in row:
    return {run: f'{row["probability"][-1]:.5f}'}
  return {
    f'{run}/{i}': f'{value:.4f}' for i, value in enumerate(row['dice'], 1)
  }


def table(name):
  """The kept curve as Markdown."""
  found = json.loads((KEPT / name / 'curve.json').read_text())
  # What was trained, which CURVES may have left behind.
  supervised = json.loads((KEPT / name / 'supervised.json').read_text())
  steps = supervised['train']['steps']
  lines = [
    f'{name}: {found["config"]}, {steps} steps\n',
    '| method | labels | score (95 %) | each seed | against | minutes |',
    '|---|---|---|---|---|---|',
  ]
  for row in found['table']:
    cells = (
      row['method'].replace('_', ' '),
      row['labels'],
      f'{short(row["score"])} ({short(row["low"])} to {short(row["high"])})',
      ', '.join(short(v) for v in row['each']),
      against(row),
      f'{row["minutes"]:.1f}',
    )
    lines.append(f'| {" | ".join(map(str, cells))} |')
  if found['areas']:
    lines += ['', '| method | mean height | against |', '|---|---|---|']
  lines += [
    f'| {a["method"]} | {short(a["area"])} | {a["control"]} '
    f'{a["difference"]:+.3f} ({a["low"]:+.3f} to {a["high"]:+.3f}), '
    f'p {a["p"]:.3f} |'
    for a in found['areas']
  ]
  return '\n'.join(lines) + '\n'


def against(row):
  """How far a row is above its control."""
  if 'control' not in row:
    return ''
  text = (
    f'{row["control"]} {row["difference"]:+.3f} '
    f'({row["difference_low"]:+.3f} to {row["difference_high"]:+.3f}), '
    f'p {row["p"]:.3f}'
  )
  if row['wilcoxon_p'] is not None:
    text += f', Wilcoxon {row["wilcoxon_p"]:.2g}'
  return text


def short(value):
  """.886"""
  return f'{value:.3f}'.lstrip('0') if np.isfinite(value) else '–'


def main():
  """Command line entry point."""
  what, names, folder = harness.asked(
    __doc__, CURVES, what='curve', runs='runs/labels'
  )
  for name in names:
    if what == 'train':
      train(name, folder / name)
    elif what == 'keep':
      keep(name, folder / name)
    elif (KEPT / name).exists():
      print(table(name))


if __name__ == '__main__':
  main()
