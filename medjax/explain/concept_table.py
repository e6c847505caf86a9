"""The values that cases have of a concept: columns of a table."""

import numpy as np

from medjax import files


def concept_values(cases, columns, *, table='', covariates=()):
  """{column: (n,) floats, NaN unknown} of cases, or of a table by their ids.

  Without a table the columns are those of the run's own, kept with a case or
  among its `covariates`, whose names these are. Of a table, the column that
  names most of the cases says which row is whose.
  """
  rows = [_row(case, covariates) for case in cases]
  if table:
    lines, header = files.read_csv(table, mend='give another table')
    key, ids = _key(lines, header, [str(c['id']) for c in cases], table)
    by_id = {_stem(line[key]): line for line in lines}
    rows = [by_id.get(_stem(i), {}) for i in ids]
  _check(columns, {k for row in rows for k in row}, table)
  values = {}
  for column in columns:
    values[column] = np.array([_number(row.get(column)) for row in rows])
    if not np.isfinite(values[column]).any():
      raise ValueError(f'--concepts: {column} holds no number')
  return values


def check(columns, case, *, table='', covariates=()):
  """Raises ValueError for a column that a table, or a run's case, lacks."""
  if table:
    _, known = files.read_csv(table, mend='give another table')
  else:
    known = _row(case, covariates)
  _check(columns, known, table)


def _check(columns, known, table):
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


def _key(lines, header, ids, table):
  """The column of a table whose cells are the cases' ids."""
  wanted = set(map(_stem, ids))
  hits = {c: len(wanted & {_stem(line[c]) for line in lines}) for c in header}
  best = max(hits, key=hits.get) if hits else ''
  if not hits or not hits[best]:
    raise ValueError(
      f'{table}: no column has the ids of the cases, as {ids[0]!r}'
    )
  return best, ids


def _number(text):
  try:
    return float(text)
  except (TypeError, ValueError):
    return np.nan
