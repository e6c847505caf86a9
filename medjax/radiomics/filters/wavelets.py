"""Filters of IBSI 2 by scale: separable wavelets, Simoncelli's, Riesz'.

All take an image (x, y, z) and are pure. Nothing is decimated.
"""

import math

import jax.numpy as jnp
import numpy as np

from medjax.radiomics.filters import convolve, kernels

_2, _3, _7, _10 = math.sqrt(2), math.sqrt(3), math.sqrt(7), math.sqrt(10)
_ROOT = math.sqrt(5 + 2 * _10)
# Scaling filters in closed form (Daubechies 1992, Ten Lectures, 6.4, 8.3).
LOW = {
  'haar': np.array([1, 1]) / _2,
  'db2': np.array([1 + _3, 3 + _3, 3 - _3, 1 - _3]) / (4 * _2),
  'db3': np.array([
    1 + _10 + _ROOT, 5 + _10 + 3 * _ROOT, 10 - 2 * _10 + 2 * _ROOT,
    10 - 2 * _10 - 2 * _ROOT, 5 + _10 - 3 * _ROOT, 1 + _10 - _ROOT,
  ]) / (16 * _2),
  'coif1': np.array([
    1 - _7, 5 + _7, 14 + 2 * _7, 14 - 2 * _7, 1 - _7, _7 - 3,
  ]) / (16 * _2),
}  # fmt: skip


def filters(family):
  """(low pass, high pass) of a family of wavelets, as they are convolved with."""
  low = LOW[family]
  high = low[::-1] * (-1.0) ** (np.arange(len(low)) + 1)
  return low, high


def separable(
  image, *, family, bands, level=1, boundary='mirror', invariant=None,
  planar=False,
):  # fmt: skip
  """The response of a wavelet's band of a level, 'LHL' for (x, y, z).

  Before a level its low pass goes along all axes, and the filters of each are
  twice as long, with zeros in between (à trous). invariant: 'mean' or 'max'
  over all turns by right angles.
  """
  low, high = filters(family)
  turns = kernels.rotations(planar) if invariant else [((0, 1, 2), (False,) * 3)]

  def response(turn):
    found = image
    for k in range(1, level + 1):
      chosen = bands if k == level else 'L' * len(bands)
      taps = [
        _stretched(high if b == 'H' else low, 2 ** (k - 1)) for b in chosen
      ]
      taps += [None] * (3 - len(taps))
      found = convolve.separable(found, kernels.turned(taps, turn), boundary)
    return found

  return convolve.pooled(map(response, turns), invariant or 'mean')


def _stretched(kernel, by):
  found = np.zeros(len(kernel) * by)
  found[::by] = kernel
  return found


def simoncelli_response(level):
  """The response of Simoncelli's wavelet at a level, of frequencies."""

  def response(frequencies):
    distance = jnp.sqrt(sum(f**2 for f in frequencies))
    top = 2.0 ** (1 - level)
    within = (distance >= top / 4) & (distance <= top)
    safe = jnp.where(within, distance, 1)
    return jnp.where(within, jnp.cos(jnp.pi / 2 * jnp.log2(2 * safe / top)), 0)

  return response


def laplacian_response(sigma):
  """The response of the Laplacian of a Gaussian, of `sigma` voxels."""

  def response(frequencies):
    square = sum((jnp.pi * f) ** 2 for f in frequencies)
    return -square * jnp.exp(-square * sigma**2 / 2)

  return response


def riesz_response(order):
  """The response of Riesz' transform of an order (l₁, l₂, l₃)."""
  total = sum(order)
  scale = math.sqrt(
    math.factorial(total) / math.prod(math.factorial(k) for k in order)
  )

  def response(frequencies):
    distance = jnp.sqrt(sum(f**2 for f in frequencies))
    product = math.prod(f**k for f, k in zip(frequencies, order, strict=True))
    safe = jnp.where(distance > 0, distance, 1)
    return (-1j) ** total * scale * jnp.where(
      distance > 0, product / safe**total, 0
    )

  return response


def simoncelli(image, *, level=1, order=None, boundary='periodic', planar=False):
  """Simoncelli's wavelet of a level, of an order of Riesz' with `order`."""
  return _in_fourier(image, simoncelli_response(level), order, boundary, planar)


def riesz_laplacian(image, *, sigma, order, boundary='periodic', planar=False):
  """Riesz' transform of the Laplacian of a Gaussian of `sigma` voxels."""
  return _in_fourier(image, laplacian_response(sigma), order, boundary, planar)


def _in_fourier(image, band, order, boundary, planar):
  def response(frequencies):
    found = band(frequencies)
    return found if order is None else found * riesz_response(order)(frequencies)

  def apply(part):
    margin = max(part.shape) // 2
    return convolve.by_response(part, response, boundary, margin)

  if not planar:
    return apply(image)
  return jnp.stack([apply(image[..., k]) for k in range(image.shape[2])], -1)
