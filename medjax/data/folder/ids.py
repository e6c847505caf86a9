"""Columns of numbers that are nobody's measure: a record's number, a row's."""

import math
import re

_STRONG = frozenset(('id', 'ids', 'mrn', 'pid', 'uid', 'guid'))
# Which mean an id where nothing else is in the name: 'case_number', but not
# 'platelet_number'.
_WEAK = frozenset(
  ('accession', 'case', 'exam', 'file', 'index', 'key', 'no', 'nr', 'num',
   'number', 'participant', 'patient', 'record', 'row', 'sample', 'study',
   'subject')
)  # fmt: skip
_RUN = 30  # rows; no thirty patients are 41, 42, 43 … years old, each once
_WORD = re.compile('[A-Z]+(?![a-z])|[A-Z]?[a-z]+')


def looks_like_id(name, values):
  """Whether numbers count patients: whole, all different, and one of two.

  The column is called as ids are (`PatientID`, `MRN`, `case_no`), or without
  any gap it runs from its least number to its largest. `values` may hold NaN.
  """
  known = [v for v in values if math.isfinite(v)]
  if not known or len(set(known)) < len(known):
    return False
  if any(v < 0 or v != math.floor(v) for v in known):
    return False
  words = {word.lower() for word in _WORD.findall(name)}
  if words & _STRONG or (words and words <= _WEAK):
    return True
  return len(known) >= _RUN and max(known) - min(known) == len(known) - 1
