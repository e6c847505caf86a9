"""What a row of the results table says, from the workdirs of its runs."""

import json
import pathlib

import numpy as np
import vessels
from scipy import stats

from medjax.data import records
from medjax.metrics import bootstrap, classification, delong
from medjax.run import per_case

KEPT = pathlib.Path(__file__).resolve().parent / 'evidence'


def _cases(runs):
  """The test cases of all runs, as they stand in per_case.csv."""
  return per_case.read(','.join(map(str, runs.values())))


def _summed(values, patients):
  """{name: value and interval by patient} of values (n, k) by name.

  The mean over the cases that define it, then over classes.
  """

  def statistic(weights):
    return {
      name: classification.defined_mean(bootstrap.weighted_mean(v, weights))
      for name, v in values.items()
    }

  point = statistic(np.ones((1, len(patients))))
  bounds = bootstrap.intervals(statistic, patients)
  return {
    name: {'value': float(point[name][0]), 'interval': bounds[name].tolist()}
    for name in values
  }


def segmentation(runs):
  """Dice, HD95 and NSD over the cases of all folds."""
  cases = list(_cases(runs).values())
  values = {}
  for metric in ('dice', 'hd95', 'nsd'):
    columns = [k for k in cases[0] if k.startswith(f'{metric}/')]
    table = [[float(case[k] or 'nan') for k in columns] for case in cases]
    values[metric] = np.array(table)
    for i, column in enumerate(columns):
      values[column] = values[metric][:, i : i + 1]
  said = _summed(values, [case['patient'] for case in cases])
  parts = [
    f'{name.partition("/")[2]} {number(v["value"])}'
    for name, v in said.items()
    if name.startswith('dice/')
  ]
  text = (
    f'{", ".join(parts[1:] and parts)}; HD95 {number(said["hd95"]["value"])} '
    f'mm, NSD {number(said["nsd"]["value"])}'
  ).removeprefix('; ')
  return {
    'score': 'Dice',
    **said.pop('dice'),
    'n': len(cases),
    'text': text,
    'also': said,
  }


def over_seeds(runs):
  """Dice of the cases, each the mean over seeds, and against `long`."""
  each = [_dice(folder) for folder in runs.values()]
  cases = sorted(each[0])
  values = np.array([[found[case] for case in cases] for found in each])
  means, patients = values.mean(0), np.array(cases)
  said = _summed({'dice': means[:, None]}, patients)['dice']
  return {
    'score': 'Dice',
    **said,
    'n': len(cases),
    'text': _against_long(dict(zip(cases, means, strict=True))),
    'also': {'each seed': values.mean(1).tolist()},
  }


def _dice(folder):
  """{case: its mean Dice over classes} of a run."""
  found = {}
  for case, row in per_case.read(str(folder)).items():
    dice = [float(v or 'nan') for k, v in row.items() if k.startswith('dice/')]
    found[case] = float(np.nanmean(dice))
  return found


def _against_long(means):
  """How far the cases are above those of the row `long` that is kept."""
  folders = sorted(KEPT.glob('long_[0-9]'))
  if not (KEPT / 'long.json').exists():  # or not all of its seeds
    return ''
  base = [_dice(folder) for folder in folders]
  rows = [
    (means[case], np.mean([found[case] for found in base])) for case in means
  ]
  ours, theirs = np.array(rows).T
  if np.array_equal(ours, theirs):
    return ''
  said = _summed({'difference': (ours - theirs)[:, None]}, np.array([*means]))
  said = said['difference']
  p = stats.wilcoxon(ours, theirs).pvalue
  return (
    f'{said["value"]:+.4f} ({said["interval"][0]:+.4f} to '
    f'{said["interval"][1]:+.4f}), Wilcoxon p {p:.2g}'
  )


def seeds(runs):
  """AUROC and accuracy of each seed, and their means."""
  scores = [
    json.loads((folder / 'metrics.json').read_text())['test']['scores']
    for folder in runs.values()
  ]
  each = {
    name: [s[name] for s in scores]
    for name in ('auroc', 'accuracy', 'accuracy_at_threshold')
  }
  also = {k: {'value': float(np.mean(v)), 'each': v} for k, v in each.items()}
  said = also.pop('auroc')
  said['interval'] = [min(said['each']), max(said['each'])]
  text = (
    f'accuracy {number(also["accuracy"]["value"])}, at the threshold of '
    f'validation {number(also["accuracy_at_threshold"]["value"])}'
  )
  (first, *_) = runs.values()
  n = len(per_case.read(str(first)))
  return {'score': 'AUROC', **said, 'n': n, 'text': text, 'also': also}


def nodules(runs):
  """AUROC of the cases of all folds, beside that of the diameter alone."""
  cases = _cases(runs)
  diameters = {}
  for name in runs:
    fold = records.open_split('lidc_idri/nodules', name.rpartition('_')[2])
    diameters |= {case['id']: case['diameter'] for case in fold}
  rows = cases.values()
  truth = np.array([row['label'] == '1' for row in rows])
  ours = np.array([float(row['probability/malignant']) for row in rows])
  size = np.array([diameters[i] for i in cases], float)

  def statistic(weights):
    a, b = (
      classification.auroc(truth[:, None], s[:, None], weights=weights)[..., 0]
      for s in (size, ours)
    )
    return {'diameter alone': a, 'ours': b, 'difference': b - a}

  bounds = bootstrap.intervals(statistic, [row['patient'] for row in rows])
  test = delong.delong(truth, size, ours)
  values = (test.auroc_a, test.auroc_b, test.difference)
  said = {
    name: {'value': value, 'interval': bounds[name].tolist()}
    for name, value in zip(bounds, values, strict=True)
  }
  said['difference'] |= {'DeLong': test.interval, 'p': test.p}
  text = (
    f'diameter alone {number(test.auroc_a)}: {test.difference:+.4f}, '
    f'{bounds["difference"][0]:+.4f} to {bounds["difference"][1]:+.4f} by '
    f'patient; DeLong p = {test.p:.3f}'
  )
  return {
    'score': 'AUROC',
    **said.pop('ours'),
    'n': len(cases),
    'text': text,
    'also': said,
  }


def number(x, digits=3):
  """.886, or 1.47 from one on."""
  return f'{x:.{digits}f}'.lstrip('0') if x < 1 else f'{x:.2f}'


def span(bounds, digits=3):
  return ' to '.join(number(x, digits) for x in bounds)


def fundus(runs):
  """F1 of the pictures, and what vessels.py says of their pixels."""
  (workdir,) = runs.values()
  said, pixels = segmentation(runs), vessels.judge(workdir)
  ours, observer = pixels['at one half'], pixels['second observer']
  chosen = pixels['at the threshold']
  text = (
    f'pixels pooled: AUC {number(pixels["auroc"], 4)}, F1 '
    f'{number(ours["f1"])}, sensitivity {number(ours["sensitivity"])}, '
    f'specificity {number(ours["specificity"])}; at the threshold of '
    f'validation F1 {number(chosen["f1"])}; second observer F1 '
    f'{number(observer["f1"])}'
  )
  also = pixels | said['also']
  return said | {'score': 'F1', 'text': text, 'also': also}
