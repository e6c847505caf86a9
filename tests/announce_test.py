"""What a run says of itself before its first step."""

import types

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
