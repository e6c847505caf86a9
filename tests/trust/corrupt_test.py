"""Corruptions: severity 0 is the identity, and each does what it says."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from medjax.trust import corrupt, ct, mri, xray


def picture(seed=0, side=32):
  rng = np.random.default_rng(seed)
  smooth = np.add.outer(np.linspace(0, 150, side), np.linspace(0, 60, side))
  return (smooth + rng.integers(0, 40, (side, side))).astype(np.uint8)[
    ..., None
  ]


def volume(seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(0, 200, (12, 14, 6, 1)) - 300).astype(np.int16)


def case(image):
  return {'id': 'a', 'patient': 'a', 'image': image, 'mask': image[..., 0]}


def applied(kind, name, severity, image, seed=0):
  (found,) = corrupt.corrupted([case(image)], kind, name, severity, seed=seed)
  assert found['mask'] is not found['image']
  return found['image']


KINDS = [
  (kind, name, image)
  for kind, image in (('xray', picture(side=96)), ('mri', picture()),
                      ('mri', volume()), ('ct', volume()))
  for name in corrupt.SUITES[kind]
]  # fmt: skip


@pytest.mark.parametrize(('kind', 'name', 'image'), KINDS)
def test_severity_zero_is_the_identity_and_five_more_than_one(
  kind, name, image
):
  np.testing.assert_array_equal(applied(kind, name, 0, image), image)
  far = [
    np.abs(applied(kind, name, s, image).astype(float) - image).mean()
    for s in (1, 5)
  ]
  assert 0 <= far[0] < far[1]  # a slight blur is rounded away
  again = applied(kind, name, 5, image)
  assert again.dtype == image.dtype
  np.testing.assert_array_equal(again, applied(kind, name, 5, image))


def test_cases_differ_in_their_noise_and_chunks_do_not_matter():
  cases = [case(picture()) for _ in range(3)]
  one = [c['image'] for c in corrupt.corrupted(cases, 'xray', 'shot_noise', 2)]
  assert (one[0] != one[1]).any()
  odd = [case(picture()), case(picture(side=24)), case(picture())]
  other = [c['image'] for c in corrupt.corrupted(odd, 'xray', 'shot_noise', 2)]
  np.testing.assert_array_equal(one[0], other[0])
  np.testing.assert_array_equal(one[2], other[2])


KEY = jax.random.key(0)


def unit(image):
  return jnp.asarray(image, jnp.float32) / 255


@pytest.mark.parametrize('quality', [50, 10])
def test_jpeg_is_that_of_pillow(quality):
  image = picture()[:29, :27]
  found = 255 * np.asarray(xray.jpeg_compression(KEY, unit(image), quality))
  held = io.BytesIO()
  Image.fromarray(image[..., 0]).save(held, 'jpeg', quality=quality)
  wanted = np.asarray(Image.open(held), float)
  assert np.abs(found[..., 0] - wanted).mean() < 0.5
  assert np.abs(wanted - image[..., 0]).mean() > 5


def test_brightness_contrast_and_pixels_are_those_of_pillow():
  image = picture()
  plain = Image.fromarray(image[..., 0])
  for function, enhance, factor in (
    (xray.brightness, ImageEnhance.Brightness, 1.3),
    (xray.contrast, ImageEnhance.Contrast, 0.6),
  ):
    found = np.clip(
      255 * np.asarray(function(KEY, unit(image), factor)), 0, 255
    )
    wanted = np.asarray(enhance(plain).enhance(factor), float)
    np.testing.assert_allclose(found[..., 0], wanted, atol=1.01)
  small = plain.resize((16, 16), Image.Resampling.BOX)
  wanted = np.asarray(small.resize((32, 32), Image.Resampling.BOX), float)
  found = 255 * np.asarray(xray.pixelate(KEY, unit(image), 0.5))
  np.testing.assert_allclose(found[..., 0], wanted, atol=1.01)


def test_noise_has_the_spread_it_says():
  flat = jnp.full((200, 200, 1), 0.5)
  spread = lambda x: float(x.std())
  assert abs(spread(xray.gaussian_noise(KEY, flat, 0.06)) - 0.06) < 2e-3
  assert abs(spread(xray.speckle_noise(KEY, flat, 0.1)) - 0.05) < 2e-3
  shot = spread(xray.shot_noise(KEY, flat, 100.0))
  assert abs(shot - (0.5 / 100) ** 0.5) < 3e-3
  noisy = xray.impulse_noise(KEY, flat, 0.02)
  np.testing.assert_allclose((noisy == 0).mean(), 0.01, atol=3e-3)
  np.testing.assert_allclose((noisy == 1).mean(), 0.01, atol=3e-3)
  dose = ct.dose(KEY, jnp.zeros((64, 64, 4, 1)), 40.0)
  assert abs(spread(dose) - 40) < 2
  waves = np.abs(np.fft.fft2(dose[:, :, 0, 0]))
  assert waves[0, 0] < 0.05 * waves.mean()  # no noise of the mean


def test_ct_has_no_value_below_that_of_air():
  air = np.full((16, 16, 2, 1), -1000, np.int16)
  for name in ('dose', 'streak', 'rings'):
    found = applied('ct', name, 5, air)
    assert found.min() == -1024, name
    assert found.max() > -900
  padded = air.copy()
  padded[:4] = -3024
  assert applied('ct', 'dose', 5, padded).min() == -3024


def test_ghosts_stand_a_third_of_the_field_away():
  image = jnp.zeros((32, 48, 1)).at[14:18, 4:8].set(1)
  found = np.asarray(mri.ghosting(KEY, image, 0.9))[..., 0]
  assert found[15, 5 + 16] > 0.15
  assert found[15, 5 + 16] > 2 * found[15, 5 + 8]
  assert found[15, 5 + 16] > 2 * found[15, 5 + 16 + 8]


def test_bias_field_is_smooth_and_as_large_as_it_says():
  field = np.log(mri.bias_field(KEY, jnp.ones((20, 24, 10, 1)), 0.5))
  np.testing.assert_allclose(np.abs(field).max(), 0.5, atol=1e-5)
  assert np.abs(np.diff(field, 2, 0)).max() < 0.1


def test_motion_of_no_pixel_and_a_spike_of_nothing_change_nothing():
  image = unit(picture())
  for function in (mri.motion, mri.spike, mri.ghosting):
    np.testing.assert_allclose(function(KEY, image, 0.0), image, atol=1e-5)


def test_motion_leaves_things_where_they_are():
  spot = np.zeros((33, 41, 1), np.float32)
  spot[14:19, 18:23] = 1
  changed = 0
  for seed in range(8):
    found = np.asarray(mri.motion(jax.random.key(seed), spot, 3.0))[..., 0]
    smooth = ndimage.gaussian_filter(found, 2)
    place = np.unravel_index(smooth.argmax(), smooth.shape)
    assert np.abs(np.subtract(place, (16, 20))).max() <= 1
    changed += np.abs(found - spot[..., 0]).max() > 0.1
  assert changed == 8


def test_a_suite_that_is_for_other_images_is_refused():
  with pytest.raises(ValueError, match='no value below 0'):
    corrupt.check([{'id': 'a', 'image': picture()}], 'ct')
  with pytest.raises(ValueError, match='this is a volume'):
    corrupt.check([{'id': 'a', 'image': volume()}], 'xray')
  with pytest.raises(ValueError, match='known are xray, mri, ct'):
    corrupt.suite('xrays')
  constant = np.full((16, 16, 1), 7, np.int16)
  assert np.isfinite(applied('mri', 'spike', 5, constant)).all()
