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
  """(low pass, high pass) of a family of wavelets, to convolve with."""
  low = LOW[family][::-1]
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
  turns = (
    kernels.rotations(planar) if invariant else [((0, 1, 2), (False,) * 3)]
  )

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
  """With zeros in between; one more at the end makes the number odd."""
  size = len(kernel) * by
  found = np.zeros(size + 1 - size % 2)
  found[:size:by] = kernel
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
    return (
      (-1j) ** total * scale * jnp.where(distance > 0, product / safe**total, 0)
    )

  return response


def simoncelli(
  image, *, level=1, order=None, boundary='periodic', planar=False
):
  """Simoncelli's wavelet of a level; with `order` its Riesz transform."""
  band = simoncelli_response(level)

  def response(frequencies):
    found = band(frequencies)
    return (
      found if order is None else found * riesz_response(order)(frequencies)
    )

  def apply(part):
    return convolve.by_response(part, response, boundary)

  if not planar:
    return apply(image)
  return jnp.stack([apply(image[..., k]) for k in range(image.shape[2])], -1)


def riesz_laplacian(image, *, sigma, order, boundary='zero', cutoff=4.0):
  """Riesz' transform of the Laplacian of a Gaussian of `sigma` (3,) voxels.

  Both on the image as it goes on beyond its edge by half its size.
  """
  margins = [n // 2 for n in image.shape]
  wide = image
  for axis, margin in enumerate(margins):
    wide = convolve.padded(wide, margin, margin, axis, boundary)
  wide = kernels.laplacian(wide, sigma=sigma, boundary=boundary, cutoff=cutoff)
  found = convolve.by_response(wide, riesz_response(order), 'periodic')
  inner = zip(margins, image.shape, strict=True)
  return found[tuple(slice(m, m + n) for m, n in inner)]
