"""Filters of IBSI 2 by convolution: mean, Laplacian of Gaussian, Laws, Gabor.

All take an image (x, y, z) and are pure; lengths are in voxels.
"""

import itertools

import jax.numpy as jnp
import numpy as np

from medjax.radiomics.filters import convolve

LAWS = {
  'L5': (1, 4, 6, 4, 1),
  'E5': (-1, -2, 0, 2, 1),
  'S5': (-1, 0, 2, 0, -1),
  'W5': (-1, 2, 0, -2, 1),
  'R5': (1, -4, 6, -4, 1),
  'L3': (1, 2, 1),
  'E3': (-1, 0, 1),
  'S3': (-1, 2, -1),
}
GABOR_REACH = 4  # of its kernel, in standard deviations


def mean(image, *, size, boundary='mirror', planar=False):
  """The mean over a cube, or a square of a slice, of odd `size`."""
  kernel = np.full(size, 1 / size)
  kernels = [kernel] * 3
  if planar:
    kernels[2] = None
  return convolve.separable(image, kernels, boundary)


def laplacian(image, *, sigma, boundary='mirror', cutoff=4.0, planar=False):
  """The Laplacian of a Gaussian of `sigma` (3,), cut off at so many of it.

  The kernel is that of the standard: a sum of as many separable ones as there
  are axes.
  """
  axes = range(2 if planar else 3)
  gauss, second = {}, {}
  for axis in axes:
    s = sigma[axis]
    reach = int(cutoff * s + 0.5)
    k = np.arange(-reach, reach + 1)
    gauss[axis] = np.exp(-(k**2) / (2 * s**2)) / (np.sqrt(2 * np.pi) * s)
    second[axis] = gauss[axis] * (k**2 / s**4 - 1 / s**2)
  total = 0
  for chosen in axes:
    kernels = [
      None if a not in axes else (second if a == chosen else gauss)[a]
      for a in range(3)
    ]
    total = total + convolve.separable(image, kernels, boundary)
  return total


def rotations(planar):
  """Turns by right angles as (order of axes, whether each is flipped).

  The 24 of a cube, or the 4 of a square.
  """
  found = []
  for order in itertools.permutations(range(3)):
    if planar and order[2] != 2:
      continue
    for flips in itertools.product((False, True), repeat=3):
      if planar and flips[2]:
        continue
      matrix = np.zeros((3, 3))
      matrix[range(3), order] = np.where(flips, -1, 1)
      if np.linalg.det(matrix) > 0:
        found.append((order, flips))
  return found


def turned(kernels, rotation):
  """The kernels of the axes under a turn."""
  order, flips = rotation
  return [
    None if kernels[a] is None else kernels[a][:: -1 if flip else 1]
    for a, flip in zip(order, flips, strict=True)
  ]


def laws(
  image, *, kernels, boundary='mirror', invariant=None, energy=None,
  planar=False,
):  # fmt: skip
  """Laws' kernels along the axes, 'E5L5S5', normalised to length 1.

  invariant: 'max' or 'mean' over all turns by right angles. energy: the mean
  of absolute responses over so many voxels around.
  """
  names = [kernels[i : i + 2] for i in range(0, len(kernels), 2)]
  taps = [np.array(LAWS[n]) / np.linalg.norm(LAWS[n]) for n in names]
  taps += [None] * (3 - len(taps))
  turns = rotations(planar) if invariant else [((0, 1, 2), (False,) * 3)]
  found = convolve.pooled(
    (convolve.separable(image, turned(taps, r), boundary) for r in turns),
    invariant or 'max',
  )
  if energy is None:
    return found
  return mean(
    jnp.abs(found), size=2 * energy + 1, boundary=boundary, planar=planar
  )


def gabor(
  image, *, sigma, wavelength, gamma=1.0, theta=0.0, step=None,
  boundary='mirror', planar=True,
):  # fmt: skip
  """The modulus of Gabor's filter in slices (IBSI 2, 3.5).

  theta: the angle in degrees, from x to y, clockwise. step: the mean over all
  angles of a circle by this. planar: in slices along z alone, else the mean
  over those along all axes.
  """
  # Half a turn on, a real image's modulus is the same.
  turn = 360 if step is None or 180 % step else 180
  angles = [theta] if step is None else np.arange(0, turn, step)
  planes = ((0, 1),) if planar else ((0, 1), (1, 2), (0, 2))
  reach = int(np.ceil(GABOR_REACH * sigma * max(1, 1 / gamma)))
  k = np.arange(-reach, reach + 1)
  u, v = np.meshgrid(k, k, indexing='ij')

  def responses():
    for axes in planes:
      for angle in angles:
        a = np.deg2rad(angle)
        x = u * np.cos(a) + v * np.sin(a)
        y = -u * np.sin(a) + v * np.cos(a)
        kernel = np.exp(
          -(x**2 + gamma**2 * y**2) / (2 * sigma**2)
          + 2j * np.pi * x / wavelength
        )
        yield jnp.abs(convolve.in_plane(image, kernel, axes, boundary))

  return convolve.pooled(responses(), 'mean')
