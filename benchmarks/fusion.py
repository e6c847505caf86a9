"""Tables of fusion runs: benchmarks/fusion.py FUSED [--alone=INPUT=RUN …].

FUSED are workdirs of one experiment, of several seeds or one: each has its
tabular baseline in tabular/. RUN is trained on INPUT alone, on the same cases:
beside it stands the fusion that lacks all else, which should be within .01, and
DeLong's test of the whole fusion against it.
"""

import argparse
import functools
import pathlib

import numpy as np

from medjax.files import read_json
from medjax.metrics import bootstrap, classification, delong
from medjax.run import per_case


def main():
  """Prints Markdown tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('fused', nargs='+')
  parser.add_argument('--alone', action='append', default=[])
  args = parser.parse_args()
  for line in ablation(args.fused):
    print(line)
  print()
  for name, folder in (('fusion', ''), ('tabular baseline', 'tabular')):
    runs = [pathlib.Path(run) / folder for run in args.fused]
    print(f'{name}, mean over {len(runs)} runs of each case: {pooled(runs)}')
  for pair in args.alone:
    name, _, run = pair.partition('=')
    print(against(args.fused[0], name, run))


def ablation(runs):
  """Rows of what each input is worth, mean over the runs."""
  found = [
    read_json(pathlib.Path(run) / 'metrics.json', mend='evaluate')['test'][
      'modalities'
    ]['lines']
    for run in runs
  ]
  yield '| inputs | AUROC | 95 % interval | the fusion is above it by |'
  yield '|---|---|---|---|'
  for lines in zip(*found, strict=True):
    mean = functools.partial(_mean, lines)
    low, high = mean('score', 'interval')
    text = f'| {lines[0]["way"]} {lines[0]["input"]} '
    text += f'| {mean("score", "value"):.3f} | {low:.3f} to {high:.3f} | '
    if 'difference' in lines[0]:
      low, high = mean('difference', 'interval')
      value = mean('difference', 'value')
      text += f'{value:+.3f} ({low:+.3f} to {high:+.3f}) '
    yield f'{text}|'


def _mean(lines, key, part):
  return np.mean([line[key][part] for line in lines], 0)


def read(run):
  """{id: (patient, label, probability of the last class)} of the test split."""
  rows = per_case.read(str(run))
  (*_, positive) = (k for k in next(iter(rows.values())) if 'probability' in k)
  return {
    name: (row['patient'], int(row['label']), float(row[positive]))
    for name, row in rows.items()
  }


def pooled(runs):
  """The AUROC of the mean probability of each case, with its interval."""
  tables = [read(run) for run in runs]
  names = sorted(tables[0])
  patients, labels, _ = zip(*(tables[0][n] for n in names), strict=True)
  mean = np.mean([[table[n][2] for n in names] for table in tables], 0)
  truth = np.array(labels)[:, None] > 0
  area = lambda w: classification.auroc(truth, mean[:, None], weights=w)
  bounds = bootstrap.intervals(lambda w: {'a': area(w)}, patients)['a'][0]
  value = float(area(np.ones(len(names)))[0])
  return f'{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})'


def against(fused, name, run):
  """The run of one input beside the fusion, and the fusion without the rest."""
  whole, alone = read(fused), read(run)
  names = sorted(whole)
  truth = np.array([whole[n][1] for n in names]) > 0
  scores = [np.array([t[n][2] for n in names]) for t in (alone, whole)]
  test = delong.delong(truth, *scores)
  lines = read_json(pathlib.Path(fused) / 'metrics.json', mend='evaluate')
  lines = lines['test']['modalities']['lines']
  only = [x for x in lines if x['way'] == 'only' and x['input'] == name] or [
    x for x in lines if x['way'] == 'without' and x['input'] != name
  ]
  lacking = only[0]['score']['value']
  return (
    f'{name} alone, trained so: {test.auroc_a:.3f}; the fusion with nothing '
    f'else: {lacking:.3f} ({lacking - test.auroc_a:+.3f}); the whole fusion: '
    f'{test.auroc_b:.3f} ({test.difference:+.3f}, DeLong p = {test.p:.2g})'
  )


if __name__ == '__main__':
  main()
