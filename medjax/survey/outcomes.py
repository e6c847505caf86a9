"""A table of patients without images: its columns, and what is odd in them."""

import dataclasses
import itertools
import math
import pathlib
import re

import numpy as np

from medjax.data import telling
from medjax.data.folder import tables
from medjax.data.folder.cells import MOST_KINDS
from medjax.data.folder.ids import looks_like_id
from medjax.metrics import concordance
from medjax.survey.finding import Finding, count

_IMAGES = ('path', 'image', 'mask')
_KEYS = ('id', 'patient', 'split')
_TIME = re.compile(
  r'(^|_)(time|days?|months?|years?|os|rfs|dfs|pfs|efs|mfs|css|dss)(_|$)', re.I
)
_EVENT = re.compile(r'(^|_)(event|status|censor(ed)?|died|death|dead)$', re.I)
_DEATH = re.compile(r'(^|_)os(_|$)', re.I)
_EARLIER = re.compile(r'(^|_)(rfs|dfs|pfs|efs|mfs)(_|$)', re.I)
_MIXED = 300  # of two times of a case, one this much larger: other units
_TELLS = 0.95  # the C of a column alone, from which on it is no finding
_FEW = 10  # events
_CLASSES = 20
_KINDS = 20  # of a column, which are listed
_MOST = 1000  # rows of which pairs are compared


@dataclasses.dataclass(frozen=True)
class Column:
  """A column: what it holds, values missing, and a few words on the rest."""

  name: str
  kind: str
  missing: int
  about: str


def is_bare(path):
  """Whether a path is a table that names no images."""
  path = pathlib.Path(path).expanduser()
  if path.suffix.lower() not in tables.SUFFIXES or not path.is_file():
    return False
  columns = {c.lower() for c in tables.read(path).columns}
  return not columns & {*_IMAGES}


def read(path, fields=None):
  """(columns, findings, number of rows) of a table.

  fields: {'time': column, 'event': column} where they are called otherwise.
  """
  table = tables.read(pathlib.Path(path).expanduser())
  names = ('time', 'event', 'patient', 'id')
  told = {k: (fields or {}).get(k) or k for k in names}
  for name in set((fields or {}).values()) - {''}:
    table.require(name)
  numbers = {c: _numbers(table, c) for c in table.columns}
  columns = [_column(table, c, numbers[c], told) for c in table.columns]
  return columns, _findings(table, numbers, told), len(table.rows)


def _numbers(table, column):
  """(n,) with NaN for what is missing; None for a column of text."""
  cells = [
    tables.number(r.cells[column], comma=table.decimal_comma)
    for r in table.rows
  ]
  return None if None in cells else np.array(cells)


def _column(table, name, values, told):
  cells = [r.cells[name] for r in table.rows]
  missing = sum(c.lower() in tables.MISSING for c in cells)
  kinds = {c for c in cells if c.lower() not in tables.MISSING}
  key = name.lower() in _KEYS or name in (told['patient'], told['id'])
  if key or (values is None and _may_name(table, name, kinds, told)):
    return Column(name, 'text', missing, count(len(kinds), 'value'))
  if values is None:
    return Column(name, 'kinds', missing, ', '.join(sorted(kinds)))
  known = values[~np.isnan(values)]
  if not known.size:
    return Column(name, 'empty', missing, '')
  low, middle, high = np.quantile(known, (0, 0.5, 1))
  about = f'{low:.4g} to {high:.4g}, median {middle:.4g}'
  if len(kinds) <= 3:
    about = ', '.join(
      f'{k}: {sum(c == k for c in cells)}' for k in sorted(kinds)
    )
  return Column(name, 'numbers', missing, about)


def _may_name(table, name, kinds, told):
  """Whether words may name patients: most have a value of their own."""
  rows = [r for r in table.rows if r.cells[name] in kinds]
  patient = told['patient']
  if patient in table.columns:
    rows = {r.cells[patient] for r in rows}
  return len(kinds) > _KINDS or 2 * len(kinds) > len(rows)


def _findings(table, numbers, told):
  times = [
    c
    for c, v in numbers.items()
    if v is not None
    and (c == told['time'] or (_TIME.search(c) and not _EVENT.search(c)))
    and not _varies(table, c, told['patient'])
  ]
  events = [c for c in numbers if c == told['event'] or _EVENT.search(c)]
  found = [
    *_bad_times(table, numbers, times),
    *_bad_events(table, numbers, events),
    *_pairs(table, numbers, times),
    *_visits(table, told['patient']),
    *_no_covariates(table, numbers, {*times, *events, *told.values()}),
  ]
  if told['time'] in times and numbers.get(told['event']) is not None:
    found += _telling(numbers, told, {*times, *events})
  if 'label' in numbers:
    found += _telling_label(table, numbers)
  order = ('error', 'warning', 'note')
  return sorted(found, key=lambda f: order.index(f.level))


def _varies(table, column, patient):
  """Whether a column differs between the rows of a patient: a visit's time."""
  if patient not in table.columns:
    return False
  seen = {}
  return any(
    seen.setdefault(r.cells[patient], r.cells[column]) != r.cells[column]
    for r in table.rows
  )


def _lines(table, wrong):
  """'line 7' of each row that is wrong: the table's place, not the patient."""
  return tuple(
    table.rows[i].where.rpartition(', ')[2] for i in np.flatnonzero(wrong)
  )


def _bad_times(table, numbers, times):
  for name in times:
    values = numbers[name]
    wrong = values <= 0
    if wrong.any():
      yield Finding(
        'error',
        f'{name}: {count(int(wrong.sum()), "row")} with a time that is not '
        'above 0, which training refuses: give it in a finer unit, or leave '
        'the row out',
        _lines(table, wrong),
      )
    if np.isnan(values).any():
      yield Finding(
        'warning',
        f'{name}: missing in {count(int(np.isnan(values).sum()), "row")}',
        _lines(table, np.isnan(values)),
      )


def _bad_events(table, numbers, events):
  for name in events:
    values = numbers[name]
    if values is None:
      yield Finding(
        'note',
        f'{name} is text: training needs 0 for censored, 1 for the event, 2, 3 '
        '… for others that compete with it',
      )
      continue
    known = ~np.isnan(values)
    wrong = known & ((values != np.rint(values)) | (values < 0))
    if wrong.any():
      yield Finding(
        'error', f'{name} is no whole number from 0', _lines(table, wrong)
      )
    seen = int((values[known] > 0).sum())
    if not seen:
      yield Finding(
        'error', f'{name}: all are censored, so there is nothing to learn'
      )
    elif seen < _FEW:
      yield Finding(
        'warning',
        f'{name}: {count(seen, "event")}; no score of so few says much',
      )
    if not known.all():
      yield Finding(
        'warning',
        f'{name}: missing in {count(int((~known).sum()), "row")}',
        _lines(table, ~known),
      )


def _pairs(table, numbers, times):
  for a, b in itertools.permutations(times, 2):
    x, y = numbers[a], numbers[b]
    if _DEATH.search(a) and _EARLIER.search(b):
      wrong = x < y
      if wrong.any():
        yield Finding(
          'warning',
          f'{a} is below {b} in {count(int(wrong.sum()), "row")}: nobody is '
          'followed for recurrence after death; look at them',
          _lines(table, wrong),
        )
    with np.errstate(divide='ignore', invalid='ignore'):
      wrong = (x > 0) & (y > 0) & (x / y > _MIXED)
    if wrong.any():
      yield Finding(
        'warning',
        f'{a} is more than {_MIXED} times {b} in '
        f'{count(int(wrong.sum()), "row")}: are they in one unit?',
        _lines(table, wrong),
      )


def _visits(table, patient):
  if patient not in table.columns:
    return
  names = [r.cells[patient] for r in table.rows]
  if len(set(names)) < len(names):
    yield Finding(
      'note',
      f'{len(names)} rows of {count(len(set(names)), "patient")}: visits? '
      'data.landmark makes cases of them; otherwise each row needs an id',
    )


def _no_covariates(table, numbers, used):
  """Columns that training leaves out where no covariates are named."""
  for name, values in numbers.items():
    if name in used or name.lower() in (*_KEYS, 'label'):
      continue
    if values is not None and looks_like_id(name, values.tolist()):
      yield Finding(
        'note',
        f'{name} looks like an id, and is no covariate then: if it is the '
        f"patient's, say data.fields.patient='{name}'",
      )
    kinds = {r.cells[name] for r in table.rows}
    kinds = {k for k in kinds if k.lower() not in tables.MISSING}
    if values is None and len(kinds) > MOST_KINDS:
      yield Finding(
        'note',
        f'{name} has {len(kinds)} values that are no numbers, more than '
        f'{MOST_KINDS}: it is no covariate then',
      )


def _telling_label(table, numbers):
  """Columns that give the label away."""
  labels = [row.cells['label'] for row in table.rows]
  if len(set(labels)) > _CLASSES:
    return
  names = [
    c
    for c, v in numbers.items()
    if v is not None and c not in ('label', *_KEYS)
  ]
  values = np.array([numbers[c] for c in names]).reshape(len(names), -1).T
  for name, area in telling.columns(values, labels, names):
    yield Finding(
      'warning',
      f'{name} alone has an area under the ROC of {area:.3f}: it may be the '
      'label in another form; leave it out of data.fields.covariates',
    )


def _telling(numbers, told, outcomes):
  """Columns that give the outcome away."""
  time, event = numbers[told['time']], numbers[told['event']]
  fine = (time > 0) & (event >= 0) & (event == np.rint(event))
  if not (event[fine] > 0).any():
    return
  for name, values in numbers.items():
    if values is None or name in outcomes or name == told['patient']:
      continue
    kept = np.flatnonzero(fine & ~np.isnan(values))
    kept = kept[:: -(-len(kept) // _MOST) or 1]
    if not (event[kept] > 0).any() or len(np.unique(values[kept])) < 2:
      continue
    c = concordance.harrell(
      time[kept], (event[kept] > 0).astype(int), values[kept]
    ).value
    if not math.isnan(c) and max(c, 1 - c) > _TELLS:
      yield Finding(
        'warning',
        f'{name} alone has a C of {max(c, 1 - c):.3f}: it may be the outcome '
        'in another form; leave it out of data.fields.covariates',
      )
