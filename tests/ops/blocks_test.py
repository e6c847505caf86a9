import itertools

import numpy as np
import pytest

from medjax.ops import blocks


@pytest.mark.parametrize(
  ('shape', 'size'),
  [((6, 4), (3, 2)), ((5, 7), (2, 3)), ((4, 5, 3), (2, 2, 2))],
)
def test_split_is_a_loop_and_join_its_inverse(shape, size):
  x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
  grid = blocks.grid_of(shape, size)
  padded = np.zeros((2, *(g * p for g, p in zip(grid, size, strict=True)), 3))
  padded[(slice(None), *map(slice, shape))] = x
  found = blocks.split(x, size)
  for i, place in enumerate(itertools.product(*map(range, grid))):
    cut = tuple(
      slice(k * p, (k + 1) * p) for k, p in zip(place, size, strict=True)
    )
    block = padded[(slice(None), *cut)].reshape(2, -1)
    np.testing.assert_array_equal(found[:, i], block.astype(np.float32))
  np.testing.assert_array_equal(blocks.join(found, size, shape), x)
