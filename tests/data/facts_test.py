"""What a run's facts say of images that are unlike those it began with."""

import numpy as np
import pytest

from medjax.data import grid
from medjax.data.facts import DataFacts


class Cases(list):
  class_names = ()


def facts(dtype):
  image = np.zeros((4, 5, 1), dtype)
  case = {'image': image, 'affine': np.eye(3), 'spacing': np.ones(2)}
  return DataFacts.of(Cases([case]))


@pytest.mark.parametrize(
  ('trained', 'given', 'steps', 'said'),
  [
    ('uint8', 'uint16', {'resize', 'scale'}, 'with 16 bits a value; training'),
    ('uint16', 'uint8', {'scale'}, 'with 8 bits a value; training began'),
    ('uint8', 'uint8', {'scale'}, ''),
    ('uint8', 'uint16', {'resize', 'zscore'}, ''),  # whatever the range
    ('uint8', 'float32', {'scale'}, ''),  # of Python, or a NIfTI: anything
    ('int16', 'uint16', {'window'}, ''),
  ],
)  # fmt: skip
def test_a_picture_of_other_bits(trained, given, steps, said):
  case = {'image': np.zeros((4, 5, 1), given), 'spacing': np.ones(2)}
  found = facts(trained).doubts(case, steps)
  assert len(found) == bool(said)
  assert said in ''.join(found)


def test_facts_of_before_know_no_bits():
  found = DataFacts(channels=1, rank=2)
  assert not found.other_depth(np.zeros((4, 5, 1), np.uint16), {'scale'})
  assert DataFacts(channels=0, rank=0).doubts({}, set()) == ()


def test_a_config_of_pictures_tells_volumes_what_to_say():
  sample = {'id': 'a', 'affine': np.eye(4)}
  with pytest.raises(ValueError, match='for 3 spatial axes; give 3') as e:
    grid.each_axis(sample, 'resize', 'shape', (64, 64))
  assert str(e.value).endswith(
    """--config.data.preprocess="({'name':'resize','shape':(32,32,16)},"""
    """{'name':'zscore'})\""""
  )
