"""Which series a model is for: 'Modality=MR, SeriesDescription~HCrop'."""

import re
from typing import NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.valuerep import PersonName

from medjax.build import closest

_CONDITION = re.compile(r'\s*(\w+)\s*(!=|<=|>=|[=~<>])\s*(.*?)\s*')
_COMPARE = {
  '<': lambda a, b: a < b,
  '>': lambda a, b: a > b,
  '<=': lambda a, b: a <= b,
  '>=': lambda a, b: a >= b,
}


class Condition(NamedTuple):
  """A keyword of DICOM, an operator and a value."""

  keyword: str
  operator: str
  value: str

  def holds(self, dataset):
    """Whether a data set fulfils it; one that lacks the element does not."""
    value = dataset.get(self.keyword)
    if value is None or value == '':
      return self.operator == '!='
    many = value if hasattr(value, '__iter__') and not _is_text(value) else ()
    values = [str(v).strip() for v in many] or [str(value).strip()]
    if self.operator == '=':
      return any(v.casefold() == self.value.casefold() for v in values)
    if self.operator == '!=':
      return all(v.casefold() != self.value.casefold() for v in values)
    if self.operator == '~':
      return any(re.search(self.value, v, re.IGNORECASE) for v in values)
    try:
      return any(
        _COMPARE[self.operator](float(v), float(self.value)) for v in values
      )
    except ValueError:
      return False


def _is_text(value):
  return isinstance(value, (str, PersonName)) or not hasattr(value, '__len__')


def parse(text):
  """The `Condition`s of a rule, all of which must hold.

  A comma joins; operators are = != ~ (a pattern, found anywhere, case ignored)
  and < > <= >= of numbers. Raises ValueError for what is none.
  """
  found = []
  for part in filter(str.strip, text.split(',')):
    match = _CONDITION.fullmatch(part)
    if match is None:
      raise ValueError(
        f'{part.strip()!r} is no condition: write Keyword=value, Keyword~part '
        'or Keyword<number'
      )
    one = Condition(*match.groups())
    if tag_for_keyword(one.keyword) is None:
      known = (
        'Modality', 'SeriesDescription', 'BodyPartExamined',
        'StudyDescription', 'SliceThickness', 'ProtocolName',
      )  # fmt: skip
      raise ValueError(
        f'{one.keyword!r} is no keyword of DICOM{closest(one.keyword, known)}'
      )
    _check_value(one)
    found.append(one)
  return tuple(found)


def _check_value(condition):
  try:
    if condition.operator == '~':
      re.compile(condition.value)
    elif condition.operator in _COMPARE:
      float(condition.value)
  except (re.error, ValueError) as e:
    raise ValueError(
      f'{condition.value!r} of {condition.keyword} is no value for '
      f'{condition.operator}: {e}'
    ) from None


def matches(text, dataset):
  """Whether a data set fulfils a rule."""
  return all(c.holds(dataset) for c in parse(text))
