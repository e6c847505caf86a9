"""Tables of cases: CSV (comma, semicolon or tab) and Parquet, as text."""

import csv
import dataclasses
import io
import math
import pathlib
import re

from medjax.build import closest
from medjax.files import composed, unquoted

SUFFIXES = ('.csv', '.tsv', '.parquet')
# What a cell without a value may hold, in small letters; Excel writes #N/A.
MISSING = frozenset(('', 'na', 'n/a', '#n/a', 'nan', 'null'))
PLACES = ('path', 'image', 'mask')  # columns of where a row's files lie
_LARGE = 2**28  # bytes; a table of cases never is


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table: its cells by column, and where it stands."""

  cells: dict
  where: str  # 'cases.csv, line 7', for messages


@dataclasses.dataclass(frozen=True)
class Table:
  """The rows of a file, its columns, and the file.

  decimal_comma: columns are parted by another sign, so 40,5 is a number.
  """

  path: pathlib.Path
  columns: tuple[str, ...]
  rows: tuple[Row, ...]
  decimal_comma: bool = False

  def require(self, column):
    """Raises ValueError unless the table has this column."""
    if column not in self.columns:
      raise ValueError(
        f'{self.path}: has no column {column!r}{closest(column, self.columns)}'
      )


def read(path):
  """The `Table` in a file; cells are text without blanks around, '' if empty.

  An umlaut is one letter, however the file writes it.

  Raises FileNotFoundError, ValueError: no such file, not UTF-8, no rows, a
  column twice, a line with more cells than the header.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  if path.stat().st_size > _LARGE:
    raise ValueError(
      f'{path}: is larger than 256 MiB, which no table of cases is; keep the '
      'columns that are needed'
    )
  parquet = path.suffix.lower() == '.parquet'
  columns, lines, delimiter = (*_parquet(path), ',') if parquet else _csv(path)
  columns, lines = _named([*map(composed, columns)], lines)
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
    texts = (composed(unquoted(cell.strip())) for cell in cells)
    rows.append(Row(dict(zip(columns, texts, strict=True)), where))
  return Table(path, tuple(columns), tuple(rows), delimiter != ',')


def _named(columns, lines):
  """Without the columns that have neither a name nor a cell."""
  width = max([len(columns), *(len(cells) for _, cells in lines)], default=0)
  columns = [*columns, *[''] * (width - len(columns))]
  blank = [
    i
    for i, name in enumerate(columns)
    if not name and not any(c[i].strip() for _, c in lines if len(c) > i)
  ]
  kept = [i for i in range(len(columns)) if i not in blank]
  while columns and not columns[-1] and len(columns) - 1 not in blank:
    columns = columns[:-1]  # cells beyond the header, which `read` refuses
  names = [columns[i] or f'column {i + 1}' for i in kept if i < len(columns)]
  return names, [
    (place, [c[i] for i in kept if i < len(c)]) for place, c in lines
  ]


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
    left = [r for r in rows if r.cells[column] == composed(value)]
    if not left:
      some = sorted({r.cells[column] for r in rows})
      raise ValueError(
        f'{table.path}: no row has {column}={value!r}{closest(value, some)}'
      )
    rows = left
  return dataclasses.replace(table, rows=tuple(rows))


def joined(table, other, on=''):
  """(table with the columns of another, of the rows with the same key; notes).

  on: the column that both have and that is the key, by default the only one.
  A row without its like in the other has empty cells, which is noted. Raises
  ValueError for a key that is empty or twice in the other, or another text for
  one number (007, 7), for columns of one name that do not agree (where files
  lie counts not), and for a table that is of other cases.
  """
  shared = [c for c in other.columns if c in table.columns]
  if not on and len(shared) != 1:
    raise ValueError(
      f'{other.path}: shares {", ".join(shared) or "no column"} with '
      f'{table.path}; say in data.join.on which is the key'
    )
  on = on or shared[0]
  table.require(on)
  other.require(on)
  rows = {}
  for row in other.rows:
    key = row.cells[on]
    if key.lower() in MISSING:
      raise ValueError(f'{row.where}: {on} is empty, so it joins no row')
    if key in rows:
      line = rows[key].where.rpartition(', ')[2]
      raise ValueError(f'{row.where}: {on} is that of {line} too; keep one')
    rows[key] = row
  _check_numbers(table, rows, on)
  keys = {row.cells[on] for row in table.rows}
  if not keys & rows.keys():
    raise ValueError(
      f'{other.path}: no {on} of it is in {table.path}: a table of other cases?'
    )
  pairs = [(r, rows[r.cells[on]]) for r in table.rows if r.cells[on] in rows]
  for column in set(shared) - {on, *PLACES}:
    if any(a.cells[column] != b.cells[column] for a, b in pairs):
      raise ValueError(
        f'{other.path}: column {column!r} is in {table.path} too, and says '
        'something else; rename one'
      )
  added = tuple(c for c in other.columns if c not in shared)
  empty = dict.fromkeys(added, '')
  table = dataclasses.replace(
    table,
    columns=table.columns + added,
    rows=tuple(
      dataclasses.replace(row, cells={**row.cells, **_of(rows, row, on, empty)})
      for row in table.rows
    ),
  )
  bare = len(table.rows) - len(pairs)
  note = f'{bare} of {len(table.rows)} rows have no row in {other.path.name}'
  return table, (note,) if bare else ()


def _check_numbers(table, rows, on):
  """Refuses keys that are numbers of the other table, written otherwise."""
  keys = {row.cells[on] for row in table.rows}
  theirs = {_digits(key): row for key, row in rows.items() if key not in keys}
  for row in table.rows:
    key = row.cells[on]
    like = None if key in rows else theirs.get(_digits(key))
    if like and _digits(key):
      raise ValueError(
        f'{like.where}: {on} is {like.cells[on]}, and {key} in {row.where}: '
        'write the same text in both'
      )


def _digits(key):
  """The 7 of 007 and 7.0, exactly however long; None for other texts."""
  found = re.fullmatch(r'0*([0-9]+)(\.0+)?', key)
  return found and found[1]


def _of(rows, row, on, empty):
  """The cells that another table adds to a row."""
  found = rows.get(row.cells[on])
  return {c: found.cells[c] for c in empty} if found else empty


def clinical(table, columns):
  """[{column: value}] for each row: floats, or text.

  A column whose every cell is a number or missing (`MISSING`) is of floats,
  NaN where missing; any other is text, as it stands.
  """
  values = {}
  for column in columns:
    cells = [row.cells[column] for row in table.rows]
    numbers = [number(c, comma=table.decimal_comma) for c in cells]
    numeric = None not in numbers and not all(map(math.isnan, numbers))
    values[column] = numbers if numeric else cells
  return [{c: values[c][i] for c in columns} for i in range(len(table.rows))]


def number(cell, *, comma=False):
  """A cell as a float, NaN if missing, None if it is no number.

  40,5 is 40.5; 1,234 may be either, and is 1.234 with `comma`, else none.
  """
  if cell.lower() in MISSING:
    return math.nan
  if ',' in cell and re.fullmatch(r'[-+]?\d+,\d+', cell):
    if not comma and re.fullmatch(r'[-+]?[1-9]\d{0,2},\d{3}', cell):
      return None
    cell = cell.replace(',', '.')
  try:
    value = float(cell)
  except ValueError:
    return None
  return value if math.isfinite(value) and '_' not in cell else None


def _csv(path):
  """(columns, [(line number, cells)], delimiter) of the lines with text."""
  try:
    text = path.read_text('utf-8-sig')
  except UnicodeDecodeError:
    raise ValueError(
      f'{path}: is not UTF-8 text; save it as CSV in UTF-8'
    ) from None
  first = text.partition('\n')[0].strip()
  lines = io.StringIO(text, newline='')
  stated = re.fullmatch(r'"?sep=(.)"?', first, re.I)
  if stated:  # Excel's first line
    next(lines)
  delimiter = stated[1] if stated else max(',;\t', key=first.count)
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  try:
    columns = [name.strip() for name in next(reader, [])]
    rows = [
      (reader.line_num + bool(stated), row)
      for row in reader
      if any(map(str.strip, row))
    ]
  except csv.Error as e:
    raise ValueError(f'{path}: is not a table in CSV ({e})') from None
  return columns, rows, delimiter


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
