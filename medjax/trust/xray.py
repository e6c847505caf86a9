"""Corruptions of X-ray pictures: those of PneumoniaMNIST-C, on the device.

Kinds and amounts are MedMNIST-C's (Di Salvo et al. 2024, registry.py @ 8acfd27;
its blur has a sixth amount, which is left out). Images are (*s, C) in 0 to 1.
Amounts are for pictures of 224 pixels: blur, whose amount is a length, follows
the side; noise is that of a pixel at any size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.augment.resolution import along, gaussian_matrix

_SIDE = 224
# The luminance table of JPEG (ITU-T T.81, annex K.1).
_QUANTA = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ],
  np.float32,
)


def _shares(size, cells):
  """(cells as rows up to `size`, size): share of each cell that a pixel has."""
  width = size / cells
  left = jnp.arange(size)[:, None] * width
  pixel = jnp.arange(size)[None]
  overlap = jnp.minimum(left + width, pixel + 1) - jnp.maximum(left, pixel)
  inside = jnp.arange(size)[:, None] < cells
  return jnp.where(inside, jnp.maximum(overlap, 0), 0)


def pixelate(key, image, factor):
  """Fewer, larger pixels: a share `factor` of the side."""
  del key
  for axis in range(image.ndim - 1):
    size = image.shape[axis]
    shares = _shares(size, jnp.maximum(jnp.floor(size * factor), 1))
    down = shares / jnp.maximum(shares.sum(1, keepdims=True), 1e-6)
    up = shares.T / jnp.maximum(shares.sum(0)[:, None], 1e-6)
    image = along(axis, up @ down, image)
  return image


def jpeg_compression(key, image, quality):
  """JPEG at a quality of 1 to 100, each channel as luminance; of pictures."""
  del key
  scale = jnp.where(quality < 50, 5000 / quality, 200 - 2 * quality)
  quanta = jnp.clip(jnp.floor((_QUANTA * scale + 50) / 100), 1, 255)
  k, n = np.meshgrid(np.arange(8), np.arange(8), indexing='ij')
  dct = np.cos((2 * n + 1) * k * np.pi / 16) / 2
  dct[0] /= np.sqrt(2)
  height, width, channels = image.shape
  pad = [(0, -height % 8), (0, -width % 8), (0, 0)]
  blocks = jnp.pad(image, pad, 'edge') * 255 - 128
  h, w = (n // 8 for n in blocks.shape[:2])
  blocks = blocks.reshape(h, 8, w, 8, channels)
  waves = jnp.einsum(
    'ka,hawbc,lb->hkwlc', dct, blocks, dct, precision='highest'
  )
  table = quanta[None, :, None, :, None]
  waves = jnp.round(waves / table) * table
  back = jnp.einsum('ka,hkwlc,lb->hawbc', dct, waves, dct, precision='highest')
  back = back.reshape(8 * h, 8 * w, channels)[:height, :width]
  return (jnp.round(back) + 128) / 255


def gaussian_noise(key, image, std):
  """Adds white noise."""
  return image + std * jax.random.normal(key, image.shape)


def speckle_noise(key, image, std):
  """Noise as large as the image is bright."""
  return image * (1 + std * jax.random.normal(key, image.shape))


def impulse_noise(key, image, share):
  """Black and white pixels, half each."""
  drawn = jax.random.uniform(key, image.shape)
  noisy = jnp.where(drawn < share, 1.0, image)
  return jnp.where(drawn < share / 2, 0.0, noisy)


def shot_noise(key, image, photons):
  """Poisson noise of so many photons at white."""
  # The normal limit: counts are in the hundreds, and any shape compiles.
  spread = jnp.sqrt(jnp.maximum(image, 0) / photons)
  noisy = image + spread * jax.random.normal(key, image.shape)
  return jnp.round(noisy * photons) / photons


def gaussian_blur(key, image, kernel):
  """A Gaussian as torchvision's of this kernel size at 224 pixels."""
  del key
  sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
  for axis in range(image.ndim - 1):
    size = image.shape[axis]
    reach = max(1, round(8 * size / _SIDE))
    width = sigma * size / _SIDE
    image = along(axis, gaussian_matrix(size, width, reach), image)
  return image


def brightness(key, image, factor):
  """Brighter or darker by a factor."""
  del key
  return image * factor


def contrast(key, image, factor):
  """Spread about the mean."""
  del key
  mean = image.mean(tuple(range(image.ndim - 1)))
  return mean + (image - mean) * factor


def gamma(key, image, exponent):
  """Raised to a power."""
  del key
  return jnp.maximum(image, 0) ** exponent


UP, DOWN = (1.1, 1.2, 1.3, 1.4, 1.6), (0.9, 0.8, 0.7, 0.6, 0.4)
SUITE = {
  'pixelate': (pixelate, (0.8, 0.7, 0.6, 0.5, 0.4)),
  'jpeg_compression': (jpeg_compression, (50, 30, 15, 10, 7)),
  'gaussian_noise': (gaussian_noise, (0.04, 0.05, 0.06, 0.07, 0.08)),
  'speckle_noise': (speckle_noise, (0.05, 0.07, 0.10, 0.15, 0.20)),
  'impulse_noise': (impulse_noise, (0.005, 0.01, 0.013, 0.017, 0.02)),
  'shot_noise': (shot_noise, (300, 200, 150, 100, 80)),
  'gaussian_blur': (gaussian_blur, (3, 5, 7, 9, 11)),
  'brightness_up': (brightness, (1.1, 1.2, 1.3, 1.4, 1.5)),
  'brightness_down': (brightness, (0.9, 0.8, 0.7, 0.6, 0.5)),
  'contrast_up': (contrast, UP),
  'contrast_down': (contrast, DOWN),
  'gamma_up': (gamma, UP),
  'gamma_down': (gamma, DOWN),
}
