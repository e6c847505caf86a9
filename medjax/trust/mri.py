"""Corruptions of MR images: field, noise and k-space, in 2-D and 3-D.

Images are (*s, C) in 0 to 1. k-space is that of the whole image or volume, and
the axis that is read line by line (phase encoding) its second. Amounts grow
from barely seen to severe; they are ours, kinds as in TorchIO (Pérez-García et
al. 2021).
"""

import itertools

import jax
import jax.numpy as jnp

from medjax.augment.resolution import along, gaussian_matrix

_PHASE = 1  # the axis of phase encoding


def _fourier(image):
  """k-space of each channel, its centre in the middle."""
  axes = tuple(range(image.ndim - 1))
  return jnp.fft.fftshift(jnp.fft.fftn(image, axes=axes), axes=axes)


def _back(waves):
  axes = tuple(range(waves.ndim - 1))
  return jnp.abs(jnp.fft.ifftn(jnp.fft.ifftshift(waves, axes=axes), axes=axes))


def _frequency(shape):
  """The lines of phase encoding, −n/2 … n/2 − 1, to be broadcast."""
  n = shape[_PHASE]
  lines = jnp.arange(n) - n // 2
  return lines.reshape([n if a == _PHASE else 1 for a in range(len(shape))])


def bias_field(key, image, amount):
  """A smooth field that multiplies: exp of a polynomial of third order.

  `amount` is the largest log of it (Van Leemput et al. 1999).
  """
  rank = image.ndim - 1
  axes = jnp.meshgrid(
    *(jnp.linspace(-1, 1, n) for n in image.shape[:-1]), indexing='ij'
  )
  powers = [p for p in itertools.product(range(4), repeat=rank)
            if 0 < sum(p) <= 3]  # fmt: skip
  weights = jax.random.uniform(key, (len(powers),), minval=-1, maxval=1)
  field = sum(
    w * jnp.prod(jnp.stack([x**e for x, e in zip(axes, p, strict=True)]), 0)
    for w, p in zip(weights, powers, strict=True)
  )
  field = field / jnp.maximum(jnp.abs(field).max(), 1e-6)
  return image * jnp.exp(amount * field)[..., None]


def ghosting(key, image, amount):
  """Every third line is weaker, but for the centre: ghosts along one axis."""
  del key
  lines = _frequency(image.shape)
  weaker = (lines % 3 == 0) & (jnp.abs(lines) > 1)
  return _back(_fourier(image) * jnp.where(weaker, 1 - amount, 1.0))


def spike(key, image, amount):
  """A wrong point of k-space, `amount` of the largest: stripes."""
  waves = _fourier(image)
  shape = image.shape[:-1]
  place = jax.random.uniform(key, (len(shape),), minval=0.25, maxval=0.75)
  spot = jnp.ones(())
  for axis, n in enumerate(shape):
    # Not the centre, which would be a brighter image only.
    at = jnp.floor(place[axis] * n)
    at = jnp.where(jnp.abs(at - n // 2) < 2, min(n // 2 + 2, n - 1), at)
    line = (jnp.arange(n) == at).astype(jnp.float32)
    spot = spot[..., None] * line
  top = jnp.abs(waves).max()
  return _back(waves + amount * top * spot[..., None])


def motion(key, image, amount):
  """The patient moves between lines: three shifts of up to `amount` pixels.

  Places are those at the time of the centre of k-space, which says where things
  are, so that the reference still lies where the image is.
  """
  waves, lines = _fourier(image), _frequency(image.shape)
  n, rank = image.shape[_PHASE], image.ndim - 1
  drawn = jax.random.uniform(key, (3,), minval=0.1, maxval=0.7)
  drawn = jnp.where(drawn > 0.4, drawn + 0.2, drawn)  # not in the middle fifth
  starts = jnp.concatenate([jnp.zeros(1), jnp.sort(drawn)])
  shifts = jax.random.uniform(
    jax.random.fold_in(key, 1), (3, rank), minval=-1, maxval=1
  )
  shifts = jnp.concatenate([jnp.zeros((1, rank)), shifts])
  shifts = amount * (shifts - shifts[(starts <= 0.5).sum() - 1])
  moved = waves
  for start, shift in zip(starts, shifts, strict=True):
    phase = 0.0
    for axis, size in enumerate(image.shape[:-1]):
      k = jnp.arange(size) - size // 2
      k = k.reshape([size if a == axis else 1 for a in range(image.ndim)])
      phase = phase + shift[axis] * k / size
    late = (lines + n // 2) >= start * n
    moved = jnp.where(late, waves * jnp.exp(-2j * jnp.pi * phase), moved)
  return _back(moved)


def rician_noise(key, image, std):
  """Noise of both channels of the receiver (Gudbjartsson & Patz 1995)."""
  real, imaginary = std * jax.random.normal(key, (2, *image.shape))
  return jnp.sqrt((image + real) ** 2 + imaginary**2)


def blur(key, image, sigma):
  """A wider point spread, of `sigma` voxels."""
  del key
  for axis in range(image.ndim - 1):
    n = image.shape[axis]
    image = along(axis, gaussian_matrix(n, sigma, min(n, 12)), image)
  return image


SUITE = {
  'bias_field': (bias_field, (0.15, 0.3, 0.45, 0.6, 0.8)),
  'ghosting': (ghosting, (0.15, 0.3, 0.45, 0.6, 0.8)),
  'spike': (spike, (0.02, 0.04, 0.08, 0.12, 0.2)),
  'motion': (motion, (0.5, 1.0, 2.0, 3.0, 4.0)),
  'rician_noise': (rician_noise, (0.02, 0.04, 0.06, 0.09, 0.12)),
  'blur': (blur, (0.5, 0.75, 1.0, 1.5, 2.0)),
}
