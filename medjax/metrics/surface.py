"""Distances between the surfaces of two masks, in mm; host, 2-D and 3-D.

Conventions. A surface voxel is a voxel of the mask with a face neighbour (4 in
2-D, 6 in 3-D) outside it; outside the image counts as outside the mask. Its
point is the voxel's centre, and every surface voxel weighs the same. Distances
are Euclidean, from each surface voxel to the nearest of the other surface.

Where others differ:
- HD95 is the larger of the two directed 95th percentiles (linear), as MONAI.
  DeepMind's surface-distance takes the larger too, but of marching-cubes
  elements at the voxels' corners, weighted by area; MedPy takes one percentile
  of both sets pooled.
- ASSD is the mean over both sets pooled, as MONAI (symmetric=True); SimpleITK's
  average is the mean of the two directed means.
- masd() is that mean of two means.
- NSD counts surface voxels within the tolerance, as MONAI without subvoxels;
  DeepMind's is a share of surface area:
  medjax.metrics.subvoxel.
- SimpleITK's HausdorffDistanceImageFilter measures between the filled masks,
  and a voxel inside the other mask has distance 0: a hole in one mask counts
  less. Given the two surfaces as images it agrees with hausdorff().

Empty masks: the table in medjax.metrics.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import spatial

from medjax.metrics import inputs
from medjax.metrics.inputs import Mask

# Spacings are float32 in NIfTI headers: 1.0000001 mm is within 1 mm.
_SLACK = 1e-6


class SurfaceDistances(NamedTuple):
  """Distances in mm, one per surface voxel; empty for an empty mask.

  A distance to an empty mask is infinite.
  """

  to_reference: Float[np.ndarray, 'p']
  to_prediction: Float[np.ndarray, 'r']


def bounding_box(mask: Mask) -> tuple[slice, ...]:
  """Smallest box that holds all of the mask; empty slices when it is empty."""
  mask = _host(mask)
  box = []
  for axis in range(mask.ndim):
    others = tuple(a for a in range(mask.ndim) if a != axis)
    inside = np.flatnonzero(mask.any(others))
    box.append(slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 0))
  return tuple(box)


def _host(mask, name='mask'):
  return np.asarray(inputs.mask(mask, name=name))


def surface(mask: Mask) -> Bool[np.ndarray, '*s']:
  """Voxels of the mask with a face neighbour outside it."""
  mask = _host(mask)
  interior = mask.copy()
  for axis in range(mask.ndim):
    m, i = np.moveaxis(mask, axis, 0), np.moveaxis(interior, axis, 0)
    i[1:] &= m[:-1]
    i[:-1] &= m[1:]
    i[:1] = i[-1:] = False
  return mask & ~interior


def surface_distances(
  prediction: Mask, reference: Mask, *, spacing
) -> SurfaceDistances:
  """Distances from each surface to the other; spacing (n,) in mm.

  A k-d tree over the surface voxels: its cost follows the surface, not the
  image. Masks are bool, 0/1 or 0/255.

  Raises:
    ValueError: for label maps, and when shapes or spacing do not fit.
  """
  prediction = _host(prediction, 'prediction')
  reference = _host(reference, 'reference')
  inputs.same_shape(prediction, reference, names=('prediction', 'reference'))
  spacing = inputs.spacing(spacing, prediction.ndim)
  box = bounding_box(prediction | reference)
  edges = [surface(mask[box]) for mask in (prediction, reference)]
  points = [np.argwhere(edge) * spacing for edge in edges]
  return SurfaceDistances(
    _nearest(edges[0], points[0], edges[1], points[1]),
    _nearest(edges[1], points[1], edges[0], points[0]),
  )


def _nearest(edge, points, other_edge, other_points):
  if not len(other_points):
    return np.full(len(points), np.inf)
  distances = np.zeros(len(points))
  # A good prediction shares most of its surface: only the rest is searched.
  apart = ~other_edge[edge]
  if apart.any():
    tree = spatial.KDTree(other_points, balanced_tree=False)
    distances[apart], _ = tree.query(points[apart])
  return distances


def _undefined(d: SurfaceDistances):
  return not len(d.to_reference) or not len(d.to_prediction)


def hausdorff(d: SurfaceDistances, *, percentile=100.0) -> float:
  """Larger of the two directed percentiles of distance, mm.

  100 is the Hausdorff distance. NaN when a mask is empty.
  """
  if _undefined(d):
    return float('nan')
  return float(max(np.percentile(x, percentile) for x in d))


def hd95(d: SurfaceDistances) -> float:
  """Hausdorff distance at the 95th percentile, mm; NaN when a mask is empty."""
  return hausdorff(d, percentile=95.0)


def assd(d: SurfaceDistances) -> float:
  """Average symmetric surface distance, mm; NaN when a mask is empty.

  The mean over the surface voxels of both masks together (Heimann et al. 2009,
  section III-B).
  """
  if _undefined(d):
    return float('nan')
  return float(np.concatenate(d).mean())


def masd(d: SurfaceDistances) -> float:
  """Mean average surface distance, mm; NaN when a mask is empty.

  The mean of the two directed means, each surface worth the same however large
  (Reinke et al. 2024; SimpleITK's average Hausdorff distance of the surfaces).
  """
  if _undefined(d):
    return float('nan')
  return float(np.mean([x.mean() for x in d]))


def nsd(d: SurfaceDistances, *, tolerance) -> float:
  """Normalised surface Dice: share of both surfaces within `tolerance` mm.

  Nikolov et al. 2021, on surface voxels. NaN when both masks are empty, 0 when
  one is.
  """
  if not tolerance >= 0:
    raise ValueError(f'tolerance must be 0 mm or more, not {tolerance}')
  total = len(d.to_reference) + len(d.to_prediction)
  if not total:
    return float('nan')
  within = sum(np.count_nonzero(x <= tolerance + _SLACK) for x in d)
  return within / total
