"""The form of a JSON value, stated once and checked where it is read."""

import math
from collections.abc import Callable, Mapping

ANY = '*'  # the key of a form for all keys that it does not name
Form = Mapping | list | Callable | type


def conform(value, form: Form, where: str):
  """The value without its empty parts; ValueError where it has another form.

  A form is a dict {key: form}, in which ANY stands for all other keys and what
  is not named is free; [form], a list of such; a type; or a function (value,
  where) that raises. null is nothing, anywhere: of a dict it is left out.
  `where` names the file and the place in it.
  """
  if value is None or form is object:
    return value
  if isinstance(form, dict):
    if not isinstance(value, dict):
      raise ValueError(f'{where} is not an object')
    forms = {key: form.get(key, form.get(ANY, object)) for key in value}
    parts = {k: conform(v, forms[k], f'{where}: {k}') for k, v in value.items()}
    return {
      k: v
      for k, v in parts.items()
      if v is not None or not isinstance(forms[k], dict | list)
    }
  if isinstance(form, list):
    if not isinstance(value, list):
      raise ValueError(f'{where} is not a list')
    return [conform(part, form[0], where) for part in value]
  if isinstance(form, type):
    if not isinstance(value, form):
      raise ValueError(f'{where} holds {value!r:.40}, not {form.__name__}')
    return value
  form(value, where)
  return value


def number(value, where):
  """The form of a finite number."""
  real = isinstance(value, int | float) and not isinstance(value, bool)
  if not real or not math.isfinite(value):
    raise ValueError(f'{where} holds {value!r:.40}, not a number')


def interval(value, where):
  """The form of two numbers, or nulls: from, to."""
  if not isinstance(value, list) or len(value) != 2:
    raise ValueError(f'{where} is not an interval of two numbers')
  conform(value, [number], where)


def curve(value, where):
  """The form of lists of numbers of one length, by name."""
  value = conform(value, {ANY: [number]}, where)
  if len({len(points) for points in value.values()}) > 1:
    raise ValueError(f'{where} has lists of different lengths')


def counts(value, where):
  """The form of a confusion matrix (K, K), or of one (2, 2) for each label."""
  nested = isinstance(value, list) and bool(value)
  for matrix in value if nested and _depth(value) == 3 else [value]:
    rows = matrix if isinstance(matrix, list) else []
    if not rows or any(not _is_row(row, len(rows)) for row in rows):
      raise ValueError(f'{where} is not a square matrix of numbers')
    for row in rows:
      conform(row, [number], where)


def _is_row(row, length):
  return isinstance(row, list) and len(row) == length and None not in row


def _depth(value):
  return 1 + _depth(value[0]) if isinstance(value, list) and value else 0
