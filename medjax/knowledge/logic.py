"""Conditions that are true, false, or unknown: True, False, None (Kleene)."""

from collections.abc import Mapping, Sequence


def all_of(values):
  """False if any is, else None if any is, else True."""
  values = list(values)
  if False in values:
    return False
  return None if None in values else True


def any_of(values):
  """True if any is, else None if any is, else False."""
  values = list(values)
  if True in values:
    return True
  return None if None in values else False


def holds(condition: Mapping, values: Mapping):
  """Whether a condition holds of values; None where that is not known.

  {field = 'size', below = 6}; also at_most, above, at_least, is, in; or {any =
  [conditions]}. Several comparisons in one must all hold.
  """
  if 'any' in condition:
    return any_of(together(branch, values) for branch in condition['any'])
  value = values[condition['field']]
  if value is None:
    return None
  return all(_COMPARE[name](value, limit) for name, limit in
             condition.items() if name != 'field')  # fmt: skip


def together(conditions: Sequence[Mapping] | Mapping, values: Mapping):
  """Whether all of several conditions hold; one may come alone."""
  several = [conditions] if isinstance(conditions, Mapping) else conditions
  return all_of(holds(c, values) for c in several)


def missing(conditions, values):
  """Names of the fields of conditions that are unknown, in order."""
  found = []
  several = [conditions] if isinstance(conditions, Mapping) else conditions
  for c in several:
    for branch in c.get('any', ()):
      found += missing(branch, values)
    if 'field' in c and values[c['field']] is None:
      found.append(c['field'])
  return list(dict.fromkeys(found))


_COMPARE = {
  'below': lambda a, b: a < b,
  'at_most': lambda a, b: a <= b,
  'above': lambda a, b: a > b,
  'at_least': lambda a, b: a >= b,
  'is': lambda a, b: a == b,
  'in': lambda a, b: a in b,
}
COMPARISONS = frozenset(_COMPARE)
