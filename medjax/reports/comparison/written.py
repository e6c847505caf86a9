"""A comparison as the text of a terminal, as a CSV and as a figure."""

import pathlib

import numpy as np

from medjax import cli, files
from medjax.reports import figures
from medjax.reports.comparison.result import Comparison


def text(comparison: Comparison, *, names=('A', 'B'), cases: int = 10) -> str:
  """The comparison for a terminal, with the cases that moved most."""
  c = comparison
  with_delong = any(line.test == 'DeLong' for line in c.lines)
  header = ['Metric', 'Class', 'A', 'B', 'B − A', '95 % interval']
  header += ['DeLong interval'] * with_delong
  header += ['Test', 'p', 'adjusted p', 'n']
  rows = [
    [
      c.measures.title(line.metric),
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
    _moved(c, cases),
  ]
  return '\n\n'.join(filter(None, parts))


def _moved(c, cases):
  moved = [
    [
      c.ids[i],
      _value(c.a[i]),
      _value(c.b[i]),
      _value(c.b[i] - c.a[i], sign=True),
    ]
    for i in c.moved(cases)
  ]
  if moved:
    table = cli.aligned(['Case', 'A', 'B', 'B − A'], moved, 'lrrl')
    return f'Moved most, {c.value}:\n{table}'
  return f'No case moved: {c.value} is the same in both.' if cases else ''


def _value(x, *, sign=False):
  if np.isnan(x):
    return '–'
  digits = f'{x:+.4f}' if sign else f'{x:.4f}'
  return digits.replace('-', '−')


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


def write(comparison: Comparison, folder, *, names=('A', 'B')):
  """Writes comparison.csv and comparison.png to a folder; returns the paths.

  The CSV has one line per line of the table, unrounded.
  """
  folder = pathlib.Path(folder)
  paths = [folder / 'comparison.csv', folder / 'comparison.png']
  files.write_csv(paths[0], map(_cells, comparison.lines))
  with figures.style():
    figure = figures.paired_differences(
      comparison.groups,
      comparison.value.split(', mean of')[0],
      names,
      comparison.ids,
    )
    if figure is None:
      return paths[:1]
    with files.replacing(paths[1], 'wb') as f:
      figure.savefig(f, format='png')
  return paths


def _cells(line):
  low, high = line.interval
  delong_low, delong_high = line.delong
  cells = {
    'metric': line.metric,
    'class': line.of,
    'a': line.a,
    'b': line.b,
    'difference': line.difference,
    'low': low,
    'high': high,
    'delong_low': delong_low,
    'delong_high': delong_high,
    'test': line.test,
    'p': line.p,
    'p_adjusted': line.adjusted,
    'n': line.n,
    'undefined_a': line.undefined_a,
    'undefined_b': line.undefined_b,
  }
  undefined = {k for k, v in cells.items() if v != v}  # NaN: an empty cell
  return cells | dict.fromkeys(undefined, '')
