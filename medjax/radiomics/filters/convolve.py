"""Convolution at the edge of an image: separable kernels, and by Fourier.

Axes of an image are (x, y, z). A kernel's middle lies on the voxel.
"""

import functools

import jax.numpy as jnp

# How an image goes on beyond its edge (IBSI 2, 2.3), as numpy has it.
BOUNDARIES = {
  'zero': 'constant',
  'nearest': 'edge',
  'periodic': 'wrap',
  'mirror': 'symmetric',
}


def padded(image, before, after, axis, boundary):
  """The image with voxels added at both ends of an axis."""
  mode = BOUNDARIES[boundary]
  widths = [(0, 0)] * image.ndim
  # A mirror shows no more than there is: wide kernels look again.
  while before or after:
    most = image.shape[axis]
    widths[axis] = min(before, most), min(after, most)
    image = jnp.pad(image, widths, mode=mode)
    before -= widths[axis][0]
    after -= widths[axis][1]
  return image


def along(image, kernel, axis, boundary):
  """Convolves one axis with a kernel of an odd number of taps."""
  taps = len(kernel)
  wide = padded(image, taps // 2, taps // 2, axis, boundary)
  size = image.shape[axis]

  def part(k):
    start = [0] * image.ndim
    start[axis] = taps - 1 - k
    stop = list(wide.shape)
    stop[axis] = start[axis] + size
    return wide[tuple(map(slice, start, stop))]

  return sum(float(kernel[k]) * part(k) for k in range(taps) if kernel[k])


def separable(image, kernels, boundary):
  """Convolves axis by axis; a kernel that is None leaves its axis."""
  for axis, kernel in enumerate(kernels):
    if kernel is not None:
      image = along(image, kernel, axis, boundary)
  return image


def in_plane(image, kernel, axes, boundary):
  """Convolves two axes with a kernel (m, n) of odd sides, which may be complex.

  By Fourier transform of what the boundary gives: kernels may be large.
  """
  reach = [side // 2 for side in kernel.shape]
  wide = image
  for axis, r in zip(axes, reach, strict=True):
    wide = padded(wide, r, r, axis, boundary)
  shape = [wide.shape[a] for a in axes]
  spectrum = jnp.fft.fftn(wide, axes=axes)
  response = jnp.fft.fftn(kernel, shape)
  index = [None] * image.ndim
  for axis in axes:
    index[axis] = slice(None)
  if axes[0] > axes[1]:
    response = response.T
  found = jnp.fft.ifftn(spectrum * response[tuple(index)], axes=axes)
  crop = [slice(None)] * image.ndim
  for axis, r in zip(axes, reach, strict=True):
    crop[axis] = slice(2 * r, 2 * r + image.shape[axis])
  return found[tuple(crop)]


def frequencies(shape):
  """Of each axis of a Fourier transform, from -1 to 1: 1 is Nyquist's."""
  # The standard's maps have them evenly from end to end, and no 0 if even.
  grids = [jnp.fft.ifftshift(jnp.linspace(-1, 1, n)) for n in shape]
  return jnp.meshgrid(*grids, indexing='ij')


def by_response(image, response, boundary):
  """Multiplies the spectrum with `response(frequencies)`; the real part.

  But for a periodic boundary half the image's size is added at each end.
  """
  wide, margins = image, [0] * image.ndim
  if boundary != 'periodic':
    margins = [n // 2 for n in image.shape]
  for axis, margin in enumerate(margins):
    wide = padded(wide, margin, margin, axis, boundary)
  spectrum = jnp.fft.fftn(wide)
  found = jnp.fft.ifftn(spectrum * response(frequencies(wide.shape))).real
  inner = zip(margins, image.shape, strict=True)
  return found[tuple(slice(m, m + n) for m, n in inner)]


def pooled(images, how):
  """The mean or the largest of responses, voxel by voxel.

  images: an iterable, of which one is held at a time.
  """
  if how == 'max':
    return functools.reduce(jnp.maximum, images)
  total, count = 0, 0
  for image in images:
    total, count = total + image, count + 1
  return total / count
