"""The values that cases have of a concept: columns of a table."""

import numpy as np

from medjax.data.folder import tables


def concept_values(cases, columns, *, table='', covariates=()):
  """{column: (n,) floats, NaN unknown} of cases, or of a table by their ids.

  Without a table the columns are those of the run's own, kept with a case or
  among its `covariates`, whose names these are. Of a table, the column that
  names most of the cases says which row is whose.
  """
  if table:
    rows = _told(tables.read(table), columns, [str(c['id']) for c in cases])
  else:
    rows = [_row(case, covariates) for case in cases]
    _check(columns, {k for row in rows for k in row})
  values = {}
  for column in columns:
    values[column] = np.array([_number(row.get(column)) for row in rows])
    if not np.isfinite(values[column]).any():
      raise ValueError(f'--concepts: {column} holds no number')
  return values


def check(columns, case, *, table='', covariates=()):
  """Raises ValueError for a column that a table, or a run's case, lacks."""
  known = tables.read(table).columns if table else _row(case, covariates)
  _check(columns, known, table)


def _check(columns, known, table=''):
  for column in columns:
    if column not in known:
      raise ValueError(
        f'--concepts: {table or "the run’s table"} has no column {column!r}; '
        f'there are {", ".join(sorted(map(str, known))[:20])}'
      )


def _row(case, covariates):
  named = zip(covariates, case.get('covariates', ()), strict=False)
  return {k: v for k, v in case.items() if np.ndim(v) == 0} | dict(named)


def _stem(text):
  return str(text).removesuffix('.gz').removesuffix('.nii')


def _told(table, columns, ids):
  """[{column: number}] of cases: the rows of a table that have their ids."""
  _check(columns, table.columns, table.path)
  key, wanted, found = _key(table, ids), set(map(_stem, ids)), {}
  for row in table.rows:
    name = _stem(row.cells[key])
    if name in wanted and name in found:
      raise ValueError(f'{row.where}: {key} {name!r} is there twice; keep one')
    found[name] = {
      c: tables.number(row.cells[c], comma=table.decimal_comma) for c in columns
    }
  return [found.get(_stem(i), {}) for i in ids]


def _key(table, ids):
  """The column of a table whose cells are the cases' ids."""
  wanted = set(map(_stem, ids))
  hits = {
    c: len(wanted & {_stem(row.cells[c]) for row in table.rows})
    for c in table.columns
  }
  best = max(hits, key=hits.get)
  if not hits[best]:
    raise ValueError(
      f'{table.path}: no column has the ids of the cases, as {ids[0]!r}'
    )
  return best


def _number(text):
  try:
    return float(text)
  except (TypeError, ValueError):
    return np.nan
