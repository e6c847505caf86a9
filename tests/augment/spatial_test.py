"""Geometry against numpy and scipy.ndimage.

The map that `affine` drew is read off its own result: coordinates are images
too, and linear interpolation carries them exactly.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, ndimage

from medjax import augment

SHAPES = [(20, 15), (13, 12, 10)]


def coordinates(shape):
  return np.stack(np.indices(shape), -1).astype(np.float32)


def scene(shape, seed=0):
  """Texture, one channel per coordinate, ones; and a mask of 4 labels."""
  rng = np.random.default_rng(seed)
  texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)[..., None]
  image = [texture, coordinates(shape), np.ones((*shape, 1))]
  image = np.concatenate(image, -1).astype(np.float32)
  mask = rng.integers(0, 4, shape).astype(np.int32)
  return {'image': jnp.asarray(image), 'mask': jnp.asarray(mask)}


def read_map(out):
  """Where every voxel was read, and where that lies inside the image."""
  image = np.asarray(out['image'], np.float64)
  return image[..., 1:-1], image[..., -1] == 1


def fit(out):
  """Matrix and offset of the affine map, as scipy wants them."""
  at, inside = read_map(out)
  assert inside.sum() > 30
  voxels = coordinates(inside.shape)[inside]
  voxels = np.concatenate([voxels, np.ones((len(voxels), 1))], -1)
  solution, *_ = np.linalg.lstsq(voxels, at[inside], rcond=None)
  np.testing.assert_allclose(voxels @ solution, at[inside], atol=1e-4)
  return solution[:-1].T, solution[-1]


def draw(shape, count, **arguments):
  """The scene, and `count` of its draws."""
  example = scene(shape)
  function = functools.partial(augment.affine, p=1, **arguments)
  keys = jax.random.split(jax.random.key(0), count)
  out = jax.jit(jax.vmap(function, in_axes=(0, None)))(keys, example)
  out = jax.device_get(out)
  return example, [{k: v[i] for k, v in out.items()} for i in range(count)]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(
  'arguments',
  [
    dict(rotate=40.0),
    dict(scale=(0.6, 1.6)),
    dict(shear=20.0),
    dict(translate=3.0),
    dict(rotate=30.0, scale=(0.7, 1.4), shear=10.0, translate=2.0),
  ],
  ids=['rotate', 'scale', 'shear', 'translate', 'all'],
)
def test_affine_is_one_scipy_resampling(shape, arguments):
  example, outs = draw(shape, 3, **arguments)
  for out in outs:
    matrix, offset = fit(out)
    expected = ndimage.affine_transform(
      np.asarray(example['image'][..., 0]),
      matrix,
      offset,
      order=1,
      mode='grid-constant',
    )
    np.testing.assert_allclose(out['image'][..., 0], expected, atol=1e-4)

    expected = ndimage.affine_transform(
      np.asarray(example['mask']), matrix, offset, order=0, mode='grid-constant'
    )
    at = coordinates(shape) @ matrix.T + offset
    tie = (np.abs(at - np.floor(at) - 0.5) < 1e-3).any(-1)
    assert tie.mean() < 0.3
    np.testing.assert_array_equal(np.asarray(out['mask'])[~tie], expected[~tie])


@pytest.mark.parametrize('shape', SHAPES)
def test_affine_components_stay_in_their_ranges(shape):
  n = len(shape)
  identity, centre = np.eye(n), (np.array(shape) - 1) / 2
  for out in draw(shape, 4, rotate=25.0)[1]:
    matrix, offset = fit(out)
    np.testing.assert_allclose(matrix @ matrix.T, identity, atol=1e-4)
    np.testing.assert_allclose(matrix @ centre + offset, centre, atol=1e-3)
    assert np.linalg.det(matrix) > 0
    if n == 2:
      assert abs(np.arctan2(matrix[1, 0], matrix[0, 0])) < np.deg2rad(25)

  for out in draw(shape, 4, scale=(0.8, 1.25))[1]:
    matrix, offset = fit(out)
    np.testing.assert_allclose(matrix, identity * matrix[0, 0], atol=1e-4)
    np.testing.assert_allclose(matrix @ centre + offset, centre, atol=1e-3)
    assert 0.8 <= 1 / matrix[0, 0] <= 1.25

  for out in draw(shape, 4, shear=15.0)[1]:
    matrix, _ = fit(out)
    np.testing.assert_allclose(np.tril(matrix), identity, atol=1e-4)
    assert np.abs(np.triu(matrix, 1)).max() < np.tan(np.deg2rad(15))

  largest = np.arange(1, n + 1)
  for out in draw(shape, 4, translate=tuple(largest))[1]:
    matrix, offset = fit(out)
    np.testing.assert_allclose(matrix, identity, atol=1e-4)
    assert (np.abs(offset) <= largest + 1e-3).all()


def test_scale_above_one_enlarges():
  square = np.zeros((21, 21, 1), np.float32)
  square[8:13, 8:13] = 1
  function = functools.partial(augment.affine, p=1, scale=(2, 2))
  out = jax.jit(function)(jax.random.key(0), {'image': jnp.asarray(square)})
  assert out['image'].sum() == pytest.approx(4 * 25, rel=0.1)


def test_rotation_axis_by_axis():
  shape = SHAPES[1]
  for axis in range(3):
    degrees = np.eye(3)[axis] * 30
    matrix, _ = fit(draw(shape, 1, rotate=tuple(degrees))[1][0])
    np.testing.assert_allclose(matrix[axis], np.eye(3)[axis], atol=1e-4)
    np.testing.assert_allclose(matrix[:, axis], np.eye(3)[axis], atol=1e-4)
    assert np.abs(matrix - np.eye(3)).max() > 1e-3


def test_axes_keep_the_map_in_a_plane():
  shape = SHAPES[1]
  example, (out,) = draw(
    shape, 1, rotate=60.0, scale=(0.7, 1.3), elastic=1.0, axes=(1, 2)
  )
  at, inside = read_map(out)
  own = coordinates(shape)
  np.testing.assert_allclose(at[inside][:, 0], own[inside][:, 0], atol=1e-4)
  # Every slice goes through the same two-dimensional map.
  np.testing.assert_allclose(at[:-1][..., 1:], at[1:][..., 1:], atol=1e-4)
  expected = ndimage.map_coordinates(
    np.asarray(example['image'][..., 0]), at[inside].T, order=1, mode='nearest'
  )
  np.testing.assert_allclose(out['image'][..., 0][inside], expected, atol=1e-4)


@pytest.mark.parametrize('shape', SHAPES)
def test_elastic_is_bounded_smooth_and_one_resampling(shape):
  side = (min(shape) - 1) / 3
  largest = 0.4 * side
  example, (out,) = draw(shape, 1, elastic=largest, elastic_grid=3)
  at, inside = read_map(out)
  displacement = (at - coordinates(shape))[inside]
  assert 0.05 * largest < np.abs(displacement).max() <= largest + 1e-4
  expected = ndimage.map_coordinates(
    np.asarray(example['image'][..., 0]), at[inside].T, order=1, mode='nearest'
  )
  np.testing.assert_allclose(out['image'][..., 0][inside], expected, atol=1e-4)

  # At 0.4 of the control distance nothing folds: the Jacobian is positive.
  n = len(shape)
  columns = [np.diff(at, axis=i) for i in range(n)]
  common = tuple(slice(s - 1) for s in shape)
  jacobian = np.stack([column[common] for column in columns], -1)
  whole = np.ones([s - 1 for s in shape], bool)
  for corner in itertools.product((0, 1), repeat=n):
    whole &= inside[
      tuple(slice(c, c + s - 1) for c, s in zip(corner, shape, strict=True))
    ]
  assert whole.sum() > 30
  assert (np.linalg.det(jacobian)[whole] > 0).all()


def test_elastic_and_affine_share_one_resampling():
  example, (out,) = draw((24, 20), 1, rotate=20.0, elastic=1.5)
  at, inside = read_map(out)
  expected = ndimage.map_coordinates(
    np.asarray(example['image'][..., 0]), at[inside].T, order=1, mode='nearest'
  )
  np.testing.assert_allclose(out['image'][..., 0][inside], expected, atol=1e-4)


def test_spline_weights_are_scipys():
  from medjax.augment.spatial import _spline

  for size, intervals in ((17, 4), (10, 1), (1, 3)):
    at = np.linspace(0, intervals, size)
    knots = np.arange(-3, intervals + 4, dtype=float)
    basis = interpolate.BSpline(knots, np.eye(intervals + 3), 3)
    np.testing.assert_allclose(_spline(size, intervals), basis(at), atol=1e-6)


def test_outside_is_zero_or_the_edge():
  image = jnp.full((9, 8, 1), 5.0)
  mask = jnp.ones((9, 8), jnp.int32)
  example = {'image': image, 'mask': mask}
  arguments = dict(p=1, translate=6.0)
  key = jax.random.key(4)
  zeros, edge = jax.jit(
    lambda key: [
      augment.affine(key, example, mode=mode, **arguments)
      for mode in ('constant', 'edge')
    ]
  )(key)
  assert zeros['image'].min() == 0
  np.testing.assert_allclose(edge['image'], image, rtol=1e-6)
  # What goes on is labelled as what it is.
  assert zeros['mask'].min() == 0
  np.testing.assert_array_equal(edge['mask'], mask)


def test_mistakes_are_named():
  key, example = jax.random.key(0), scene((6, 5))
  with pytest.raises(ValueError, match="'constant' or 'edge', not 'wrap'"):
    augment.affine(key, example, mode='wrap')
  with pytest.raises(ValueError, match='rotate takes one number or 1'):
    augment.affine(key, example, rotate=(10.0, 20.0))
  with pytest.raises(ValueError, match='translate takes one number or 2'):
    augment.affine(key, example, translate=(1.0, 2.0, 3.0))
  for axes in ((2,), (-1,), (0, 0)):
    with pytest.raises(ValueError, match=r'axes must differ and lie in 0..1'):
      augment.flip(key, example, axes=axes)


@pytest.mark.parametrize('shape', SHAPES)
def test_flip_is_numpys(shape):
  example = scene(shape)
  n = len(shape)
  for axis in range(n):
    function = functools.partial(augment.flip, p=1, axes=(axis,))
    out = jax.jit(function)(jax.random.key(0), example)
    for name, x in example.items():
      np.testing.assert_array_equal(out[name], np.flip(x, axis))
  # Each axis has its own draw: all 2^n combinations turn up.
  keys = jax.random.split(jax.random.key(1), 100)
  out = jax.jit(jax.vmap(lambda key: augment.flip(key, example, p=0.5)))(keys)
  seen = {np.asarray(mask).tobytes() for mask in out['mask']}
  subsets = [
    c for k in range(n + 1) for c in itertools.combinations(range(n), k)
  ]
  mask = np.asarray(example['mask'])
  assert seen == {np.flip(mask, axes).tobytes() for axes in subsets}


@pytest.mark.parametrize('shape', [(7, 7), (6, 6, 6), (6, 6, 4), (7, 5)])
def test_rot90_is_numpys(shape):
  example = scene(shape)
  mask, image = np.asarray(example['mask']), np.asarray(example['image'])
  expected = {}
  for a, b in itertools.combinations(range(len(shape)), 2):
    for k in (1, 2, 3) if shape[a] == shape[b] else (2,):
      turned = np.rot90(mask, k, (a, b)).tobytes()
      expected[turned] = np.rot90(image, k, (a, b))
  keys = jax.random.split(jax.random.key(0), 150)
  out = jax.device_get(
    jax.jit(jax.vmap(lambda key: augment.rot90(key, example, p=1)))(keys)
  )
  seen = {}
  for turned, picture in zip(out['mask'], out['image'], strict=True):
    seen[np.asarray(turned).tobytes()] = picture
  assert seen.keys() == expected.keys()
  for turned, picture in seen.items():
    np.testing.assert_array_equal(picture, expected[turned])


def test_rot90_stays_in_the_planes_given():
  example = scene((5, 5, 5))
  keys = jax.random.split(jax.random.key(0), 30)
  turn = lambda key: augment.rot90(key, example, p=1, planes=((1, 2),))
  at = jax.jit(jax.vmap(turn))(keys)['image'][..., 1]
  assert (at == example['image'][..., 1]).all()
