"""Two runs on the same cases, compared case by case.

All differences are B - A. Intervals come from a bootstrap over patients; tests
are Wilcoxon's signed-rank test of the patients' mean differences, DeLong's of
AUROCs and McNemar's of right decisions (none of survival), and their p values
are adjusted together for the whole table (Benjamini & Hochberg).
"""

from collections.abc import Mapping, Sequence

from medjax.reports.comparison.decided import compare_probabilities
from medjax.reports.comparison.measured import compare_values
from medjax.reports.comparison.result import Comparison, Line
from medjax.reports.comparison.survived import compare_survival
from medjax.reports.comparison.written import text, write
from medjax.reports.measures import UNNAMED, Measures

__all__ = ['Comparison', 'Line', 'compare', 'text', 'write']


def compare(
  a: Mapping,
  b: Mapping,
  ids: Sequence[str],
  *,
  measures: Measures = UNNAMED,
  names: Sequence[str] = ('A', 'B'),
) -> Comparison:
  """Compares the rows of two runs (medjax.run.per_case.read) on these cases.

  measures: what their columns are called and which way is better. names: the
  files of which an error speaks.
  """
  rows = [a[i] for i in ids], [b[i] for i in ids]
  patients = [
    own.get('patient') or other.get('patient') or own['id']
    for own, other in zip(*rows, strict=True)
  ]
  by_case = any(k and k.startswith('probability/') for k in rows[0][0])
  function = compare_probabilities if by_case else compare_values
  if any(k and k.startswith('survival/') for k in rows[0][0]):
    function = compare_survival
  return function(*rows, patients, measures=measures, names=names)
