"""What the cells of a table mean: labels, covariates, survival."""

import math
import re

import numpy as np

from medjax.build import closest
from medjax.data.folder import pattern, tables
from medjax.data.folder.found import filled
from medjax.data.folder.ids import looks_like_id
from medjax.data.folder.tables import clinical
from medjax.files import composed

__all__ = [
  'UNCERTAIN',
  'clinical',
  'columns_of',
  'covariates',
  'encoded',
  'is_missing',
  'label',
  'survival',
  'usable',
]

_TRUTH = {'0': 0, '0.0': 0, 'false': 0, '1': 1, '1.0': 1, 'true': 1}
# What several labels may do with -1 and with blanks, as in CheXpert.
UNCERTAIN = ('', 'ignore', 'zero', 'one', 'class')
MOST_KINDS = 20  # values of a column that is one-hot


def label(told, values, where, uncertain=''):
  """A class, a tuple of 0 and 1 where several columns are told, or None.

  None: the cell is empty. uncertain: of several labels -1 is 'zero', 'one',
  left out of loss and metrics ('ignore': it stays -1), or a label of its own
  for each ('class': then the tuple is twice as long, the second half for
  these); an empty cell is 0. By default both are refused.
  """
  texts = told['label']
  if not texts:
    return _index(values['label']) if values.get('label') else None
  if len(texts) == 1:
    if is_missing(texts[0], values):
      return None
    return _index(filled(texts[0], values, where))
  if all(is_missing(text, values) for text in texts) and not uncertain:
    return None
  known = [
    _truth(text, values, where, bool(uncertain), texts) for text in texts
  ]
  match uncertain:
    case 'zero' | 'one':
      return tuple(int(uncertain == 'one') if k < 0 else k for k in known)
    case 'class':
      return (*(max(k, 0) for k in known), *(int(k < 0) for k in known))
  return tuple(known)


def _truth(text, values, where, lenient, texts):
  if lenient and is_missing(text, values):
    return 0
  cell = filled(text, values, where).lower()
  if lenient and cell in ('-1', '-1.0'):
    return -1
  if cell not in _TRUTH:
    hint = ''
    if cell in ('-1', '-1.0', '-1.00'):
      hint = "; or say what -1 means: data.uncertain='zero', one, ignore, class"
    raise ValueError(
      f'{where}: {text} is {cell!r}; each of several labels is 0 or 1{hint}'
    )
  return _TRUTH[cell]


def is_missing(text, values):
  """Whether a cell that fills a text is empty."""
  return any(
    values.get(name, '').lower() in tables.MISSING
    for name in pattern.names(text)
  )


def _index(cell):
  """'1.0' and '01', as spreadsheets write them, are '1'."""
  whole = re.fullmatch(r'0*(\d+)(\.0*)?', cell)
  return whole[1] if whole else cell


def survival(told, values, where, table):
  """{'time': …, 'event': 0, 1, 2, …} where the table has them."""
  if not told['time']:
    return {}
  time = filled(told['time'][0], values, where)
  event = filled(told['event'][0], values, where).lower()
  number = tables.number(time, comma=table.decimal_comma)
  if number is None or math.isnan(number) or number <= 0:
    raise ValueError(
      f'{where}: time is {time!r}, not a number above 0; mend the row, or '
      'leave it out'
    )
  kind = _TRUTH.get(event, re.fullmatch(r'(\d)(\.0*)?', event))
  if kind is None:
    raise ValueError(
      f'{where}: event is {event!r}; 0 is censored, 1 is the event (2, 3, … '
      'are others that compete with it)'
    )
  kind = kind if isinstance(kind, int) else int(kind[1])
  return {'time': np.float32(number), 'event': np.int32(kind)}


def usable(table, columns):
  """(those columns that can be covariates, notes): numbers, or few kinds.

  Numbers that look like an id are none.
  """
  kept, odd, ids = [], [], []
  rows = clinical(table, columns)
  for column in columns:
    values = [row[column] for row in rows]
    if all(isinstance(v, float) for v in values):
      (ids if looks_like_id(column, values) else kept).append(column)
      continue
    kinds = {v for v in values if str(v).lower() not in tables.MISSING}
    (kept if 0 < len(kinds) <= MOST_KINDS else odd).append(column)
  notes = [f'covariates, as none are named: {", ".join(kept) or "none"}']
  if ids:
    notes.append(
      f'no covariates, as they look like ids: {", ".join(ids)}; what is '
      'measured after all is named in data.fields.covariates'
    )
  if odd:
    notes.append(
      f'no covariates, as neither numbers nor up to {MOST_KINDS} kinds: '
      f'{", ".join(odd)}'
    )
  return tuple(kept), tuple(notes)


def encoded(table, names):
  """(n, f) float32: the columns by the names that `covariates` gave others.

  A kind that these did not know is NaN in all columns of its kind, as an empty
  cell is. Raises ValueError for a column that is not there, or no number.
  """
  known = {}
  for name in map(composed, names):
    column, _, kind = name.partition('=')
    # A column of numbers may have = in its name, too.
    plain = name in table.columns
    known.setdefault(name if plain else column, []).append(
      None if plain else kind
    )
  found = []
  for column, kinds in known.items():
    table.require(column)
    for_one = [row.cells[column] for row in table.rows]
    if kinds == [None]:
      found.append([_number(table, r, column) for r in table.rows])
      continue
    for kind in kinds:
      found.append(
        [float(v == kind) if v in kinds else math.nan for v in for_one]
      )
  return np.array(found, np.float32).T.reshape(len(table.rows), -1)


def _number(table, row, column):
  value = tables.number(row.cells[column], comma=table.decimal_comma)
  if value is None:
    raise ValueError(
      f'{row.where}: {column} is {row.cells[column]!r}, where the model knows '
      'numbers'
    )
  return value


def columns_of(table, told):
  """The columns that `data.fields.covariates` names: a list, or 'a, b'."""
  names = told.split(',') if isinstance(told, str) else (told or ())
  names = tuple(n.strip() for n in names if n.strip())
  for name in names:
    if name not in table.columns:
      raise ValueError(
        f'data.fields.covariates: {table.path}: no column {name!r}'
        f'{closest(name, table.columns)}'
      )
  return names


def covariates(table, columns):
  """((n, f) float32, names (f), notes): the columns as numbers, NaN missing.

  A column whose cells are not all numbers is one-hot over its values, sorted,
  and NaN in all of them where it is empty.
  """
  found, names, notes = [], [], []
  rows = clinical(table, columns)
  for column in columns:
    values = [row[column] for row in rows]
    if all(isinstance(v, float) for v in values):
      found.append(values)
      names.append(column)
      continue
    missing = [v.lower() in tables.MISSING for v in values]
    kinds = sorted({v for v, m in zip(values, missing, strict=True) if not m})
    if not 0 < len(kinds) <= MOST_KINDS:
      raise ValueError(
        f'{table.path}: covariate {column!r} has {len(kinds)} values that are '
        'no numbers; give numbers, or up to 20 kinds'
      )
    for kind in kinds:
      found.append(
        [math.nan if m else float(v == kind)
         for v, m in zip(values, missing, strict=True)]
      )  # fmt: skip
      names.append(f'{column}={kind}')
    notes.append(f'covariate {column}: one-hot over {", ".join(kinds)}')
  array = np.array(found, np.float32).T.reshape(len(table.rows), -1)
  return array, tuple(names), tuple(notes)
