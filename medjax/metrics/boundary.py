"""Boundary IoU: overlap of the rims of two masks; host, 2-D and 3-D."""

import numpy as np
from scipy import ndimage

from medjax.metrics import inputs
from medjax.metrics.inputs import Mask

_SLACK = 1e-6  # spacings are float32 in headers


def rim(mask: Mask, *, spacing, width) -> np.ndarray:
  """Voxels of the mask with a voxel outside of it within `width` mm.

  Between centres; outside the image is outside the mask. One voxel wide it is
  medjax.metrics.surface.surface.
  """
  mask = np.asarray(inputs.mask(mask))
  spacing = inputs.spacing(spacing, mask.ndim)
  if not width > 0:
    raise ValueError(f'width must be positive, not {width}')
  depth = ndimage.distance_transform_edt(np.pad(mask, 1), spacing)
  inner = depth[(slice(1, -1),) * mask.ndim]
  return mask & (inner <= width * (1 + _SLACK))


def boundary_iou(prediction: Mask, reference: Mask, *, spacing, width) -> float:
  """IoU of the rims of two masks, `width` mm wide.

  Cheng et al. 2021, eq. 3, with Euclidean distances in mm (their program
  erodes by squares of pixels): unlike the IoU it does not forgive large
  objects their borders. NaN when both masks are empty, 0 when one is.
  """
  prediction, reference = map(np.asarray, inputs.masks(prediction, reference))
  a, b = (rim(x, spacing=spacing, width=width) for x in (prediction, reference))
  union = np.count_nonzero(a | b)
  return np.count_nonzero(a & b) / union if union else float('nan')
