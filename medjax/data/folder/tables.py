"""Tables of cases: CSV (comma, semicolon or tab) and Parquet, as text."""

import csv
import dataclasses
import io
import math
import pathlib

from medjax.build import closest

SUFFIXES = ('.csv', '.tsv', '.parquet')
# What a cell without a value may hold, in small letters.
MISSING = frozenset(('', 'na', 'n/a', 'nan', 'null'))


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table: its cells by column, and where it stands."""

  cells: dict
  where: str  # 'cases.csv, line 7', for messages


@dataclasses.dataclass(frozen=True)
class Table:
  """The rows of a file, its columns, and the file."""

  path: pathlib.Path
  columns: tuple[str, ...]
  rows: tuple[Row, ...]

  def require(self, column):
    """Raises ValueError unless the table has this column."""
    if column not in self.columns:
      raise ValueError(
        f'{self.path}: has no column {column!r}{closest(column, self.columns)}'
      )


def read(path):
  """The `Table` in a file; cells are text without blanks around, '' if empty.

  Raises FileNotFoundError, ValueError: no such file, not UTF-8, no rows, a
  column twice, a line with more cells than the header.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  parquet = path.suffix.lower() == '.parquet'
  columns, lines = _parquet(path) if parquet else _csv(path)
  twice = next((c for i, c in enumerate(columns) if c in columns[:i]), None)
  if twice is not None:
    raise ValueError(f'{path}: has column {twice!r} twice; rename one')
  if not lines:
    raise ValueError(f'{path}: has no rows')
  rows = []
  for place, cells in lines:
    where = f'{path}, {"row" if parquet else "line"} {place}'
    if len(cells) > len(columns):
      raise ValueError(f'{where}: has more cells than the header has names')
    cells += [''] * (len(columns) - len(cells))
    texts = map(str.strip, cells)
    rows.append(Row(dict(zip(columns, texts, strict=True)), where))
  return Table(path, tuple(columns), tuple(rows))


def select(table, where):
  """The rows for which `where`, 'column=value[, column=value]', holds."""
  rows = table.rows
  for condition in filter(None, where.split(',')):
    column, equals, value = condition.strip().partition('=')
    if not equals:
      raise ValueError(
        f'data.where {where!r}: needs column=value, or several with commas'
      )
    table.require(column)
    left = [r for r in rows if r.cells[column] == value]
    if not left:
      some = sorted({r.cells[column] for r in rows})
      raise ValueError(
        f'{table.path}: no row has {column}={value!r}{closest(value, some)}'
      )
    rows = left
  return dataclasses.replace(table, rows=tuple(rows))


def clinical(table, columns):
  """[{column: value}] for each row: floats, or text.

  A column whose every cell is a number or missing ('', NA, N/A, NaN, null) is
  of floats, NaN where missing; any other is text, as it stands.
  """
  values = {}
  for column in columns:
    cells = [row.cells[column] for row in table.rows]
    numbers = [number(cell) for cell in cells]
    numeric = None not in numbers and not all(map(math.isnan, numbers))
    values[column] = numbers if numeric else cells
  return [{c: values[c][i] for c in columns} for i in range(len(table.rows))]


def number(cell):
  """A cell as a float, NaN if missing, None if it is no number."""
  if cell.lower() in MISSING:
    return math.nan
  try:
    value = float(cell)
  except ValueError:
    return None
  return value if math.isfinite(value) and '_' not in cell else None


def _csv(path):
  """(columns, [(line number, cells)]); lines without any text are left out."""
  try:
    text = path.read_text('utf-8-sig')
  except UnicodeDecodeError:
    raise ValueError(
      f'{path}: is not UTF-8 text; save it as CSV in UTF-8'
    ) from None
  delimiter = max(',;\t', key=text.partition('\n')[0].count)
  lines = io.StringIO(text, newline='')
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  try:
    columns = [name.strip() for name in next(reader, [])]
    rows = [
      (reader.line_num, row) for row in reader if any(map(str.strip, row))
    ]
  except csv.Error as e:
    raise ValueError(f'{path}: is not a table in CSV ({e})') from None
  return columns, rows


def _parquet(path):
  """(columns, [(row number, cells)])."""
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise ValueError(
      f"{path}: reading Parquet needs pyarrow: pip install 'medjax[tables]', "
      'or save the table as CSV'
    ) from None
  try:
    found = pyarrow.parquet.ParquetFile(path).read()
  except (pyarrow.ArrowException, OSError) as e:
    raise ValueError(
      f'{path}: is not a Parquet table, or damaged '
      f'({" ".join(str(e).split())}); copy it again'
    ) from None
  columns = [map(_text, column.to_pylist()) for column in found.columns]
  rows = map(list, zip(*columns, strict=True))
  return list(found.column_names), list(enumerate(rows, start=1))


def _text(value):
  """A typed cell as a CSV would hold it: '' for none, '12' for 12.0."""
  if value is None or value != value:
    return ''
  if isinstance(value, float) and value.is_integer():
    return str(int(value))
  return str(value)
