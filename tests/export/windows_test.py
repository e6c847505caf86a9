"""One table of windows, which medjax and the shipped scripts both keep to.

`medjax.prediction.windows` and `shipped/programs.py` say the same twice, as the
second may import nothing of the first. The numbers here are of neither.
"""

import jax
import numpy as np
import pytest

from medjax import engine
from medjax.export import golden
from medjax.prediction import windows

MESH = engine.make_mesh(jax.devices()[:1])
SHIPPED = golden.script().programs
STARTS = {
  'medjax': windows.window_starts,
  'shipped': SHIPPED._starts,
}
WEIGHTS = {
  'medjax': windows.gaussian_weights,
  'shipped': SHIPPED._weight,
}
BOTH = pytest.mark.parametrize('who', ['medjax', 'shipped'])

# (size, window, overlap): where windows begin.
TABLE = [
  ((5, 5, 0.5), [0]),
  ((3, 5, 0.5), [0]),
  ((6, 5, 0.5), [0, 1]),
  ((8, 4, 0.5), [0, 2, 4]),
  ((9, 4, 0.5), [0, 2, 3, 5]),  # 1.67 and 3.33
  ((11, 8, 0.5), [0, 3]),
  ((13, 8, 0.5), [0, 2, 5]),  # 2.5 is rounded to even
  ((14, 8, 0.75), [0, 2, 4, 6]),
  ((10, 4, 0.0), [0, 3, 6]),  # evenly, not 0, 4 and what is left
  ((8, 4, 0.0), [0, 4]),
  ((5, 2, 1.0), [0, 1, 2, 3]),  # at least a voxel further
  ((7, 1, 0.5), [0, 1, 2, 3, 4, 5, 6]),
  ((35, 32, 0.5), [0, 3]),
  ((47, 48, 0.5), [0]),
  ((100, 32, 0.25), [0, 23, 45, 68]),  # 22.67 and 45.33
]


@BOTH
@pytest.mark.parametrize(('axis', 'wanted'), TABLE)
def test_windows_begin_where_the_table_says(who, axis, wanted):
  assert STARTS[who](*axis) == wanted


@BOTH
def test_a_voxel_weighs_what_the_table_says(who):
  """A Gaussian of an eighth of the window, over its largest; at least 1e-4."""
  eighths = np.exp([-6.0, -3, -1, 0, 0, -1, -3, -6])
  thirds = np.exp([-32 / 9, 0, -32 / 9])
  rows = {
    (1,): [1],
    (2,): [1, 1],
    (3,): thirds,
    (4,): np.exp([-4.0, 0, 0, -4]),
    (8,): eighths,
    (3, 8): np.maximum(np.outer(thirds, eighths), 1e-4),
  }
  for size, wanted in rows.items():
    found = WEIGHTS[who](size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def by_medjax(network, image, size, overlap):
  """{output: array} by `windows.predict_samples`."""
  ((_, found),) = windows.predict_samples(
    lambda inputs: network(np.asarray(inputs[0])),
    [{'image': image}],
    mesh=MESH, batch_size=3, patch_size=size, overlap=overlap,
  )  # fmt: skip
  return found


class Model:
  """Stands for the programs of a folder."""

  def __init__(self, network, **info):
    self.info, self._network = info, network

  def __call__(self, inputs):
    return self._network(inputs['image'])


def by_shipped(network, image, size, overlap):
  """{output: array} by the scripts beside an exported run."""
  model = Model(
    network, shape=size, overlap=overlap, windows=True, batches=[1, 3],
    inside=[], measured=None,
  )  # fmt: skip
  return SHIPPED.infer(model, image)


BY = {'medjax': by_medjax, 'shipped': by_shipped}


def ramp(images):
  """A map that says where in its window a voxel lies, and a vector."""
  count, n, *_ = images.shape
  place = np.arange(n, dtype=np.float32).reshape(
    1, n, *(1,) * (images.ndim - 2)
  )
  return {
    'place': np.broadcast_to(place, images.shape).copy(),
    'first': images.reshape(count, -1)[:, :1],
  }


@BOTH
def test_windows_are_joined_as_the_table_says(who):
  """Windows of 4 in an axis of 6, at 0 and 2: 1, 1, e⁻⁴ are the weights."""
  image = np.arange(1, 7, dtype=np.float32)[:, None]
  found = BY[who](ramp, image, (4,), 0.5)
  e = np.exp(-4)
  wanted = [0, 1, (2 + 0 * e) / (1 + e), (3 * e + 1) / (1 + e), 2, 3]
  np.testing.assert_allclose(found['place'][:, 0], wanted, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found['first'], [2.0])  # of 1 and 3


@BOTH
@pytest.mark.parametrize(('length', 'before'), [(1, 1), (2, 1), (3, 0), (4, 0)])
def test_a_smaller_image_lies_in_the_middle(who, length, before):
  """Of an odd rest the larger half comes after it."""
  image = np.ones((length, 1), np.float32)
  found = BY[who](ramp, image, (4,), 0.5)
  wanted = np.arange(before, before + length)
  np.testing.assert_array_equal(found['place'][:, 0], wanted)


@BOTH
def test_a_cut_of_two_axes(who):
  """One axis shorter than the window, the other longer; both outputs."""
  image = np.arange(1, 16, dtype=np.float32).reshape(3, 5, 1)
  seen = []

  def network(images):
    seen.extend(x[..., 0] for x in images)
    return {'map': images}

  found = BY[who](network, image, (4, 4), 0.5)
  np.testing.assert_allclose(found['map'], image, rtol=1e-6)
  rows = image[..., 0]
  for window, start in zip(seen, (0, 1), strict=False):
    np.testing.assert_array_equal(window[:3], rows[:, start : start + 4])
    assert not window[3].any()
