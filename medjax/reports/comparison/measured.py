"""Runs whose cases have numbers: of a segmentation, or of another task."""

import numpy as np

from medjax.metrics import paired
from medjax.metrics.classification import defined_mean
from medjax.reports import rows as rows_lib
from medjax.reports.comparison.result import (
  MEAN,
  NAN,
  Comparison,
  Line,
  adjusted,
)

# Columns METRIC/CLASS that are no scores: p values of what is new.
_NO_SCORES = ('ood_p',)


def compare_values(a, b, patients, *, measures, names) -> Comparison:
  """Compares rows with columns METRIC/CLASS, or METRIC that `measures` has."""
  columns, alone = _columns(a, b, measures)
  values = [
    rows_lib.numbers(rows, [*columns.values()], where=name)
    for rows, name in zip((a, b), names, strict=True)
  ]
  metrics, classes, x, y = _with_means(list(columns), *values)
  bounds = paired.mean_difference_intervals(x, y, patients)
  lines = [
    _line(*of, x[:, k], y[:, k], bounds[k], patients)
    for k, of in enumerate(zip(metrics, classes, strict=True))
  ]
  first = measures.ordered(metrics)[0]
  own = [k for k, metric in enumerate(metrics) if metric == first]
  shown = [k for k in own if classes[k] != MEAN] or own
  title = measures.title(first)
  return Comparison(
    ids=[row['id'] for row in a],
    patients=patients,
    lines=adjusted(lines),
    value=f'{title}, mean of the classes' if len(own) > 1 else title,
    a=x[:, own[0]],
    b=y[:, own[0]],
    groups={classes[k]: (x[:, k], y[:, k], bounds[k]) for k in shown},
    measures=measures,
    notes=_notes(lines, alone, measures, len(set(patients)) < len(a)),
  )


def _columns(a, b, measures):
  """{(metric, class): column} of both runs, and the columns of one alone."""
  each = []
  for rows in (a, b):
    found = rows_lib.measured(rows)
    for metric in _NO_SCORES:
      found.pop(metric, None)
    each.append(
      {
        (metric, name): column
        for metric, classes in found.items()
        for name, column in classes.items()
        if name or metric in measures
      }
    )
  both = {key: column for key, column in each[0].items() if key in each[1]}
  if not both:
    own, other = (', '.join([*e.values()][:4]) or 'none' for e in each)
    raise ValueError(
      f'the runs share no column METRIC/CLASS: A has {own} …, '
      f'B has {other} …: rename with --columns=dice/CLASS=NAME,…'
    )
  return both, sorted(set(each[0].values()) ^ set(each[1].values()))


def _with_means(columns, a, b):
  """The columns, and before those of several classes their mean by case.

  A case's mean is over the classes that both runs define.
  """
  table = []
  for metric in dict.fromkeys(metric for metric, _ in columns):
    own = [k for k, (m, _) in enumerate(columns) if m == metric]
    if len(own) > 1:
      hidden = np.isnan(a[:, own]) | np.isnan(b[:, own])
      means = [
        defined_mean(np.where(hidden, np.nan, x[:, own])) for x in (a, b)
      ]
      table.append((metric, MEAN, *means))
    table += [(metric, columns[k][1], a[:, k], b[:, k]) for k in own]
  metrics, classes, a, b = zip(*table, strict=True)
  return metrics, classes, np.stack(a, -1), np.stack(b, -1)


def _line(metric, name, x, y, bounds, patients):
  used = ~np.isnan(x) & ~np.isnan(y)
  means = [float(v[used].mean()) if used.any() else NAN for v in (x, y)]
  return Line(
    metric=metric,
    of=name,
    a=means[0],
    b=means[1],
    difference=means[1] - means[0],
    interval=tuple(bounds.tolist()),
    test='Wilcoxon',
    p=paired.wilcoxon(paired.group_mean(y - x, patients)),
    n=int(used.sum()),
    undefined_a=int(np.isnan(x).sum()),
    undefined_b=int(np.isnan(y).sum()),
  )


def _notes(lines, alone, measures, grouped):
  metrics = list(dict.fromkeys(line.metric for line in lines))
  notes = []
  if grouped:
    notes.append('Wilcoxon: of the mean differences of patients, not of cases.')
  lower = [measures.title(m) for m in metrics if measures.higher(m) is False]
  if lower:
    notes.append(f'Lower is better: {"; ".join(lower)}.')
  unknown = [measures.title(m) for m in metrics if m not in measures]
  if unknown:
    notes.append(f'Which way is better is not said: {"; ".join(unknown)}.')
  if any(line.undefined_a != line.undefined_b for line in lines):
    notes.append(
      'Cases undefined in one run only are left out of both means: a model '
      'that misses a structure is not charged for its distances.'
    )
  if alone:
    names = [
      k if k.split('/')[0] in metrics else k.split('/')[0] for k in alone
    ]
    names = ', '.join(dict.fromkeys(names))
    notes.append(f'In one run only, not compared: {names}.')
  return notes
