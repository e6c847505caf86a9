"""Numbers and names as the text of pages, tables and figures."""

import math


def is_defined(value):
  """Whether a value of metrics.json is a number: not null, not NaN."""
  return value is not None and not math.isnan(value)


def number(value):
  """A number as text: '0.912', '12.3', '1,024', '4e−06', '–' when undefined."""
  if isinstance(value, str):
    return value
  if not is_defined(value):
    return '–'
  if isinstance(value, int):
    return f'{value:,}'
  text = f'{value:.3f}' if abs(value) < 10 else f'{value:.1f}'
  if 0 < abs(value) < 0.0005:  # a distance under a microscope is not zero
    text = f'{value:.1g}'
  return text.replace('-', '−')


def interval(bounds):
  """[lo, hi] as text, '' when undefined."""
  if not bounds or not all(is_defined(b) for b in bounds):
    return ''
  return f'{number(bounds[0])} to {number(bounds[1])}'


def duration(seconds):
  """Seconds as '1:01:11 h:min:s'."""
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes // 60:,}:{minutes % 60:02d}:{rest:02d} h:min:s'


def shorten(text, length):
  """At most `length` characters, the middle left out."""
  text = str(text)
  half = (length - 1) // 2
  return text if len(text) <= length else f'{text[:half]}…{text[-half:]}'
