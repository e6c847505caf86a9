import functools
import sys

import pytest

from medjax.build import build


class Net:
  def __init__(self, width, depth=2):
    self.width, self.depth = width, depth


Deep = functools.partial(Net, depth=9)


def flip(x, *, p=0.5):
  return x, p


SPACE = sys.modules[__name__]


def test_class_gives_an_instance_and_extra_fills_in():
  net = build(SPACE, dict(name='Net', width=3), depth=5)
  assert (net.width, net.depth) == (3, 5)


def test_config_wins_over_extra():
  assert build(SPACE, dict(name='Net', width=3, depth=1), depth=5).depth == 1


def test_function_gives_a_partial():
  f = build(SPACE, dict(name='flip', p=0.1))
  assert isinstance(f, functools.partial)
  assert f('x') == ('x', 0.1)


def test_a_variant_of_a_class_gives_an_instance():
  net = build(SPACE, dict(name='Deep', width=1))
  assert (net.width, net.depth) == (1, 9)


def test_outside_names():
  assert build(SPACE, dict(name='fractions:Fraction', numerator=3)) == 3


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    (dict(name='Nett', width=1), "did you mean 'Net'"),
    (dict(name='Net', widht=1), "did you mean 'width'"),
    (dict(name='flip', q=1), "takes no argument 'q'"),
    (dict(name='zzz'), 'known: .*Net'),
    (dict(name='pytest'), 'no .pytest'),
    (dict(width=1), "no 'name'"),
    (dict(name='no.such:Thing'), "cannot import 'no.such'"),
  ],
)
def test_typing_errors_get_one_line(spec, message):
  with pytest.raises(ValueError, match=message) as e:
    build(SPACE, spec)
  assert '\n' not in str(e.value)


def test_a_missing_argument_is_named():
  with pytest.raises(ValueError, match="Net needs the argument 'width'"):
    build(SPACE, dict(name='Net'))
