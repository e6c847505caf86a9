"""What a run says of itself before its first step."""

import types

import numpy as np
import pytest

from medjax import announce
from medjax.data.facts import DataFacts
from medjax.tasks.segmentation import Segmentation


@pytest.mark.parametrize(
  ('shape', 'spacing', 'tolerance', 'found'),
  [
    ((24, 40, 40), (8e-6, 5e-6, 5e-6), 1.0, 1.0),  # an electron microscope's
    ((24, 40, 40), (8e-6, 5e-6, 5e-6), 1e-5, 0.0),
    ((24, 40, 40), (3.0, 0.7, 0.7), 1.0, 0.0),
    ((584, 565), (1.0, 1.0), 2.0, 0.0),
    ((), (), 1.0, 0.0),
  ],
)
def test_a_tolerance_as_wide_as_the_images(shape, spacing, tolerance, found):
  facts = DataFacts(
    channels=1, rank=len(shape), shape=shape, spacing=spacing, class_names=()
  )
  task = Segmentation(num_classes=2, nsd_tolerance=tolerance)
  assert announce._covers_all(task, facts) == found
  other = types.SimpleNamespace()  # a classifier's has no surfaces
  assert announce._covers_all(other, facts) == 0


def test_what_is_recorded_of_the_training_cases():
  entry = lambda patient: types.SimpleNamespace(patient=patient)
  folder = [object()] * 3
  assert announce.trained_on(folder) == {'train_cases': 3}  # of no folder

  class Cases(list):
    entries = (entry('a'), entry('b'), entry('a'))

  found = announce.trained_on(Cases(folder))
  assert found == {'train_cases': 3, 'train_patients': 2}


def test_notes_have_room_on_a_console():
  assert [*announce._noted(('a', 'b'))] == ['a', 'b']
  *lines, last = announce._noted(('x' * 5000, *'abcdefghijk'))
  assert len(lines) == 10
  assert len(lines[0]) < 450
  assert last == '2 more on the data are in facts.json'


@pytest.mark.parametrize(
  ('image', 'found'),
  [
    (np.full((8, 8, 1), 4095, np.uint16), 31.1),  # 12 bits, as if they were 8
    (np.full((8, 8, 1), 255, np.uint8), 0.0),
    (np.where(np.arange(900).reshape(30, 30, 1), 0, 60000), 0.0),  # one voxel
    (np.full((600, 600, 1), 4095, np.uint16), 31.1),  # of which some are drawn
  ],
)
def test_values_that_no_network_expects(image, found):
  scaled = lambda case: {'image': (case['image'] - 127.5) / 127.5}
  made = types.SimpleNamespace(
    task=types.SimpleNamespace(inputs=('image',)), preprocess=scaled
  )
  assert announce._far_out(made, [{'image': image}]) == pytest.approx(
    found, 0.01
  )
  made.task.inputs = ('covariates',)
  assert announce._far_out(made, [{'image': image}]) == 0
  made.task.inputs = ('image', 'covariates')
  assert announce._far_out(made, [{'covariates': image}]) == 0


def mirrored(names, augment, *, rank=3, flips=False, steps=(), codes='SPR'):
  made = types.SimpleNamespace(
    task=types.SimpleNamespace(names=names),
    config={'augment': augment, 'data': {'preprocess': steps}},
    facts=DataFacts(channels=1, rank=rank, orientation=codes),
    inference=types.SimpleNamespace(flips=flips),
  )
  return [*announce._mirrored(made)]


def test_a_mirror_that_swaps_sides_is_told():
  names = ('background', 'kidneyLeft', 'kidneyRight')
  every, up = {'name': 'flip', 'p': 0.5}, {'name': 'flip', 'axes': [0, -2]}
  (said,) = mirrored(names, [{'name': 'gamma'}, every])
  assert "'kidneyLeft' is its other side" in said
  assert said.endswith('leave flip out, or say axes=(0, 1)')
  assert not mirrored(names, [up])  # the third axis is from left to right
  turned = [{'name': 'reorient'}]
  (said,) = mirrored(names, [up], steps=turned)
  assert said.endswith('or say axes=(1, 2)')
  inner = [{'name': 'strong', 'augment': [every]}]
  (said,) = mirrored(names, inner, rank=2, codes='')
  assert said.endswith('leave flip out')
  (said,) = mirrored(names, [], flips=True)
  assert said.startswith('inference.flips')
  assert not mirrored(('background', 'kidney'), [every], flips=True)
