"""The verdicts of RECIST and RANO."""

import pytest

from medjax.metrics.diameters import Diameters
from medjax.surgery import response


def lesion(longest, across=None):
  return Diameters(longest, longest if across is None else across, 0, 2)


@pytest.mark.parametrize(
  ('before', 'after', 'recist', 'rano'),
  [
    ([50, 30], [35, 20], 'partial response', 'partial response'),
    ([50, 30], [40, 30], 'stable disease', 'stable disease'),
    ([50, 30], [55, 42], 'progressive disease', 'progressive disease'),
    # 20 % but less than 5 mm: RECIST wants both.
    ([20], [24], 'stable disease', 'progressive disease'),
    ([50], [], 'complete response', 'complete response'),
    ([8], [16], None, None),  # not measurable before
  ],
)
def test_verdicts(before, after, recist, rano):
  named = lambda sizes: {f'lesion_{i}': lesion(s) for i, s in enumerate(sizes)}
  found = response.change(named(before), named(after))
  assert found['recist'] == recist
  assert found['rano'] == rano


@pytest.mark.parametrize('first', [0, 20])
def test_growth_outside_of_the_sum_is_for_a_reader(first):
  before = {'a': lesion(20), 'b': lesion(9)}
  after = {'b': lesion(45)} | ({'a': lesion(first)} if first else {})
  found = response.change(before, after)
  assert found['recist'] is found['rano'] is None
  assert found['grown'] == ['b']
  small = response.change(before, {**after, 'b': lesion(12)})  # 3 mm more
  assert small['recist'] == ('stable disease' if first else 'partial response')
  # Where the sum decides, it does.
  found = response.change(before, {'a': lesion(30), 'b': lesion(45)})
  assert found['recist'] == 'progressive disease'


def test_a_new_lesion_is_progress_and_a_flat_one_is_not_for_rano():
  found = response.change({'a': lesion(50)}, {'a': lesion(20), 'b': lesion(5)})
  assert found['recist'] == found['rano'] == 'progressive disease'
  assert found['new_lesions'] == 1
  found = response.change({'a': lesion(50, 6)}, {'a': lesion(20, 6)})
  assert found['recist'] == 'partial response'
  assert found['rano'] is None
  assert found['sum_change'] == pytest.approx(-0.6)
