"""Where a region lies: in which organ, how deep, on which side."""

import numpy as np
from scipy import ndimage

_ABOUT = {
  'location_Organ': '',
  'location_OrganShare': '1',
  'location_Depth': 'mm',
  'location_Side': '',
  'location_MidlineDistance': 'mm',
  'location_RelativeRight': '1',
  'location_RelativeAnterior': '1',
  'location_RelativeSuperior': '1',
}


def features(mask, organs, affine, names=None):
  """{column: value} of a mask in a label map of organs, both (x, y, z).

  affine: (4, 4), voxel → mm, RAS. names: {label: name}.

  Organ: the one that holds the most of the region, or the nearest where none
  does; OrganShare: how much of it. Depth: from the region's centre to the
  organ's surface in mm, negative outside. Side: right or left of the middle of
  all organs; MidlineDistance: by how much, in mm, to the right. Relative…: the
  centre's place in the organ's box, 0 to 1. Raises ValueError for a label map
  without organs.
  """
  present = [int(v) for v in np.unique(organs) if v]
  if not present:
    raise ValueError('the label map of organs is empty')
  spacing = np.linalg.norm(affine[:3, :3], axis=0)
  at = np.argwhere(mask)
  centre = at.mean(0)
  labels, counts = np.unique(organs[mask], return_counts=True)
  counts = counts[labels > 0]
  labels = labels[labels > 0]
  if len(labels):
    organ, share = int(labels[counts.argmax()]), counts.max() / len(at)
  else:
    outside, nearest = ndimage.distance_transform_edt(
      organs == 0, sampling=spacing, return_indices=True
    )
    closest = tuple(at[outside[mask].argmin()])
    organ, share = int(organs[tuple(i[closest] for i in nearest)]), 0.0
  body = organs == organ
  world = _world(affine, centre)
  low, high = _box(affine, body)
  every = _box(affine, organs > 0)
  aside = world[0] - (every[0][0] + every[1][0]) / 2
  relative = (world - low) / np.maximum(high - low, 1e-9)
  return {
    'location_Organ': str((names or {}).get(organ, organ)),
    'location_OrganShare': float(share),
    'location_Depth': _depth(body, centre, spacing),
    'location_Side': 'right' if aside > 0 else 'left',
    'location_MidlineDistance': float(aside),
    **dict(zip(list(_ABOUT)[5:], map(float, relative), strict=True)),
  }


def described(column):
  """What a column is, for the JSON beside a table."""
  return {'ibsi': None, 'unit': _ABOUT[column] or 'text'}


def _world(affine, places):
  return places @ affine[:3, :3].T + affine[:3, 3]


def _box(affine, mask):
  """The corners of a mask's box in mm, along the axes of the patient."""
  at = _world(affine, np.argwhere(mask))
  return at.min(0), at.max(0)


def _depth(body, centre, spacing):
  """Distance in mm from a place to the surface, half a voxel beyond centres."""
  at = tuple(np.rint(centre).astype(int))
  half = spacing.min() / 2
  if body[at]:
    wide = np.pad(body, 1)
    found = ndimage.distance_transform_edt(wide, sampling=spacing)
    return float(found[1:-1, 1:-1, 1:-1][at] - half)
  return float(
    half - ndimage.distance_transform_edt(~body, sampling=spacing)[at]
  )
