"""Intensities against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import augment

SHAPES = [(20, 15, 2), (13, 9, 10, 1)]


def picture(shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.gamma(2.0, size=shape) - 1, jnp.float32)


def draw(name, image, seed=0, **arguments):
  function = functools.partial(getattr(augment, name), p=1, **arguments)
  return jax.device_get(
    jax.jit(function)(jax.random.key(seed), {'image': image})
  )['image']


def spatial(image):
  return tuple(range(image.ndim - 1))


def test_gaussian_noise_has_its_std():
  image = picture((64, 64, 2))
  noise = draw('gaussian_noise', image, std=(0.3, 0.3)) - image
  assert noise.mean() == pytest.approx(0, abs=0.02)
  assert noise.std() == pytest.approx(0.3, rel=0.05)
  assert (
    abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.1
  )
  weak = draw('gaussian_noise', image, std=(0.0, 0.1)) - image
  assert weak.std() <= 0.11


@pytest.mark.parametrize('shape', SHAPES)
def test_brightness_multiplies(shape):
  image = picture(shape)
  out = draw('brightness', image, factor=(1.2, 1.2))
  np.testing.assert_allclose(out, 1.2 * image, rtol=1e-6)
  ratio = draw('brightness', image, factor=(0.5, 1.5)) / image
  assert (np.ptp(ratio, spatial(image)) < 1e-4).all()
  assert (ratio > 0.499).all()
  assert (ratio < 1.501).all()


def test_factors_lie_as_often_below_one_as_above():
  image = jnp.ones((2, 2, 1))
  keys = jax.random.split(jax.random.key(0), 2000)
  f = lambda key: augment.brightness(
    key, {'image': image}, p=1, factor=(0.9, 3.0)
  )['image'][0, 0, 0]
  factors = np.asarray(jax.jit(jax.vmap(f))(keys))
  assert factors.min() >= 0.9
  assert 2.9 < factors.max() <= 3.0
  assert (factors < 1).mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('factor', [0.6, 1.7])
def test_contrast_spreads_about_the_mean_within_the_range(shape, factor):
  image = picture(shape)
  out = draw('contrast', image, factor=(factor, factor))
  x = np.asarray(image, np.float64)
  axes = spatial(x)
  mean = x.mean(axes)
  expected = (x - mean) * factor + mean
  expected = np.clip(expected, x.min(axes), x.max(axes))
  np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('invert', [False, True])
@pytest.mark.parametrize('exponent', [0.7, 1.5])
def test_gamma_is_a_power_with_mean_and_std_restored(shape, invert, exponent):
  image = picture(shape)
  out = draw('gamma', image, exponent=(exponent, exponent), invert=invert)
  x = np.asarray(image, np.float64)
  axes = spatial(x)
  np.testing.assert_allclose(out.mean(axes), x.mean(axes), atol=1e-5)
  np.testing.assert_allclose(out.std(axes), x.std(axes), rtol=1e-4)

  sign = -1 if invert else 1
  y = sign * x
  power = ((y - y.min(axes)) / np.ptp(y, axes)) ** exponent
  z = (power - power.mean(axes)) / power.std(axes)
  expected = sign * (z * y.std(axes) + y.mean(axes))
  np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize('scale', [1e-4, 1e4])
def test_gamma_at_any_unit(scale):
  image = picture((20, 15, 1))
  out = draw('gamma', image * scale, exponent=(1.4, 1.4))
  expected = scale * draw('gamma', image, exponent=(1.4, 1.4))
  np.testing.assert_allclose(out, expected, atol=1e-4 * scale)


@pytest.mark.parametrize('value', [0.0, 3.7])
@pytest.mark.parametrize('name', ['gamma', 'contrast', 'gaussian_blur'])
def test_a_flat_image_stays_flat_with_a_finite_gradient(name, value):
  image = jnp.full((6, 5, 2), value)
  np.testing.assert_allclose(draw(name, image), image, rtol=1e-5)
  function = getattr(augment, name)
  total = lambda x: (
    function(jax.random.key(0), {'image': x}, p=1)['image'] ** 2
  ).sum()
  assert jnp.isfinite(jax.jit(jax.grad(total))(image)).all()
