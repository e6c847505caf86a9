"""Two runs on the same cases: `python -m medjax.compare RUN_A RUN_B`.

Reads per_case.csv of both (medjax.per_case says what else may be given), and
nothing else. All differences are B - A. Intervals come from a bootstrap over
patients; tests are Wilcoxon's signed-rank test of the patients' mean
differences, DeLong's of AUROCs and McNemar's of right decisions, and their p
values are adjusted together for the whole table (Benjamini & Hochberg).
"""

import argparse
import csv
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from medjax import cli
from medjax.metrics import classification, delong, paired
from medjax.reports import figures
from medjax.run import per_case

_NAN = float('nan')
_MEAN = 'mean'  # of the classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """One line of the table: a score of both runs and their difference.

  n cases are compared; undefined_a and undefined_b have no value in that run
  and are left out of both means. delong is DeLong's interval of an AUROC.
  """

  metric: str
  of: str  # class, or ''
  a: float
  b: float
  difference: float
  interval: tuple[float, float]
  test: str = ''
  p: float = _NAN
  adjusted: float = _NAN
  n: int
  undefined_a: int = 0
  undefined_b: int = 0
  delong: tuple[float, float] = (_NAN, _NAN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """What two runs show on the same cases.

  value names what each case is judged by: a and b hold it by case, groups by
  case and class with an interval of the mean difference of each.
  """

  ids: Sequence[str]
  patients: Sequence[str]
  lines: Sequence[Line]
  value: str
  a: np.ndarray  # (n,)
  b: np.ndarray
  groups: Mapping[str, tuple]  # {class: (a (n,), b (n,), interval)}
  notes: Sequence[str] = ()

  def moved(self, limit):
    """Indices of the cases whose value changed most, largest first."""
    change = np.abs(self.b - self.a)
    order = np.argsort(-change, kind='stable')
    return [i for i in order if change[i] > 0][:limit]


def _numbers(rows, ids, columns):
  """Columns as (n, k); NaN where a field is empty, nan or infinite."""
  values = np.full((len(ids), len(columns)), np.nan)
  for i, name in enumerate(ids):
    for k, column in enumerate(columns):
      text = rows[name][column]
      try:
        value = float(text or 'nan')
      except ValueError:
        raise ValueError(
          f'column {column} of case {name} holds {text!r}, not a number'
        ) from None
      values[i, k] = value if np.isfinite(value) else np.nan
  return values


def _adjust(lines):
  adjusted = paired.benjamini_hochberg(np.array([line.p for line in lines]))
  return [
    dataclasses.replace(line, adjusted=float(p))
    for line, p in zip(lines, adjusted, strict=True)
  ]


# --- values of each case -----------------------------------------------------


def _metric_columns(a, b):
  """Columns METRIC/CLASS of both runs, and those of one alone."""
  each = [
    [k for k in next(iter(rows.values())) if k and '/' in k] for rows in (a, b)
  ]
  both = [k for k in each[0] if k in each[1]]
  if not both:
    raise ValueError(
      f'the runs share no column METRIC/CLASS: A has {", ".join(each[0][:4])}'
      f' …, B has {", ".join(each[1][:4])} …: rename with '
      '--columns=dice/CLASS=NAME,…'
    )
  return both, sorted({*each[0], *each[1]} - {*both})


def _with_means(columns, a, b):
  """The columns, and before those of several classes their mean by case.

  A case's mean is over the classes that both runs define.
  """
  paths = [column.split('/', 1) for column in columns]
  table = []
  for metric in dict.fromkeys(metric for metric, _ in paths):
    own = [k for k, (m, _) in enumerate(paths) if m == metric]
    if len(own) > 1:
      hidden = np.isnan(a[:, own]) | np.isnan(b[:, own])
      means = [
        classification.defined_mean(np.where(hidden, np.nan, x[:, own]))
        for x in (a, b)
      ]
      table.append((metric, _MEAN, *means))
    table += [(metric, paths[k][1], a[:, k], b[:, k]) for k in own]
  metrics, classes, a, b = zip(*table, strict=True)
  return metrics, classes, np.stack(a, -1), np.stack(b, -1)


def compare_values(a, b, ids, patients) -> Comparison:
  """Compares runs whose cases have numbers METRIC/CLASS: a segmentation."""
  columns, alone = _metric_columns(a, b)
  metrics, classes, x, y = _with_means(
    columns, _numbers(a, ids, columns), _numbers(b, ids, columns)
  )
  bounds = paired.mean_difference_intervals(x, y, patients)
  defined = ~np.isnan(x) & ~np.isnan(y)
  lines = []
  for k, (metric, name) in enumerate(zip(metrics, classes, strict=True)):
    used = defined[:, k]
    means = [float(v[used, k].mean()) if used.any() else _NAN for v in (x, y)]
    change = paired.group_mean(y[:, k] - x[:, k], patients)
    lines.append(
      Line(
        metric=metric,
        of=name,
        a=means[0],
        b=means[1],
        difference=means[1] - means[0],
        interval=tuple(bounds[k].tolist()),
        test='Wilcoxon',
        p=paired.wilcoxon(change),
        n=int(used.sum()),
        undefined_a=int(np.isnan(x[:, k]).sum()),
        undefined_b=int(np.isnan(y[:, k]).sum()),
      )
    )
  first = 'dice' if 'dice' in metrics else metrics[0]
  own = [k for k, metric in enumerate(metrics) if metric == first]
  shown = [k for k in own if classes[k] != _MEAN] or own
  title = figures.metric_title(first)
  return Comparison(
    ids=ids,
    patients=patients,
    lines=_adjust(lines),
    value=f'{title}, mean of the classes' if len(own) > 1 else title,
    a=x[:, own[0]],
    b=y[:, own[0]],
    groups={classes[k]: (x[:, k], y[:, k], bounds[k]) for k in shown},
    notes=_value_notes(metrics, lines, alone, len(set(patients)) < len(ids)),
  )


def _value_notes(metrics, lines, alone, grouped):
  notes = []
  if grouped:
    notes.append('Wilcoxon: of the mean differences of patients, not of cases.')
  lower = [
    figures.metric_title(m)
    for m in dict.fromkeys(metrics)
    if figures.METRICS.get(m, ('', '', False))[2]
  ]
  if lower:
    notes.append(f'Lower is better: {"; ".join(lower)}.')
  if any(line.undefined_a != line.undefined_b for line in lines):
    notes.append(
      'Cases undefined in one run only are left out of both means: a model '
      'that misses a structure is not charged for its distances.'
    )
  if alone:
    shared = set(metrics)
    names = [k if k.split('/')[0] in shared else k.split('/')[0] for k in alone]
    names = ', '.join(dict.fromkeys(names))
    notes.append(f'In one run only, not compared: {names}.')
  return notes


# --- probabilities of each case ----------------------------------------------


def _classes(a, b):
  each = [
    [k.split('/', 1)[1] for k in next(iter(rows.values()))
     if k and k.startswith('probability/')]
    for rows in (a, b)
  ]  # fmt: skip
  if set(each[0]) != set(each[1]):
    raise ValueError(
      f'the classes differ: {", ".join(each[0]) or "none"} in A, '
      f'{", ".join(each[1]) or "none"} in B'
    )
  return each[0]


def _truth(rows, ids, classes):
  """(n, K) bool, and whether a case may have several labels."""
  several = [f'label/{name}' for name in classes]
  header = next(iter(rows.values()))
  if all(column in header for column in several):
    return _numbers(rows, ids, several) > 0, True
  if 'label' not in header:
    raise ValueError('probabilities without a column label or label/CLASS')
  truth = np.zeros((len(ids), len(classes)), bool)
  for i, name in enumerate(ids):
    label = rows[name]['label'] or ''
    if label in classes:
      truth[i, classes.index(label)] = True
    elif label.isdigit() and int(label) < len(classes):
      truth[i, int(label)] = True
    else:
      raise ValueError(
        f'label {label!r} of case {name} is none of {", ".join(classes)}'
      )
  return truth, False


def _probabilities(rows, ids, classes):
  columns = [f'probability/{name}' for name in classes]
  values = _numbers(rows, ids, columns)
  bad = np.isnan(values).any(1)
  if bad.any():
    raise ValueError(f'case {ids[bad.argmax()]} has an undefined probability')
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
      float(classification.defined_mean(np.array(values)))
      for values in zip(*((line.a, line.b) for line in lines), strict=True)
    ]
    mean = Line(
      metric='auroc',
      of=_MEAN,
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


def compare_probabilities(a, b, ids, patients) -> Comparison:
  """Compares runs whose cases have probabilities: a classification.

  AUROCs are of class 1 for two classes, else of each against the rest.
  Decisions are the likeliest class, or each label above one half.
  """
  classes = _classes(a, b)
  truth, several = _truth(a, ids, classes)
  other, _ = _truth(b, ids, classes)
  if (truth != other).any():
    differ = np.flatnonzero((truth != other).any(1))
    raise ValueError(
      f'{len(differ)} cases have another label in A than in B, '
      f'as case {ids[differ[0]]}: they are not of one data set'
    )
  x, y = (_probabilities(rows, ids, classes) for rows in (a, b))
  ranked = slice(None) if several or len(classes) > 2 else slice(1, 2)
  lines = _auroc_lines(
    truth[:, ranked], x[:, ranked], y[:, ranked], classes[ranked], patients
  )
  if several:
    right = [(p > 0.5) == truth for p in (x, y)]
    true = [np.where(truth, p, 1 - p) for p in (x, y)]
    value, shown = 'Probability of the right answer', true
    each = [p.mean(1) for p in true]
  else:
    label = truth.argmax(1)
    right = [(p.argmax(1) == label)[:, None] for p in (x, y)]
    each = [p[truth] for p in (x, y)]
    value = 'Probability of the reference class'
    shown = [np.where(truth, p, np.nan) for p in (x, y)]
  lines += _accuracy_lines(*right, classes if several else [''], patients)
  bounds = paired.mean_difference_intervals(*shown, patients)
  notes = []
  if len(set(patients)) < len(ids):
    notes.append(
      'DeLong and McNemar take cases for independent; patients here have '
      'several: trust the intervals by patient.'
    )
  return Comparison(
    ids=ids,
    patients=patients,
    lines=_adjust(lines),
    value=value + (', mean of the labels' if several else ''),
    a=each[0],
    b=each[1],
    groups={
      name: (shown[0][:, k], shown[1][:, k], bounds[k])
      for k, name in enumerate(classes)
    },
    notes=notes,
  )


def compare(a, b, ids) -> Comparison:
  """Compares the rows of two runs (medjax.per_case.read) on these cases."""
  patients = [
    a[i].get('patient') or b[i].get('patient') or i for i in ids
  ]  # fmt: skip
  header = next(iter(a.values()))
  by_case = any(k and k.startswith('probability/') for k in header)
  function = compare_probabilities if by_case else compare_values
  return function(a, b, ids, patients)


# --- as text, table and figure -----------------------------------------------


def _value(x, *, sign=False):
  if np.isnan(x):
    return '–'
  text = f'{x:+.4f}' if sign else f'{x:.4f}'
  return text.replace('-', '−')


def _bounds(bounds):
  if np.isnan(bounds).any():
    return '–'
  return ' to '.join(_value(bound, sign=True) for bound in bounds)


def _p(p):
  if np.isnan(p):
    return '–'
  return '< 0.0001' if p < 1e-4 else f'{p:.4f}'


def _count(line):
  if not line.undefined_a + line.undefined_b:
    return str(line.n)
  return f'{line.n} (undefined: A {line.undefined_a}, B {line.undefined_b})'


def text(comparison: Comparison, *, names=('A', 'B'), cases: int = 10) -> str:
  """The comparison for a terminal, with the cases that moved most."""
  c = comparison
  header = ['Metric', 'Class', 'A', 'B', 'B − A', '95 % interval']
  with_delong = any(line.test == 'DeLong' for line in c.lines)
  header += ['DeLong interval'] * with_delong
  header += ['Test', 'p', 'adjusted p', 'n']
  rows = [
    [
      figures.metric_title(line.metric),
      line.of,
      _value(line.a),
      _value(line.b),
      _value(line.difference, sign=True),
      _bounds(line.interval),
      *[_bounds(line.delong)] * with_delong,
      line.test,
      _p(line.p),
      _p(line.adjusted),
      _count(line),
    ]
    for line in c.lines
  ]
  parts = [
    f'A: {names[0]}\nB: {names[1]}\n'
    f'{len(c.ids)} cases of {len(set(c.patients))} patients',
    cli.aligned(header, rows, f'll{"r" * (len(header) - 3)}l'),
    '\n'.join(c.notes),
  ]
  moved = [
    [c.ids[i], _value(c.a[i]), _value(c.b[i]),
     _value(c.b[i] - c.a[i], sign=True)]
    for i in c.moved(cases)
  ]  # fmt: skip
  if moved:
    table = cli.aligned(['Case', 'A', 'B', 'B − A'], moved, 'lrrl')
    parts.append(f'Moved most, {c.value}:\n{table}')
  elif cases:
    parts.append(f'No case moved: {c.value} is the same in both.')
  return '\n\n'.join(filter(None, parts))


def _write_csv(path, lines):
  """comparison.csv: one line per line of the table, unrounded."""
  temporary = path.with_name(path.name + '.tmp')
  with temporary.open('w', encoding='utf-8', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(
      ['metric', 'class', 'a', 'b', 'difference', 'low', 'high', 'delong_low',
       'delong_high', 'test', 'p', 'p_adjusted', 'n', 'undefined_a',
       'undefined_b']
    )  # fmt: skip
    for line in lines:
      numbers = [line.a, line.b, line.difference, *line.interval, *line.delong]
      cells = [line.metric, line.of, *numbers, line.test, line.p, line.adjusted]
      cells += [line.n, line.undefined_a, line.undefined_b]
      writer.writerow(
        ['' if isinstance(x, float) and np.isnan(x) else x for x in cells]
      )
  os.replace(temporary, path)


def write(comparison: Comparison, folder, *, names=('A', 'B')):
  """Writes comparison.csv and comparison.png to a folder; returns the paths."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  paths = [folder / 'comparison.csv', folder / 'comparison.png']
  _write_csv(paths[0], comparison.lines)
  with figures.style():
    figure = figures.paired_differences(
      comparison.groups,
      comparison.value.split(', mean')[0],
      names,
      comparison.ids,
    )
    if figure is not None:
      figure.savefig(paths[1], format='png')
  return paths if figure is not None else paths[:1]


def _mapping(argument):
  """'id=case,dice/left=dice_l' → {'id': 'case', 'dice/left': 'dice_l'}."""
  pairs = [pair.split('=') for pair in argument.split(',') if pair]
  if any(len(pair) != 2 or not all(pair) for pair in pairs):
    raise ValueError(f'--columns={argument} is not NAME=THEIRS,NAME=THEIRS,…')
  return dict(pairs)


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  for run in ('run_a', 'run_b'):
    parser.add_argument(
      run, help='workdir or CSV file; folds, whose cases are pooled, by commas'
    )
  parser.add_argument('--split', default='test', help='[test]')
  parser.add_argument('--out', help='folder for comparison.csv and .png')
  parser.add_argument(
    '--common', action='store_true', help='compare the cases that both have'
  )
  parser.add_argument(
    '--columns',
    default='',
    help="names of another's table: id=case,dice/left=dice_l,…",
  )
  parser.add_argument(
    '--cases', type=int, default=10, help='of those that moved most [10]'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    columns = _mapping(args.columns)
    names = args.run_a, args.run_b
    a, b = (per_case.read(r, split=args.split, columns=columns) for r in names)
    ids = per_case.match(a, b, common=args.common, names=names)
    comparison = compare(a, b, ids)
    print(text(comparison, names=names, cases=args.cases))
    if args.out:
      paths = write(comparison, args.out, names=names)
      print('\nwrote', ' and '.join(map(str, paths)))


if __name__ == '__main__':
  main()
