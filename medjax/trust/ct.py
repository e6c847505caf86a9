"""Corruptions of CT in Hounsfield units, in 2-D and 3-D; slices lie last.

Amounts are ours. Streaks and dose are of the image, not of a sinogram: right in
look and size, not in physics.
"""

import jax
import jax.numpy as jnp

from medjax.augment.resolution import along, gaussian_matrix

_PLANE = (0, 1)


def dose(key, image, std):
  """Noise of `std` HU with the spectrum of filtered back-projection.

  Its power rises with frequency as the ramp filter does, under a soft kernel's
  fall, in each slice by itself (Riederer et al. 1978).
  """
  white = jax.random.normal(key, image.shape)
  shape = [image.shape[a] for a in _PLANE]
  fy, fx = (jnp.fft.fftfreq(n) for n in shape)
  f = jnp.sqrt(fy[:, None] ** 2 + fx[None] ** 2)
  filter_ = jnp.sqrt(f) * jnp.exp(-((f / 0.3) ** 2))
  filter_ = filter_ / jnp.sqrt((filter_**2).mean())
  filter_ = filter_.reshape(*shape, *[1] * (image.ndim - 2))
  coloured = jnp.fft.ifft2(jnp.fft.fft2(white, axes=_PLANE) * filter_,
                           axes=_PLANE).real  # fmt: skip
  return image + std * coloured


def streak(key, image, amount):
  """Rays from a dense object at a random place, `amount` HU beside it."""
  place = jax.random.uniform(key, (2,), minval=0.2, maxval=0.8)
  phases = jax.random.uniform(
    jax.random.fold_in(key, 1), (4,), maxval=2 * jnp.pi
  )
  rows, columns = (image.shape[a] for a in _PLANE)
  y = (jnp.arange(rows) - place[0] * rows)[:, None]
  x = (jnp.arange(columns) - place[1] * columns)[None]
  angle = jnp.arctan2(y, x)
  far = jnp.sqrt(x**2 + y**2) / min(rows, columns)
  waves = sum(
    jnp.cos(k * angle + phase)
    for k, phase in zip((6, 10, 14, 22), phases, strict=True)
  )
  field = amount * waves / 4 / (1 + 4 * far)
  return image + field.reshape(rows, columns, *[1] * (image.ndim - 2))


def shift(key, image, amount):
  """All values `amount` HU higher: another scanner's calibration."""
  del key
  return image + amount


def blur(key, image, sigma):
  """A softer kernel: `sigma` pixels within each slice."""
  del key
  for axis in _PLANE:
    n = image.shape[axis]
    image = along(axis, gaussian_matrix(n, sigma, min(n, 12)), image)
  return image


def rings(key, image, amount):
  """Rings about the centre, `amount` HU: detector elements that differ."""
  rows, columns = (image.shape[a] for a in _PLANE)
  y = (jnp.arange(rows) - rows / 2)[:, None]
  x = (jnp.arange(columns) - columns / 2)[None]
  radius = jnp.sqrt(x**2 + y**2)
  each = jax.random.normal(key, (max(rows, columns),))
  field = amount * each[radius.astype(int)]
  return image + field.reshape(rows, columns, *[1] * (image.ndim - 2))


SUITE = {
  'dose': (dose, (10.0, 20.0, 40.0, 80.0, 120.0)),
  'streak': (streak, (50.0, 100.0, 200.0, 400.0, 800.0)),
  'shift': (shift, (5.0, 10.0, 20.0, 40.0, 80.0)),
  'blur': (blur, (0.5, 0.75, 1.0, 1.5, 2.0)),
  'rings': (rings, (5.0, 10.0, 20.0, 40.0, 80.0)),
}
