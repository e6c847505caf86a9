"""Landmarks: what is known of a patient at some times after the first visit.

A table of visits has a row for each visit, with `patient`, the time of the
visit, and the same `time` and `event` in all rows of a patient. At a landmark s
a patient who is still followed and without event is a case of its own: its
columns are those of the last visit up to s that has them, and its time runs
from s (van Houwelingen 2007: the landmark super model). Rows of visits after s
are not read for it.

The case of patient P at s is called 'P@s', and all cases of a patient are in
one split.
"""

import dataclasses
import math

from medjax.data.folder import tables
from medjax.data.folder.tables import MISSING, Row

COLUMN = 'landmark'
# Columns that the visits give beside their own.
_SINCE, _COUNT = 'since_visit', 'visits'
_MADE = (COLUMN, _SINCE, _COUNT)
_KEPT = ('split', 'label')  # of the last visit, as they stand


def without_visit(fields):
  """The fields of the stacked table, which has no visits."""
  return {k: v for k, v in fields.items() if k not in ('visit', 'id')} | {
    'id': 'id'
  }


def stacked(table, landmarks, fields, *, unread=False):
  """The `Table` of the cases that a table of visits gives at the landmarks.

  It has the columns of the visits, and `landmark`; `since_visit`, the time
  since the last visit; `visits`, how many there were; for each column whose
  cells are numbers, COLUMN_change: last minus first value. Without a column
  of time, or where it is `unread` (for prediction), a patient is a case at each
  landmark up to the last visit, and at that itself where it is not after all
  landmarks.

  Raises ValueError for what is no table of visits.
  """
  landmarks = sorted({_time(s, 'data.landmark') for s in landmarks})
  if unread:
    columns = tuple(c for c in table.columns if c not in ('time', 'event'))
    table = dataclasses.replace(table, columns=columns)
  names = _columns(table, fields)
  patients = {}
  for row in table.rows:
    patients.setdefault(row.cells[names['patient']], []).append(row)
  for key, rows in patients.items():
    if not key:
      raise ValueError(f'{rows[0].where}: has no patient')
    patients[key] = sorted(rows, key=lambda r: _cell(table, r, names['visit']))
  fixed = {v for v in names.values() if v}
  own = [c for c in table.columns if c not in fixed and c != 'id']
  numeric = [c for c in own if _is_numeric(table, c)]
  found = []
  for key, rows in patients.items():
    for s in _of_patient(table, rows, names, landmarks):
      cells = _at(table, rows, names, own, numeric, s)
      if cells is not None:
        cells |= {'id': f'{key}@{s:g}', names['patient']: key}
        found.append(Row(cells, rows[0].where))
  if not found:
    raise ValueError(
      f'{table.path}: no patient is still followed at a landmark of '
      f'{", ".join(f"{s:g}" for s in landmarks)}: are they in the unit of the '
      'times?'
    )
  return dataclasses.replace(
    table, columns=tuple(found[0].cells), rows=tuple(found)
  )


def _columns(table, fields):
  """{'patient', 'visit', 'time', 'event', …: column or ''}."""
  names = {}
  for field in ('patient', 'visit', 'time', 'event', *_KEPT):
    told = fields.get(field) or field
    names[field] = told if told in table.columns else ''
    if fields.get(field):
      table.require(told)
  for field in ('patient', 'visit'):
    if not names[field]:
      raise ValueError(
        f'{table.path}: data.landmark needs the column of the {field}: say '
        f'data.fields.{field}'
      )
  if bool(names['time']) != bool(names['event']):
    there, lacks = ('time', 'event') if names['time'] else ('event', 'time')
    raise ValueError(
      f'{table.path}: column {names[there]!r} without one of the {lacks}: say '
      f'data.fields.{lacks}, or rename it if it is no {there} of an outcome'
    )
  taken = next((c for c in _MADE if c in table.columns), None)
  if taken:
    raise ValueError(f'{table.path}: column {taken!r} is made of the visits')
  return names


def _of_patient(table, rows, names, landmarks):
  """The landmarks at which a patient is a case."""
  if not names['time']:
    last = _cell(table, rows[-1], names['visit'])
    reached = {s for s in landmarks if s <= last}
    # Beyond the last landmark nothing was learnt.
    return sorted(reached | {last} if last <= max(landmarks) else reached)
  for name in (names['time'], names['event']):
    odd = next((r for r in rows if r.cells[name] != rows[0].cells[name]), None)
    if odd is not None:
      raise ValueError(
        f'{odd.where}: {name} differs from that of another visit of the patient'
      )
  end = _cell(table, rows[0], names['time'])
  return [s for s in landmarks if s < end]


def _at(table, rows, names, own, numeric, s):
  """The cells of a patient at s; None before the first visit."""
  past = [r for r in rows if _cell(table, r, names['visit']) <= s]
  if not past:
    return None
  cells = {}
  for name in own:
    known = [r.cells[name] for r in past]
    known = [v for v in known if v.lower() not in MISSING]
    cells[name] = known[-1] if known else ''
    if name in numeric:
      ends = [tables.number(v, comma=table.decimal_comma) for v in known]
      change = ends[-1] - ends[0] if ends else math.nan
      cells[f'{name}_change'] = '' if math.isnan(change) else f'{change:.9g}'
  last = _cell(table, past[-1], names['visit'])
  cells |= {COLUMN: f'{s:g}', _SINCE: f'{s - last:.9g}', _COUNT: f'{len(past)}'}
  for field in _KEPT:
    if name := names[field]:
      cells[name] = past[-1].cells[name]
  if names['time']:
    end = _cell(table, rows[0], names['time'])
    cells[names['time']] = f'{end - s:.9g}'
    cells[names['event']] = rows[0].cells[names['event']]
  return cells


def _is_numeric(table, column):
  values = [
    tables.number(r.cells[column], comma=table.decimal_comma)
    for r in table.rows
  ]
  return None not in values and not all(map(math.isnan, values))


def _cell(table, row, column):
  value = tables.number(row.cells[column], comma=table.decimal_comma)
  if value is None or math.isnan(value):
    raise ValueError(
      f'{row.where}: {column} is {row.cells[column]!r}, not a number'
    )
  return value


def _time(value, where):
  try:
    value = float(value)
  except (TypeError, ValueError):
    value = math.nan
  if not (math.isfinite(value) and value >= 0):
    raise ValueError(f'{where}: {value} is not a time from 0')
  return value
