"""Blur and low resolution against scipy.ndimage and torch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax import augment

SHAPES = [(20, 15, 2), (13, 9, 10, 1)]


def picture(shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def draw(name, image, **arguments):
  function = functools.partial(getattr(augment, name), p=1, **arguments)
  out = jax.jit(function)(jax.random.key(0), {'image': image})
  return jax.device_get(out)['image']


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('sigma', [0.0, 0.5, 2.0, 6.0])
def test_gaussian_blur_is_scipys(shape, sigma):
  image = picture(shape)
  out = draw('gaussian_blur', image, sigma=(sigma, sigma))
  widths = [sigma] * (image.ndim - 1) + [0]
  expected = ndimage.gaussian_filter(np.asarray(image, np.float64), widths)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_gaussian_blur_draws_per_channel_and_axis():
  image = jnp.zeros((21, 21, 2)).at[10, 10].set(1.0)
  out = draw('gaussian_blur', image, sigma=(0.5, 1.5))
  offset = np.arange(21) - 10
  widths = []
  for channel in range(2):
    for axis in range(2):
      profile = out[..., channel].sum(1 - axis)
      widths.append(np.sqrt((profile * offset**2).sum()))
  assert len(set(np.round(widths, 3))) == 4
  assert min(widths) > 0.4
  assert max(widths) < 1.51


def low_resolution_by_scipy(x, zoom, axes):
  for axis in axes:
    n = x.shape[axis]
    m = round(n * zoom)
    x = np.take(x, np.floor((np.arange(m) + 0.5) * n / m).astype(int), axis)
    at = np.indices([n if i == axis else s for i, s in enumerate(x.shape)])
    at = at.astype(float)
    at[axis] = (at[axis] + 0.5) * m / n - 0.5
    x = ndimage.map_coordinates(x, at, order=1, mode='nearest')
  return x


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('zoom', [0.5, 0.63, 0.9, 1.0])
def test_low_resolution_by_scipy(shape, zoom):
  image = picture(shape)
  rank = len(shape) - 1
  for axes in (None, (1,)):
    out = draw('low_resolution', image, zoom=(zoom, zoom), axes=axes)
    for c in range(shape[-1]):
      expected = low_resolution_by_scipy(
        np.asarray(image[..., c]), zoom, axes or range(rank)
      )
      np.testing.assert_allclose(out[..., c], expected, atol=1e-5)


@pytest.mark.parametrize('zoom', [0.5, 0.6, 0.77])
def test_low_resolution_is_torchs(zoom):
  torch = pytest.importorskip('torch')
  resize = torch.nn.functional.interpolate
  image = picture((13, 12, 10, 1))
  out = draw('low_resolution', image, zoom=(zoom, zoom))
  x = torch.tensor(np.asarray(image[None, ..., 0])[None])
  coarse = [round(zoom * side) for side in x.shape[2:]]
  expected = resize(
    resize(x, coarse, mode='nearest-exact'), x.shape[2:], mode='trilinear'
  )
  np.testing.assert_allclose(out[..., 0], expected[0, 0], atol=1e-5)
