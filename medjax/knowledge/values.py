"""Values that rules read: numbers with a unit, words, yes or no, or unknown."""

import dataclasses
import math
from collections.abc import Sequence

from medjax.build import closest

# What one of a unit is in the first of its kind.
_UNITS = {
  'mm': ('mm', 1.0), 'cm': ('mm', 10.0), 'um': ('mm', 1e-3),
  'mm2': ('mm2', 1.0), 'cm2': ('mm2', 100.0),
  'mm3': ('mm3', 1.0), 'ml': ('mm3', 1e3), 'cm3': ('mm3', 1e3),
  'years': ('years', 1.0), 'months': ('months', 1.0), 'HU': ('HU', 1.0),
  'share': ('share', 1.0), '%': ('share', 0.01), '1': ('1', 1.0),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Field:
  """A field that a rule reads.

  about: what it is. unit: of a number, '' of a word or of yes and no. low,
  high: between which a number is possible. choices: the words; none with unit
  '' is yes or no. digits: of the unit to which a number is rounded, half up,
  before it is compared; None leaves it as it is.
  """

  name: str
  about: str
  unit: str = ''
  low: float = 0.0
  high: float = math.inf
  choices: Sequence[str] = ()
  digits: int | None = None

  def read(self, value):
    """The value as rules compare it, None for unknown.

    Numbers come as {"value": 7, "unit": "mm"}. Raises ValueError for a number
    without a unit, an impossible one, or an unknown word.
    """
    if value is None:
      return None
    if self.unit:
      return self._number(value)
    if self.choices:
      if value not in self.choices:
        raise ValueError(
          f'{self.name} is {value!r}{closest(str(value), self.choices)}; it is '
          f'one of {", ".join(map(repr, self.choices))}'
        )
      return value
    if not isinstance(value, bool):
      raise ValueError(f'{self.name} is {value!r}; it is true or false')
    return value

  def _number(self, value):
    if not isinstance(value, dict) or not {'value', 'unit'} <= set(value):
      raise ValueError(
        f'{self.name} is {value!r}, without a unit: write {{"value": 7, '
        f'"unit": "{self.unit}"}}'
      )
    number, unit = value['value'], value['unit']
    kind, scale = _UNITS.get(str(unit), ('', 0.0))
    if kind != _UNITS[self.unit][0]:
      raise ValueError(f'{self.name} is in {unit!r}; it is in {self.unit}')
    if isinstance(number, bool) or not isinstance(number, int | float):
      raise ValueError(f'{self.name} is {number!r}, no number')
    number *= scale / _UNITS[self.unit][1]
    if not self.low <= number <= self.high:  # NaN, too
      raise ValueError(
        f'{self.name} is {number:g} {self.unit}; possible are {self.low:g} to '
        f'{self.high:g}'
      )
    if self.digits is None:
      return number
    step = 10.0**self.digits
    return math.floor(round(number * step, 9) + 0.5) / step
