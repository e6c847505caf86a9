"""Logistic formulas as data: a probability, or the range that is left of it."""

import math


def probabilities(formula, fields, values):
  """(lowest, highest) probability of a formula of a set of rules.

  formula: {'intercept', 'terms'}; a term is `times` its field, of a number
  after (x / over)^power, of a word whether it `is` that one. fields: {name:
  `Field`}. values: {name: value or None}; of an unknown one all that the field
  allows is possible.
  """
  low = high = formula['intercept']
  for name in dict.fromkeys(t['field'] for t in formula['terms']):
    terms = [t for t in formula['terms'] if t['field'] == name]
    found = [
      sum(_term(t, value) for t in terms)
      for value in _possible(fields[name], values[name])
    ]
    low, high = low + min(found), high + max(found)
  return tuple(1 / (1 + math.exp(-logit)) for logit in (low, high))


def _possible(field, value):
  """Values at one of which a term is least, and at one greatest."""
  if value is not None:
    return (value,)
  if field.unit:
    return field.low, field.high  # a term only grows, or only falls
  return field.choices or (False, True)


def _term(term, value):
  if 'is' in term:
    return term['times'] * (value == term['is'])
  x = float(value) / term.get('over', 1)
  return term['times'] * x ** term.get('power', 1)
