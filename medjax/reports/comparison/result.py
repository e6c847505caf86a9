"""What a comparison holds."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from medjax.metrics import paired
from medjax.reports.measures import Measures

NAN = float('nan')
MEAN = 'mean'  # of the classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """One line of the table: a score of both runs and their difference.

  n cases are compared; undefined_a and undefined_b have no value in that run
  and are left out of both means. delong is DeLong's interval of an AUROC.
  """

  metric: str
  of: str  # class, or ''
  a: float
  b: float
  difference: float
  interval: tuple[float, float]
  test: str = ''
  p: float = NAN
  adjusted: float = NAN
  n: int
  undefined_a: int = 0
  undefined_b: int = 0
  delong: tuple[float, float] = (NAN, NAN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """What two runs show on the same cases.

  value names what each case is judged by: a and b hold it by case, groups by
  case and class with an interval of the mean difference of each.
  """

  ids: Sequence[str]
  patients: Sequence[str]
  lines: Sequence[Line]
  value: str
  a: np.ndarray  # (n,)
  b: np.ndarray
  groups: Mapping[str, tuple]  # {class: (a (n,), b (n,), interval)}
  measures: Measures
  notes: Sequence[str] = ()

  def moved(self, limit):
    """Indices of the cases whose value changed most, largest first."""
    change = np.abs(self.b - self.a)
    order = np.argsort(-change, kind='stable')
    return [i for i in order if change[i] > 0][:limit]


def adjusted(lines: Sequence[Line]) -> list[Line]:
  """The lines with their p values adjusted together."""
  p = paired.benjamini_hochberg(np.array([line.p for line in lines]))
  return [
    dataclasses.replace(line, adjusted=float(value))
    for line, value in zip(lines, p, strict=True)
  ]
