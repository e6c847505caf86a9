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


def volume(codes, shape=(7, 6, 5)):
  """A raw case whose axes run as the codes say."""
  affine = DataFacts(channels=1, rank=3, orientation=codes).affine()
  image = np.zeros((*shape, 1), np.float32)
  return {'image': image, 'affine': affine, 'spacing': np.ones(3)}


@pytest.mark.parametrize('codes', ['RAS', 'LAS', 'SPR', 'PIR'])
def test_a_volume_whose_axes_run_elsewhere(codes):
  found = DataFacts.of(Cases([volume(codes)]))
  assert found.orientation == codes
  assert found.doubts(volume(codes), {'normalise'}) == ()
  (said,) = found.doubts(volume('LPS'), {'resample', 'zscore'})
  assert f'run to LPS; those that training began with to {codes}' in said
  assert found.doubts(volume('LPS'), {'reorient', 'zscore'}) == ()
  # Runs of before know nothing of it, nor do arrays.
  unknown = DataFacts.read({'channels': 1, 'rank': 3})
  assert unknown.doubts(volume('LPS'), set()) == ()
  without = {'image': volume('LPS')['image'], 'spacing': np.ones(3)}
  assert found.doubts(without, set()) == ()


def test_a_patch_lies_as_the_prepared_images_do():
  found = DataFacts.of(Cases([volume('SPR', (16, 64, 32))]))
  assert found.patch_size() == (16, 64, 32)
  steps = [{'name': 'reorient'}, {'name': 'zscore'}]
  assert found.patch_size(steps) == (32, 64, 16)
  steps[0]['codes'] = 'IPL'
  assert found.patch_size(steps) == (16, 64, 32)


def test_a_config_of_pictures_tells_volumes_what_to_say():
  sample = {'id': 'a', 'affine': np.eye(4)}
  with pytest.raises(ValueError, match='for 3 spatial axes; give 3') as e:
    grid.each_axis(sample, 'resize', 'shape', (64, 64))
  assert str(e.value).endswith(
    """--config.data.preprocess="({'name':'resize','shape':(32,32,16)},"""
    """{'name':'zscore'})\""""
  )
