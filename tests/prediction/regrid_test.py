import numpy as np
import pytest

from medjax.data import transforms
from medjax.prediction.regrid import NativeMap


def grids(
  seed, shape=(23, 17, 12), spacing=(1.1, 0.7, 2.5), to=(1.0, 1.0, 1.0)
):
  """A raw case and what preprocessing makes of it: a moved grid."""
  rng = np.random.default_rng(seed)
  n = len(shape)
  affine = np.eye(n + 1)
  signs = rng.choice([-1, 1], n)
  affine[:n, :n] = np.eye(n)[rng.permutation(n)] * spacing[:n] * signs
  affine[:n, n] = rng.normal(size=n) * 10
  raw = {
    'image': rng.normal(size=(*shape, 1)).astype(np.float32),
    'affine': affine,
    'spacing': np.array(spacing[:n]),
  }
  sample = transforms.reorient(raw) if n == 3 else raw
  sample = transforms.resample(sample, spacing=to[:n])
  return raw, sample


def by_slabs(sample, raw, probabilities, sizes, decode):
  native = NativeMap(sample, raw, decode)
  start = 0
  while start < len(probabilities):
    size = sizes[start % len(sizes)]
    native.add(probabilities[start : start + size])
    start += size
  return native.result()


def decode(probabilities):
  return probabilities.argmax(-1).astype(np.uint8)


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('shape', [(23, 17, 12), (19, 26)])
@pytest.mark.parametrize('to', [(1.0, 1.0, 1.0), (3.1, 2.0, 4.0)])
def test_slabs_give_what_the_whole_volume_gives(seed, shape, to):
  raw, sample = grids(seed, shape, to=to)
  rng = np.random.default_rng(seed)
  size = (*sample['image'].shape[:-1], 3)
  probabilities = rng.uniform(size=size).astype(np.float32)
  whole = transforms.to_grid(
    probabilities, sample['affine'], raw['affine'], shape
  )
  for sizes in ((1,), (4, 1, 7), (100,)):
    found = by_slabs(sample, raw, probabilities, sizes, decode)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, decode(whole))


def test_a_crop_leaves_background_around_it():
  raw, _ = grids(0)
  sample = transforms.crop_or_pad(raw, shape=(9, 30, 6))
  probabilities = np.zeros((9, 30, 6, 2), np.float32)
  probabilities[..., 1] = 1
  found = by_slabs(sample, raw, probabilities, (2,), decode)
  assert found.sum() == 9 * 17 * 6


def test_no_more_than_a_slab_is_held():
  raw, sample = grids(1, to=(0.5, 0.5, 0.5))
  held = []

  def watch(probabilities):
    held.append(probabilities.shape)
    return decode(probabilities)

  probabilities = np.zeros((*sample['image'].shape[:-1], 2), np.float32)
  by_slabs(sample, raw, probabilities, (4,), watch)
  assert max(np.prod(s[:-1]) for s in held) < np.prod(raw['image'].shape) / 3


def test_rotated_grids_are_done_whole():
  raw, sample = grids(2)
  c, s = np.cos(0.3), np.sin(0.3)
  turned = np.eye(4)
  turned[:2, :2] = [[c, -s], [s, c]]
  sample = {**sample, 'affine': turned @ sample['affine']}
  rng = np.random.default_rng(0)
  size = (*sample['image'].shape[:-1], 3)
  probabilities = rng.uniform(size=size).astype(np.float32)
  whole = transforms.to_grid(
    probabilities, sample['affine'], raw['affine'], raw['image'].shape[:-1]
  )
  found = by_slabs(sample, raw, probabilities, (5,), decode)
  np.testing.assert_array_equal(found, decode(whole))
