"""What is noted of a trained workdir when it is installed."""

import pytest

from medjax.service import models
from medjax.tasks.classification import Classification


def test_which_class_is_no_finding_is_never_guessed():
  names = ('abnormal', 'normal')
  made = lambda **o: Classification(num_classes=2, class_names=names, **o)
  normal = lambda task, said='': models._normal(task, False, said, names)
  with pytest.raises(ValueError, match='which of abnormal, normal is no find'):
    normal(made())
  assert normal(made(), 'normal') == 'normal'
  assert normal(made(), 'none') == ''
  assert normal(made(positive='abnormal')) == 'normal'
  with pytest.raises(ValueError, match='--normal=x: the classes are'):
    normal(made(), 'x')


def test_classes_that_are_named_by_numbers_are_counted_once():
  names = ('1', '2', '3')
  there = lambda label: [
    models._is_there({'label': label}, names, k) for k in range(3)
  ]
  assert there('1') == there('1.0') == [False, True, False]
  assert there('3') == [False, False, True]  # no index, so a name
  assert models._is_there({'label': 'ill'}, ('well', 'ill'), 1)
