"""per_case.csv in a report: its rows, and its columns as numbers.

Columns of a measure are MEASURE/CLASS, or MEASURE for the whole case.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from medjax import files


def read(path) -> list[dict[str, str]]:
  """Rows of a per_case.csv, [] where there is no file.

  Raises ValueError of one line for a file that is damaged.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return []
  rows, _ = files.read_csv(path, mend='evaluate again')
  if rows and 'id' not in rows[0]:
    raise ValueError(f'{path} has no column id; evaluate again')
  return rows


def numbers(
  rows: Sequence[Mapping], columns: Sequence[str], *, where: str = ''
) -> np.ndarray:
  """Columns as (n, k); NaN where a field is empty, nan or infinite.

  Raises ValueError, with `where` and the case's id, for a field that is no
  number.
  """
  values = np.full((len(rows), len(columns)), np.nan)
  for i, row in enumerate(rows):
    for k, column in enumerate(columns):
      field = row[column]
      try:
        value = float('nan' if field in ('', None) else field)
      except ValueError:
        raise ValueError(
          f'{where}{": " if where else ""}column {column} of case '
          f'{row.get("id")} holds {field!r}, not a number'
        ) from None
      values[i, k] = value if np.isfinite(value) else np.nan
  return values


def class_numbers(
  cells: Sequence[str], classes: Sequence[str]
) -> list[int | None]:
  """Which class each cell says: by its index, as medjax writes it, or its name.

  Classes may be called '1', '2', '3': names are meant where a cell is no index.
  None is neither.
  """
  places = {str(i): i for i in range(len(classes))}
  names = {name: i for i, name in enumerate(classes)}
  if all(cell in places for cell in cells):
    return [places[cell] for cell in cells]
  return [names.get(cell, places.get(cell)) for cell in cells]


def measured(rows: Sequence[Mapping]) -> dict[str, dict[str, str]]:
  """{measure: {class: column}} of the columns of the first row.

  The class of a column MEASURE is ''.
  """
  found = {}
  for column in rows[0] if rows else ():
    if column:
      measure, _, name = column.partition('/')
      found.setdefault(measure, {})[name] = column
  return found


def by_class(
  rows: Sequence[Mapping], measure: str, *, where: str = ''
) -> dict[str, np.ndarray]:
  """{class: (n,)} of a measure, {} where the rows lack it."""
  columns = measured(rows).get(measure, {})
  values = numbers(rows, [*columns.values()], where=where)
  return dict(zip(columns, values.T, strict=True))
