"""A view of some cases says what the split says, of those only."""

import pytest

from medjax.data.part import Part


class Split(list):
  class_names = ('a', 'b')


def test_a_part_says_what_its_split_says():
  cases = Split({'id': i} for i in range(6))
  cases.entries = [*'uvwxyz']
  part = Part(cases, [3, 5])
  assert [case['id'] for case in part] == [3, 5]
  assert [case['id'] for case in part[::-1]] == [5, 3]
  assert len(part) == 2
  assert part.class_names == ('a', 'b')
  assert part.entries == ['x', 'z']
  with pytest.raises(IndexError):
    part[2]
  with pytest.raises(AttributeError):
    part.regions  # noqa: B018
  assert repr(part) == repr(Part(cases, (3, 5))) != repr(Part(cases, [5, 3]))
