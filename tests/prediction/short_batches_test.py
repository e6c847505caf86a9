"""A few images are not computed as a whole batch of them."""

import jax
import numpy as np
import pytest

from medjax import engine
from medjax.prediction import windows


@pytest.mark.parametrize(
  ('images', 'devices', 'expected'),
  [
    (1, 1, [1]),
    (3, 1, [4]),
    (5, 1, [6]),  # no more than a batch
    (1, 2, [2]),
    (3, 4, [4]),
    (6, 1, [6]),
    (7, 1, [6, 6]),  # one shape, once a batch was full
    (5, 4, [8]),
  ],
)
def test_one_image_is_one_and_many_have_one_shape(images, devices, expected):
  mesh, seen = engine.make_mesh(jax.devices()[:devices]), []

  def forward(inputs):
    seen.append(len(inputs[0]))
    return {'prediction': inputs[0].mean((1, 2))}

  x = np.random.default_rng(0).normal(size=(images, 4, 4, 2)).astype('f')
  found = windows.predict_samples(
    forward, ({'image': image} for image in x), mesh=mesh, batch_size=6
  )
  means = [each['prediction'] for _, each in found]
  assert seen == expected
  np.testing.assert_allclose(means, x.mean((1, 2)), atol=1e-6)
