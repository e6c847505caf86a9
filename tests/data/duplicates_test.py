import io

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from medjax.data import duplicates


def smooth(n, shape, seed=0):
  """n images of smooth noise (n, *shape, 1), 0 to 255, with a shared part."""
  rng = np.random.default_rng(seed)
  blur = lambda x: ndimage.gaussian_filter(x, 2.0)
  shared = 3 * blur(rng.normal(size=shape))
  images = [shared + blur(rng.normal(size=shape)) for _ in range(n)]
  images = np.array(images) - np.min(images)
  return (255 * images / images.max())[..., None]


def thumbnails(images):
  return np.stack([duplicates.thumbnail(image) for image in images])


def jpeg(image):
  f = io.BytesIO()
  PIL.Image.fromarray(image[..., 0].astype(np.uint8)).save(f, 'JPEG')
  return np.asarray(PIL.Image.open(f))[..., None]


COPIES = {
  'jpeg': jpeg,
  'noise': lambda x: x + np.random.default_rng(9).normal(0, 3, x.shape),
  'gamma': lambda x: 255 * (x / 255) ** 0.7,
  'twice as large': lambda x: x.repeat(2, 0).repeat(2, 1),
  'another type': lambda x: (x * 100).astype(np.int16),
}


def test_digest():
  a = np.arange(12, dtype=np.uint8).reshape(3, 4)
  assert duplicates.digest(a) == duplicates.digest(a.copy())
  for other in (a.T, a.reshape(4, 3), a.astype(np.int8), a + 1):
    assert duplicates.digest(a) != duplicates.digest(other)
  assert duplicates.exact([b'a', b'b', b'a', b'c', b'b', b'a']) == [
    [0, 2, 5],
    [1, 4],
  ]


@pytest.mark.parametrize('shape', [(7, 40, 3), (16, 16, 1), (5, 30, 9, 2)])
def test_thumbnails_of_any_size(shape):
  image = np.random.default_rng(0).random(shape)
  small = duplicates.thumbnail(image)
  rank = len(shape) - 1
  assert small.shape == (duplicates.SIDE[rank],) * rank
  np.testing.assert_allclose((small.mean(), small.std()), (0, 1), atol=1e-5)
  # Contrast and brightness do not matter, nor does repeating every voxel.
  np.testing.assert_allclose(
    duplicates.thumbnail(image * 3 + 5), small, atol=1e-4
  )
  np.testing.assert_allclose(
    duplicates.thumbnail(image.repeat(2, 0).repeat(3, 1)), small, atol=1e-4
  )
  assert not duplicates.thumbnail(np.full(shape, 7)).any()


@pytest.mark.parametrize('name', COPIES)
def test_altered_copies_are_found_and_nothing_else(name):
  images = smooth(200, (32, 32))
  copies = [COPIES[name](image) for image in images[:20]]
  found = duplicates.near(
    np.concatenate([thumbnails(images), thumbnails(copies)])
  )
  pairs = {tuple(map(int, p)) for p in found.indices}
  assert pairs <= {(i, 200 + i) for i in range(20)}
  assert len(pairs) >= 19
  assert found.complete


def test_volumes_few_images_and_constant_ones():
  images = smooth(40, (12, 14, 10), seed=1)
  flat = np.zeros((3, 12, 14, 10, 1))
  everything = [*images, images[3] * 2 + 1, *flat]
  found = duplicates.near(thumbnails(everything))
  assert found.indices.tolist() == [[3, 40]]
  few = duplicates.near(thumbnails([images[0], images[1], images[0]]))
  assert few.indices.tolist() == [[0, 2]]
  assert not len(duplicates.near(thumbnails(flat)).indices)


def test_pieces_do_not_matter_and_too_many_are_said(monkeypatch):
  images = thumbnails(smooth(40, (16, 16)))
  some = np.concatenate([images, images[:30], images[:20]])
  whole = duplicates.near(some)
  assert len(whole.indices) == 30 + 20 + 20
  monkeypatch.setattr(duplicates, '_CHUNK', 64)
  pieces = duplicates.near(some)
  assert sorted(pieces.indices.tolist()) == sorted(whole.indices.tolist())
  monkeypatch.setattr(duplicates, '_MOST', 10)
  cut = duplicates.near(some)
  assert len(cut.indices) == 10
  assert not cut.complete


def test_groups_join_patients_by_their_copies():
  images = list(smooth(40, (20, 24)))
  patients = [f'p{i:02}' for i in range(40)]
  images[7] = images[3]  # an exact copy
  images[9] = jpeg(images[7])  # one nearly so
  patients[20] = patients[9]  # whose patient has another image
  images[31], images[30] = images[30] * 0 + 7, images[30] * 0 + 7
  found = duplicates.groups(images, patients)
  expected = list(patients)
  for i in (3, 7, 9, 20):
    expected[i] = 'p03'
  assert found == expected  # constant images are no copies of each other
  # Names do not depend on the order.
  back = duplicates.groups(images[::-1], patients[::-1])
  assert back[::-1] == found


def test_groups_are_connected_components():
  sparse = pytest.importorskip('scipy.sparse')
  rng = np.random.default_rng(0)
  patients = [f'{k:02}' for k in rng.integers(0, 60, 90)]
  pairs = rng.integers(0, 90, (25, 2))
  names, place = np.unique(patients, return_inverse=True)
  i, j = place[pairs.T]
  graph = sparse.coo_array((np.ones(25), (i, j)), (len(names), len(names)))
  _, component = sparse.csgraph.connected_components(graph, directed=False)
  first = {c: min(names[component == c].tolist()) for c in component}
  expected = [first[component[p]] for p in place]
  assert duplicates.joined(patients, pairs) == expected
