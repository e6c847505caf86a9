"""The body and its skin: where a path may begin."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

_AIR = -300.0  # HU between air and skin
_SMOOTH = 4.0  # mm, of the surface whose normals are taken


class Surface(NamedTuple):
  """Where paths may enter.

  voxels: (n, 3) indices.
  points: (n, 3), mm on the grid, their centres.
  normals: (n, 3) unit vectors into the body.
  depth: (x, y, z) float32, smoothed mm within, by which points are moved.
  """

  voxels: np.ndarray
  points: np.ndarray
  normals: np.ndarray
  depth: np.ndarray


def body(image, affine):
  """Where the body is, (x, y, z) bool, by what is brighter than air.

  The threshold is -300 HU where values reach below -500, as in CT, else
  Otsu's. The largest piece, without thin things beside it; axial slices are
  filled, so that lungs belong to it.
  """
  low = float(image.min())
  threshold = _AIR if low < -500 else otsu(image)
  solid = ndimage.binary_opening(image > threshold, iterations=1)
  pieces, count = ndimage.label(solid)
  if not count:
    return np.zeros(image.shape, bool)
  largest = 1 + np.argmax(np.bincount(pieces.ravel())[1:])
  return filled(pieces == largest, affine)


def otsu(image):
  """The threshold that parts the values into two groups best (Otsu 1979)."""
  counts, edges = np.histogram(image, 256)
  middles = (edges[1:] + edges[:-1]) / 2
  below = np.cumsum(counts)
  above = below[-1] - below
  total = np.cumsum(counts * middles)
  with np.errstate(invalid='ignore', divide='ignore'):
    apart = total / below - (total[-1] - total) / above
    between = below * above * apart**2
  return float(middles[np.nanargmax(between)])


def filled(mask, affine):
  """A mask whose holes in axial slices belong to it."""
  axis = int(np.abs(affine[2, :3]).argmax())
  slices = np.moveaxis(mask, axis, 0)
  found = np.stack([ndimage.binary_fill_holes(one) for one in slices])
  return np.moveaxis(found, 0, axis)


def entries(inside, where, spacing):
  """The `Surface` of a mask, in the voxels that `where` (bool) allows.

  Where the image is cut off, there is no skin.
  """
  voxels = np.argwhere(rim(inside) & where)
  depth = signed(inside, spacing)
  depth = ndimage.gaussian_filter(depth, _SMOOTH / np.asarray(spacing) / 2)
  slopes = np.gradient(depth, *spacing)
  normals = np.stack([g[tuple(voxels.T)] for g in slopes], -1)
  length = np.linalg.norm(normals, axis=-1, keepdims=True)
  normals = normals / np.maximum(length, 1e-6)
  return Surface(
    voxels, voxels * np.asarray(spacing), normals, depth.astype(np.float32)
  )


def rim(inside):
  """Voxels of a mask with a face neighbour within the grid that is outside."""
  outside = np.zeros(inside.shape, bool)
  for axis in range(3):
    a, out = (np.moveaxis(x, axis, 0) for x in (inside, outside))
    out[1:] |= ~a[:-1]
    out[:-1] |= ~a[1:]
  return inside & outside


def signed(mask, spacing):
  """Mm within a mask, negative outside; 0 between the two."""
  if mask.all() or not mask.any():
    return np.full(mask.shape, np.inf if mask.all() else -np.inf)
  inner = ndimage.distance_transform_edt(mask, sampling=spacing)
  outer = ndimage.distance_transform_edt(~mask, sampling=spacing)
  half = np.min(spacing) / 2
  return np.where(mask, inner - half, half - outer)
