"""Dates, times and ages: shifted by whole days, or a dummy.

A shift by whole days keeps every time of day, so that what is computed from two
times of a patient (a decay, an interval) stays the same.
"""

import datetime
import re

DUMMIES = {'DA': '19000101', 'DT': '19000101000000', 'TM': '000000'}
_DATE = re.compile(r'(\d{4})[.\-/]?(\d\d)[.\-/]?(\d\d)')
_DATETIME = re.compile(
  r'(\d{8})((?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-6]\d(?:\.\d{1,6})?)?)?)?'
  r'([+\-](?:0\d|1[0-4])[0-5]\d)?'
)
_TIME = re.compile(r'([01]\d|2[0-3])(?::?[0-5]\d(?::?[0-6]\d(?:\.\d{1,6})?)?)?')


def shifted(value, vr, days):
  """One DA, DT or TM, so many days later; '' where it is none.

  A date that is not whole (a year alone) cannot be shifted and is ''.
  """
  value = value.strip(' \0')
  if vr == 'TM':
    return value if _TIME.fullmatch(value) else ''
  if vr == 'DA':
    match = _DATE.fullmatch(value)
    return _moved(''.join(match.groups()), days) if match else ''
  match = _DATETIME.fullmatch(value)
  if not match:
    return ''
  date, time, zone = match.groups(default='')
  date = _moved(date, days)
  return date and date + time + zone


def _moved(date, days):
  try:
    moved = datetime.datetime.strptime(date, '%Y%m%d')
    moved += datetime.timedelta(days)
  except (ValueError, OverflowError):
    return ''
  return f'{moved.year:04}{moved.month:02}{moved.day:02}'


def age(value):
  """An AS of at most 90 years; '' for what is none."""
  value = value.strip(' \0')
  if not re.fullmatch(r'\d{3}[DWMY]', value):
    return ''
  years = int(value[:3]) / {'D': 365.25, 'W': 52.18, 'M': 12, 'Y': 1}[value[3]]
  return '090Y' if years > 89 else value
