"""The subgroups of a case: sex, age, site, scanner, or a column of few values.

What is kept is the group, never the value: an age becomes ten years. What
nobody knows is the group 'unknown'.
"""

import math
import pathlib
import re

from medjax.data.formats import is_dicom
from medjax.data.formats.dicom import patient

UNKNOWN = 'unknown'
MOST = 40  # values of a column that groups cases
_OLDEST = 90  # above which years would tell who it is
_AGE = re.compile(r'^\s*(\d{1,3}(?:\.\d+)?)\s*([YMWD]?)\s*$', re.I)
_YEARS = {'': 1, 'Y': 1, 'M': 1 / 12, 'W': 7 / 365.25, 'D': 1 / 365.25}
_SEXES = {
  'm': 'male', 'male': 'male', 'man': 'male', 'f': 'female',
  'female': 'female', 'woman': 'female', 'o': 'other', 'other': 'other',
}  # fmt: skip
_EMPTY = ('', 'nan', 'none', 'na', 'n/a', 'null', '?', 'unknown', 'unk')


def groups_of(cases, names):
  """[{attribute: group}] of the cases of a split, in order, read one by one.

  An attribute is a column that cases keep, or of DICOM files what the header
  says of 'sex', 'age', 'site' and 'scanner'. Raises ValueError for one that no
  case has, and for one of more than 40 values.
  """
  found = []
  entries = getattr(cases, 'entries', None)
  for i in range(len(cases)):
    if entries is None:
      case, path = cases[i], None
    else:
      case, images = entries[i].extra, entries[i].images
      path = images[0] if images else None
    found.append(group_of({**_covariates(cases, case), **case}, names, path))
  for name in names:
    check(name, {groups[name] for groups in found})
  return found


def _covariates(cases, case):
  """{column: value} of the columns that are the case's covariates.

  A column of words, whose covariates are called sex=f and sex=m, has the word.
  """
  values = case.get('covariates')
  columns = getattr(cases, 'covariate_names', ())
  if values is None or not columns:
    return {}
  known = dict(zip(columns, map(float, values), strict=True))
  words = [name.partition('=') for name, value in known.items() if value == 1]
  return {column: word for column, equals, word in words if equals} | known


def check(name, values):
  """Raises ValueError for an attribute that no case has, or of many values."""
  if not values - {UNKNOWN}:
    raise ValueError(
      f'data.subgroups: no case says {name!r}: it must be a column of the '
      'table, a field of the set, or of DICOM sex, age, site or scanner'
    )
  if len(values) > MOST:
    raise ValueError(
      f'data.subgroups: {name!r} has {len(values)} values; a group needs many '
      f'cases: make a column of {MOST} values or fewer'
    )


def group_of(case, names, path=None):
  """{attribute: group} of one case; `path` is that of its DICOM, if any."""
  header = {}
  missing = [name for name in names if name not in case]
  if missing and path is not None and is_dicom(pathlib.Path(path)):
    header = patient.about(path)
  return {
    name: _group(name, case.get(name, header.get(name))) for name in names
  }


def _group(name, value):
  text = '' if value is None else str(value).strip()
  if text.lower() in _EMPTY:
    return UNKNOWN
  if name.lower() == 'sex':
    return _SEXES.get(text.lower(), UNKNOWN)
  if name.lower() == 'age':
    return _decade(text)
  if isinstance(value, float) and value.is_integer():
    return str(int(value))
  return text


def _decade(text):
  """'045Y' → '40–49'; '3W' → '0–9'; what is no age → 'unknown'."""
  found = _AGE.match(text)
  if not found:
    return UNKNOWN
  years = float(found[1]) * _YEARS[found[2].upper()]
  if not math.isfinite(years) or years > 120:
    return UNKNOWN
  if years >= _OLDEST:
    return f'{_OLDEST}+'
  low = int(years // 10) * 10
  return f'{low}–{low + 9}'
