"""Is a model for children's X-rays better on adults once it has adapted?

    python benchmarks/adaptation.py --workdir=runs/pneumonia --data=shared/data

The run is one of PneumoniaMNIST, evaluated. It meets, without labels, the
adults of covid_cxr_ccby whose pneumonia is named, of other sites and cameras;
and its own test split, whose classes are mixed as no training was.
For none, BN and TENT: how many of the adults it finds at its threshold (with
Wilson's interval), and what that costs at home, AUROC and balanced accuracy,
paired against none. A clinic that adapts to one and reads the other is what the
two halves of the table compare.
"""

import argparse
import csv
import pathlib

import novelty
import numpy as np
from scipy import stats

import medjax
from medjax.metrics import bootstrap, classification
from medjax.prediction.predictor import Predictor
from medjax.trust import adapt

PNEUMONIA = ('COVID-19', 'Pneumocystis')


def adults(data):
  """Raw cases of adults with a pneumonia, the first image of each patient."""
  folder = pathlib.Path(data) / 'covid_cxr_ccby'
  with (folder / 'images.csv').open() as f:
    rows = list(csv.DictReader(f))
  seen = {}
  for row, image in zip(rows, novelty.pictures(folder), strict=True):
    if row['finding'] in PNEUMONIA:
      seen.setdefault(row['patient'], image)
  return [_case(patient, image) for patient, image in seen.items()]


def _case(name, image):
  return {
    'id': name, 'patient': name, 'image': image,
    'affine': np.eye(3), 'spacing': np.ones(2),
  }  # fmt: skip


class Run:
  """A run, the model of its first member, and the places it meets."""

  def __init__(self, workdir, data):
    run = medjax.load(workdir)
    self._made, self._variables = run.experiment, run.variables[0]
    self.threshold = run.calibration.thresholds[0]
    cases = self._made.cases('test')
    cases = [cases[i] for i in range(len(cases))]
    self.truth = np.array([int(case['label']) for case in cases])
    self._samples = {
      'home': [*map(self._made.prepare, cases)],
      'adults': [*map(self._made.prepare, adults(data))],
    }
    self._predictor = Predictor(self._made)

  def probabilities(self, way, place):
    """{place: probability of pneumonia (n,)}, adapted to one of the places."""
    variables = self._variables
    if way != 'none':
      batches = adapt.batches_of(self._made, self._samples[place])
      variables = adapt.adapted(self._made, variables, batches, way=way)
    predictor = self._predictor.with_weights(variables)
    return {
      name: np.array([found.prediction[1] for _, found in predictor(samples)])
      for name, samples in self._samples.items()
    }


def at_home(truth, probability, threshold):
  """{score: (weights (r, n) → (r,))} of the test split."""
  positive = (truth > 0)[:, None]

  def balanced(weights):
    right = (probability >= threshold) == positive[:, 0]
    rates = [
      bootstrap.ratio(weights @ (right & side), weights @ side)
      for side in (positive[:, 0], ~positive[:, 0])
    ]
    return np.mean(rates, 0)

  area = lambda w: classification.auroc(
    positive, probability[:, None], weights=w
  )
  return {'AUROC': lambda w: area(w)[..., 0], 'balanced accuracy': balanced}


def told(before, after, n):
  """'.912 (change +.010, .002 to .018)', paired over the test cases."""
  one = np.ones((1, n))
  if before is after:
    return f'{after(one)[0]:.3f}'
  change = lambda w: {'change': after(w) - before(w)}
  low, high = bootstrap.intervals(change, np.arange(n))['change']
  return (
    f'{after(one)[0]:.3f} ({change(one)["change"][0]:+.3f}, '
    f'{low:+.3f} to {high:+.3f})'
  )


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--data', required=True)
  args = parser.parse_args()
  run = Run(args.workdir, args.data)
  none, n = None, len(run.truth)
  for way, place in [
    ('none', ''), *((w, p) for p in ('adults', 'home') for w in adapt.WAYS)
  ]:  # fmt: skip
    found = run.probabilities(way, place)
    of_home = at_home(run.truth, found['home'], run.threshold)
    none = none or of_home
    hits = int((found['adults'] >= run.threshold).sum())
    result = stats.binomtest(hits, len(found['adults']))
    low, high = result.proportion_ci(method='wilson')
    cells = [f'{k} {told(none[k], of_home[k], n)}' for k in of_home]
    print(
      f'{way} {place}: adults {hits} of {len(found["adults"])}, '
      f'{hits / len(found["adults"]):.3f} ({low:.3f} to {high:.3f}); '
      f'home {", ".join(cells)}',
      flush=True,
    )


if __name__ == '__main__':
  main()
