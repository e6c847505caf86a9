"""Runs whose cases have probabilities: of a classification."""

import numpy as np

from medjax.metrics import delong, paired
from medjax.metrics.classification import defined_mean
from medjax.reports import rows as rows_lib
from medjax.reports.comparison.result import MEAN, Comparison, Line, adjusted


def compare_probabilities(a, b, patients, *, measures, names) -> Comparison:
  """Compares rows with columns probability/CLASS, and label or label/CLASS.

  AUROCs are of class 1 for two classes, else of each against the rest.
  Decisions are the column `decided`, else the likeliest class, or each label
  above one half.
  """
  classes = _classes(a, b)
  truth, several = _same_truth(a, b, classes, names)
  x, y = (
    _probabilities(rows, classes, name)
    for rows, name in zip((a, b), names, strict=True)
  )
  ranked = slice(None) if several or len(classes) > 2 else slice(1, 2)
  lines = _auroc_lines(
    truth[:, ranked], x[:, ranked], y[:, ranked], classes[ranked], patients
  )
  if several:
    right = [(p > 0.5) == truth for p in (x, y)]
    shown = [np.where(truth, p, 1 - p) for p in (x, y)]
    each = [p.mean(1) for p in shown]
    value = 'Probability of the right answer, mean of the labels'
  else:
    right = [
      (_decided(rows, p, classes, name) == truth.argmax(1))[:, None]
      for rows, p, name in zip((a, b), (x, y), names, strict=True)
    ]
    shown = [np.where(truth, p, np.nan) for p in (x, y)]
    each = [p[truth] for p in (x, y)]
    value = 'Probability of the reference class'
  lines += _accuracy_lines(*right, classes if several else [''], patients)
  bounds = paired.mean_difference_intervals(*shown, patients)
  notes = []
  if len(set(patients)) < len(a):
    notes.append(
      'DeLong and McNemar take cases for independent; patients here have '
      'several: trust the intervals by patient.'
    )
  return Comparison(
    ids=[row['id'] for row in a],
    patients=patients,
    lines=adjusted(lines),
    value=value,
    a=each[0],
    b=each[1],
    groups={
      name: (shown[0][:, k], shown[1][:, k], bounds[k])
      for k, name in enumerate(classes)
    },
    measures=measures,
    notes=notes,
  )


def _classes(a, b):
  each = [
    list(rows_lib.measured(rows).get('probability', ())) for rows in (a, b)
  ]
  if set(each[0]) != set(each[1]):
    raise ValueError(
      f'the classes differ: {", ".join(each[0]) or "none"} in A, '
      f'{", ".join(each[1]) or "none"} in B'
    )
  return each[0]


def _same_truth(a, b, classes, names):
  """(n, K) bool, and whether a case may have several labels."""
  truth, several = _truth(a, classes, names[0])
  other, _ = _truth(b, classes, names[1])
  differ = np.flatnonzero((truth != other).any(1))
  if differ.size:
    raise ValueError(
      f'{len(differ)} cases have another label in A than in B, '
      f'as case {a[differ[0]]["id"]}: they are not of one data set'
    )
  return truth, several


def _truth(rows, classes, where):
  several = [f'label/{name}' for name in classes]
  if all(column in rows[0] for column in several):
    truth = rows_lib.numbers(rows, several, where=where)
    if (truth < 0).any():
      raise ValueError(
        f'{where}: {int((truth < 0).sum())} labels are not known (-1); compare '
        'on cases whose labels are'
      )
    return truth > 0, True
  if 'label' not in rows[0]:
    raise ValueError(
      f'{where}: probabilities without a column label or label/CLASS'
    )
  truth = np.zeros((len(rows), len(classes)), bool)
  truth[np.arange(len(rows)), _indices(rows, 'label', classes, where)] = True
  return truth, False


def _indices(rows, column, classes, where):
  """Numbers of the classes (n,) that a column names, or has the numbers of."""
  found = rows_lib.class_numbers([row[column] for row in rows], classes)
  if None in found:
    row = rows[found.index(None)]
    raise ValueError(
      f'{where}: {column} {row[column] or ""!r} of case {row["id"]} is none of '
      f'{", ".join(classes)}'
    )
  return np.array(found)


def _decided(rows, probabilities, classes, where):
  """Classes (n,): what the task decided, or else the likeliest."""
  if 'decided' not in rows[0]:
    return probabilities.argmax(1)
  return _indices(rows, 'decided', classes, where)


def _probabilities(rows, classes, where):
  columns = [f'probability/{name}' for name in classes]
  values = rows_lib.numbers(rows, columns, where=where)
  bad = np.isnan(values).any(1)
  if bad.any():
    raise ValueError(
      f'{where}: case {rows[bad.argmax()]["id"]} has an undefined probability'
    )
  return values


def _auroc_lines(truth, a, b, classes, patients):
  bounds, of_mean = paired.auroc_difference_intervals(truth, a, b, patients)
  lines = []
  for k, name in enumerate(classes):
    test = delong.delong(truth[:, k], a[:, k], b[:, k])
    lines.append(
      Line(
        metric='auroc',
        of=name,
        a=test.auroc_a,
        b=test.auroc_b,
        difference=test.difference,
        interval=tuple(bounds[k].tolist()),
        test='DeLong',
        p=test.p,
        n=len(truth),
        delong=test.interval,
      )
    )
  if len(classes) > 1:
    means = [
      float(defined_mean(np.array(values)))
      for values in zip(*((line.a, line.b) for line in lines), strict=True)
    ]
    mean = Line(
      metric='auroc',
      of=MEAN,
      a=means[0],
      b=means[1],
      difference=means[1] - means[0],
      interval=tuple(of_mean.tolist()),
      n=len(truth),
    )
    lines.insert(0, mean)
  return lines


def _accuracy_lines(right_a, right_b, names, patients):
  """Lines of decisions that are right or not, (n, k) each."""
  bounds = paired.mean_difference_intervals(
    right_a.astype(float), right_b.astype(float), patients
  )
  return [
    Line(
      metric='accuracy',
      of=name,
      a=float(x.mean()),
      b=float(y.mean()),
      difference=float(y.mean() - x.mean()),
      interval=tuple(bounds[k].tolist()),
      test='McNemar',
      p=paired.mcnemar(x, y),
      n=len(x),
    )
    for k, (name, x, y) in enumerate(zip(names, right_a.T, right_b.T,
                                         strict=True))
  ]  # fmt: skip
