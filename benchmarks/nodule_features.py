"""Is a nodule malignant, by hand-made features? Nothing is chosen on the test.

    medjax radiomics cases.csv --out=features.csv
    python benchmarks/nodule_features.py features.csv

cases.csv has image, mask, label, patient and diameter_mm, the readers', of each
nodule of LIDC-IDRI. A logistic regression with L2 is fitted on the features of
four folds of patients and judged on the fifth. How strong L2 is, and whether
long tails are made short, is what cross-validation among the four likes best,
by log loss; beside it, without that second choice. A diameter alone needs no
fit: it is its own score. REPEATS divisions into folds; an AUROC is of the five
folds together, the mean over repeats, its interval by patient.
"""

import argparse
import itertools

import numpy as np

from medjax import files
from medjax.data import intensity, records
from medjax.metrics import bootstrap, classification

FOLDS, REPEATS = 5, 10
PENALTIES = tuple(10.0 ** np.arange(-5, 2.1, 0.5))  # of Σ w², per case
MESH = 'original_shape_Maximum3DDiameter'


def fit(x, y, penalty, rounds=30):
  """Intercept and slopes (1 + k,) of the logistic model, by Newton's method."""
  x = np.column_stack([np.ones(len(x)), x])
  decay = np.full(x.shape[1], penalty)
  decay[0] = 1e-9  # the intercept is free
  w = np.zeros(x.shape[1])
  for _ in range(rounds):
    p = _probability(x @ w)
    slope = x.T @ (p - y) / len(y) + decay * w
    curve = (x * (p * (1 - p))[:, None]).T @ x / len(y) + np.diag(decay)
    step = np.linalg.solve(curve, slope)
    w -= step
    if np.abs(step).max() < 1e-6:
      break
  return w


def _probability(z):
  return 1 / (1 + np.exp(-np.clip(z, -30, 30)))


def predicted(train, y, test, penalty, short):
  """Log-odds (m,) of test rows, standardised as the training rows are."""
  mean, spread = train.mean(0), train.std(0)
  spread = np.where(spread > 0, spread, 1)
  sides = [(x - mean) / spread for x in (train, test)]
  if short:
    sides = [intensity.compress({'covariates': x})['covariates'] for x in sides]
  w = fit(sides[0], y, penalty)
  return w[0] + sides[1] @ w[1:]


def chosen(x, y, fold, forms):
  """(penalty, form) of the least log loss over these folds."""
  loss = {}
  for penalty, short in itertools.product(PENALTIES, forms):
    total = 0.0
    for k in np.unique(fold):
      train = fold != k
      z = predicted(x[train], y[train], x[~train], penalty, short)
      total += np.logaddexp(0, np.where(y[~train] > 0, -z, z)).sum()
    loss[penalty, short] = total
  return min(loss, key=loss.get)


def pooled(x, y, fold, forms):
  """(probability (n,) of each case by the other folds, what each chose)."""
  found, choices = np.zeros(len(y)), []
  for k in range(FOLDS):
    train = fold != k
    choices.append(chosen(x[train], y[train], fold[train], forms))
    z = predicted(x[train], y[train], x[~train], *choices[-1])
    found[~train] = _probability(z)
  return found, choices


def table(path):
  """(features (n, k), {name: diameters (n,)}, labels, patients)."""
  rows, header = files.read_csv(path, mend='make it again')
  failed = [row for row in rows if row.get('error')]
  assert not failed, failed[0]
  column = lambda name: np.array([float(row[name]) for row in rows])
  names = [name for name in header if name.startswith('original_')]
  features = np.stack([column(name) for name in names], 1)
  assert np.isfinite(features).all()
  diameters = {
    'the readers’ diameter': column('diameter_mm'),
    'the diameter of the mesh': column(MESH),
  }
  patients = np.array([row['patient'] for row in rows])
  return features, diameters, column('label'), patients


def main():
  """Prints the areas, and the paired differences."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('features', help='the table of medjax radiomics')
  features, diameters, y, patients = table(parser.parse_args().features)
  scores = {f'{features.shape[1]} features': [], 'tails as they are': []}
  for seed in range(REPEATS):
    folds = records.patient_folds(patients, folds=FOLDS, seed=seed)
    fold = np.array([folds[p] for p in patients])
    forms = (False, True), (False,)
    for (name, each), allowed in zip(scores.items(), forms, strict=True):
      found, choices = pooled(features, y, fold, allowed)
      each.append(found)
      told = ', '.join(f'{p:.3g}{" short" * s}' for p, s in choices)
      print(f'division {seed}, {name}: {told}', flush=True)
  scores |= {name: [x] for name, x in diameters.items()}
  truth = (y > 0)[:, None]

  def areas(weights):
    found = {}
    for name, each in scores.items():
      every = [
        classification.auroc(truth, p[:, None], weights=weights) for p in each
      ]
      found[name] = np.mean(every, 0)[..., 0]
    first, *rest = scores
    return found | {f'{first} − {k}': found[first] - found[k] for k in rest}

  once = areas(np.ones((1, len(y))))
  bounds = bootstrap.intervals(areas, patients)
  print(f'{len(y)} nodules, {len(set(patients))} patients, {REPEATS} repeats')
  for name, value in once.items():
    low, high = bounds[name]
    print(f'{name}: {value[0]:.4f} ({low:.4f} to {high:.4f})')
  for name, each in scores.items():
    by = [float(classification.auroc(truth, p[:, None])[0]) for p in each]
    print(f'{name}, by division: {min(by):.4f} to {max(by):.4f}')


if __name__ == '__main__':
  main()
