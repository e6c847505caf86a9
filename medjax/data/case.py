"""A case of a data set, checked.

A raw case is a dict: `image` (*spatial, C), `id`, `patient`, `affine` (n+1,
n+1), `spacing` (n,) and, where it has them, `mask` (*spatial,), `label`, `time`
and `event`, `covariates` (f,), further images, text. A case that is a row of a
table has no image, and neither affine nor spacing.
"""

import numpy as np

from medjax.data.formats import check_finite, is_invertible, spacing_of


def check_case(case):
  """Returns the case, or raises a ValueError naming its id and what is wrong.

  Checked: id and patient; image (*spatial, C) finite; mask of the image's
  spatial shape with integers ≥ 0; label a class index or a multi-hot vector;
  affine of the right size. `spacing` and a missing `patient` are filled in. A
  case may have no reference: the task says whether it can be used.
  """
  name = case.get('id')
  if not name or not isinstance(name, str):
    raise ValueError(f'a case has no id (a non-empty str), but {name!r}')
  if 'label' in case:
    _check_label(name, np.asarray(case['label']))
  patient = str(case.get('patient') or name)
  if 'image' not in case:
    return {**case, 'patient': patient}
  image = np.asarray(case['image'])
  n = image.ndim - 1
  if n not in (2, 3):
    raise ValueError(
      f'{name}: image has shape {image.shape}; needs 2 or 3 spatial axes and '
      'channels last'
    )
  if image.size == 0:
    raise ValueError(f'{name}: image has shape {image.shape}, so no voxels')
  check_finite(name, image)
  if 'mask' in case:
    _check_mask(name, np.asarray(case['mask']), image.shape[:n])
  affine = np.asarray(case.get('affine', np.eye(n + 1)), np.float64)
  if affine.shape != (n + 1, n + 1) or not is_invertible(affine):
    raise ValueError(
      f'{name}: affine must be an invertible {n + 1}x{n + 1} matrix (voxel '
      f'index → mm), not {affine.tolist()}'
    )
  return {
    **case,
    'patient': patient,
    'affine': affine,
    'spacing': spacing_of(affine),
  }


def _check_mask(name, mask, shape):
  if mask.shape != shape:
    raise ValueError(
      f'{name}: mask has shape {mask.shape} but the image {shape}; resample '
      "the mask to the image's grid"
    )
  if mask.dtype.kind not in 'iub':
    raise ValueError(
      f'{name}: mask holds {mask.dtype}; labels must be whole numbers'
    )
  if mask.dtype.kind == 'i' and mask.min() < 0:
    raise ValueError(
      f'{name}: mask holds {mask.min()}; labels start at 0 (background)'
    )


def _check_label(name, label):
  if label.dtype.kind not in 'iub':
    raise ValueError(f'{name}: label {label} is not a whole number')
  if label.ndim == 0 and label < 0:
    raise ValueError(f'{name}: label is {label}; classes start at 0')
  if label.ndim == 1 and label.max() > 1:
    raise ValueError(f'{name}: a multi-label vector holds 0 and 1, not {label}')
  if label.ndim > 1:
    raise ValueError(
      f'{name}: label has shape {label.shape}; needs one class index or a '
      'vector of 0 and 1'
    )
