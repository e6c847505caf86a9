"""Intraclass correlation, and the features of two tables side by side."""

import math
import pathlib

import numpy as np
import scipy.stats

from medjax import cli, files


def one_way(values):
  """(ICC(1, 1), low, high) of (regions, measurements); NaN where undefined.

  Measurements of a region are exchangeable (Shrout and Fleiss 1979; the 95 %
  interval by their F).
  """
  values = np.asarray(values, float)
  n, k = values.shape
  if n < 2 or k < 2 or not np.isfinite(values).all():
    return (math.nan,) * 3
  means = values.mean(1)
  between = k * ((means - means.mean()) ** 2).sum() / (n - 1)
  within = ((values - means[:, None]) ** 2).sum() / (n * (k - 1))
  if within == 0:
    return (1.0, 1.0, 1.0) if between > 0 else (math.nan,) * 3
  ratio = between / within
  bounds = [
    ratio / scipy.stats.f.ppf(0.975, n - 1, n * (k - 1)),
    ratio * scipy.stats.f.ppf(0.975, n * (k - 1), n - 1),
  ]
  return tuple(float((f - 1) / (f + k - 1)) for f in (ratio, *bounds))


def absolute(values):
  """ICC(2, 1), absolute agreement, of (regions, raters); NaN if undefined."""
  values = np.asarray(values, float)
  n, k = values.shape
  if n < 2 or not np.isfinite(values).all():
    return math.nan
  mean, rows, columns = values.mean(), values.mean(1), values.mean(0)
  by_row = k * ((rows - mean) ** 2).sum() / (n - 1)
  by_column = n * ((columns - mean) ** 2).sum() / (k - 1)
  rest = values - rows[:, None] - columns + mean
  error = (rest**2).sum() / ((n - 1) * (k - 1))
  below = by_row + (k - 1) * error + k * (by_column - error) / n
  return float((by_row - error) / below) if below > 0 else math.nan


def compare(first, second, *, tolerance=1e-6):
  """[{feature, n, differ, difference, relative, icc}] of two tables' features.

  Rows are matched by `case` and `roi` where both have these, else by `id`,
  columns by name. differ: in how many rows they are apart by more than
  `tolerance`, relative; difference and relative: the largest. Raises ValueError
  for tables without a common row or feature.
  """
  tables = _both(first, second)
  ids = [i for i in tables[0] if i in tables[1]]
  if not ids:
    raise ValueError(f'{first} and {second} have no region in common')
  columns = [c for c in tables[0][ids[0]] if c in tables[1][ids[0]]]
  if not columns:
    raise ValueError(f'{first} and {second} have no feature in common')
  found = []
  for column in columns:
    pair = np.array([[t[i][column] for t in tables] for i in ids])
    known = np.isfinite(pair).all(1)
    one_sided = np.isfinite(pair).any(1) & ~known
    pair = pair[known]
    apart = np.abs(pair[:, 0] - pair[:, 1])
    size = np.maximum(np.abs(pair).max(1, initial=0), 1e-12)
    relative = apart / size
    found.append(
      {
        'feature': column,
        'n': len(pair),
        'differ': int((relative > tolerance).sum() + one_sided.sum()),
        'difference': float(apart.max(initial=0)),
        'relative': float(relative.max(initial=0)),
        'icc': absolute(pair),
      }
    )
  return found


def unmatched(first, second):
  """The regions ('case, region' or id) that one table has and the other not."""
  a, b = _both(first, second)
  said = lambda key: key if isinstance(key, str) else ', '.join(key)
  return [[said(k) for k in x if k not in y] for x, y in ((a, b), (b, a))]


def _both(*paths):
  """[{key: {column: number or NaN}}] of two tables, their features only."""
  tables = []
  for path in map(pathlib.Path, paths):
    if not path.is_file():
      raise FileNotFoundError(f'{path}: no such file')
    tables.append(files.read_csv(path, mend='give another table'))
  # An id has the region only where a case has several.
  keys = ('case', 'roi')
  if any({*keys} - {*header} for _, header in tables):
    keys = ('id',)
  return [
    _numbers(path, *table, keys)
    for path, table in zip(paths, tables, strict=True)
  ]


def _numbers(path, rows, header, keys):
  if missing := [k for k in keys if k not in header]:
    raise ValueError(
      f'{path}: has no column {missing[0]}, by which rows are matched'
    )
  found = {}
  for row in rows:
    key = tuple(row[k] for k in keys)
    key = key if len(key) > 1 else key[0]
    if key in found:
      raise ValueError(f'{path}: has {row["id"]!r} twice')
    found[key] = {k: _number(v) for k, v in row.items() if k.count('_') >= 2}
  if not found:
    raise ValueError(f'{path}: has no rows')
  return found


def _number(cell):
  try:
    return float(cell)
  except ValueError:
    return math.nan


def text(found, tolerance):
  """A table of the features that differ, the most different first."""
  differ = [r for r in found if r['differ']]
  said = (
    f'{len(differ)} of {len(found)} features differ by more than '
    f'{tolerance:g}, relative, in some region'
  )
  if not differ:
    return said
  differ.sort(key=lambda r: -r['relative'])
  rows = [
    [
      r['feature'], f'{r["differ"]} of {r["n"]}', f'{r["difference"]:.3g}',
      f'{r["relative"]:.2g}', f'{r["icc"]:.4f}',
    ]
    for r in differ
  ]  # fmt: skip
  header = ['feature', 'regions', 'largest', 'relative', 'ICC']
  return f'{said}\n\n{cli.aligned(header, rows, "lrrrr")}'
