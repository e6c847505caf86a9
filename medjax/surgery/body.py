"""The body and its skin: where a path may begin."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

_AIR = -300.0  # HU between air and skin
_LUNG = -950.0  # HU between lung and the air around a patient
_THIN = 0.25  # of a piece of air: less that is below `_LUNG` is lung
_GAS = 500.0  # mm², of air in a corner that may be of a trachea or a bowel
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

  The largest piece of `solid`, without thin things beside it; of axial slices
  the air that belongs to it is filled (`filled`), so that lungs belong to it,
  also those that the image cuts off.
  """
  # An opening, but one that takes the body to go on beyond the image.
  thick = ndimage.binary_erosion(solid(image), border_value=1)
  pieces, count = ndimage.label(ndimage.binary_dilation(thick))
  if not count:
    return np.zeros(image.shape, bool)
  largest = 1 + np.argmax(np.bincount(pieces.ravel())[1:])
  thin = None
  if tells(image):  # the median, because noise of lungs reaches far below
    thin = ndimage.median_filter(image, 3) < _LUNG
  return filled(pieces == largest, affine, thin)


def solid(image):
  """What is brighter than air, (x, y, z) bool.

  The threshold is -300 HU where values reach below -500, as in CT, else
  Otsu's.
  """
  return image > (_AIR if float(image.min()) < -500 else otsu(image))


def tells(image):
  """Whether an image tells lung from the air around a patient, as CT does."""
  return float(image.min()) < _LUNG


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


def filled(mask, affine, thin=None):
  """A mask, and the air in axial slices that belongs to it.

  A hole is air that reaches no side of its slice; air that reaches one is a
  hole that the image cuts off. Air that reaches more is around the patient,
  unless it is dense, such as lung, or a little in a corner, such as gas.

  thin: (x, y, z) bool, where there is less than lung; None: nobody knows, and
    no air is taken for lung by its density.
  """
  axis = int(np.abs(affine[2, :3]).argmax())
  area = np.prod(np.delete(np.linalg.norm(affine[:3, :3], axis=0), axis))
  if thin is None:
    thin = np.ones(mask.shape, bool)
  slices, thins = (np.moveaxis(x, axis, 0) for x in (mask, thin))
  found = [~_around(*both, area) for both in zip(slices, thins, strict=True)]
  return np.moveaxis(np.stack(found), 0, axis)


def _around(mask, thin, area):
  """Where the air around a mask is in a slice (h, w); area: of a pixel, mm²."""
  pieces, count = ndimage.label(~mask)
  reached = np.zeros((count + 1, 4), bool)
  sides = pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]
  for side, labels in enumerate(sides):
    reached[labels, side] = True
  reached = reached.sum(-1)
  sizes = np.bincount(pieces.ravel(), minlength=count + 1)
  share = np.bincount(pieces.ravel(), thin.ravel()) / np.maximum(sizes, 1)
  little = (reached == 2) & (sizes * area < _GAS)
  outer = (reached > 1) & (share >= _THIN) & ~little
  outer[0] = False  # the mask itself
  return outer[pieces]


def doubt(image, inside, affine):
  """What a reader must know of the skin: a sentence, or ''.

  Where a body reaches the sides of axial slices, an image other than CT does
  not tell whether the dark beside it is air or lung that the image cuts off.
  """
  axis = int(np.abs(affine[2, :3]).argmax())
  ends = np.moveaxis(inside, axis, 0)
  if tells(image) or not (ends[:, [0, -1]].any() or ends[:, :, [0, -1]].any()):
    return ''
  return (
    'The image ends within the body at its sides, and is no CT whose values '
    'tell lung from the air around a patient: see that paths begin at the '
    'skin, or name with --entry a structure in which it lies.'
  )


def entries(inside, where, spacing):
  """The `Surface` of a mask, in the voxels that `where` (bool) allows.

  Where the image is cut off, there is no skin.
  """
  voxels = np.argwhere(rim(inside) & where)
  if not len(voxels):  # also where nothing is outside, infinitely deep
    none = np.empty((0, 3))
    return Surface(voxels, none, none, np.zeros(inside.shape, np.float32))
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
