"""NIfTI files (.nii, .nii.gz)."""

import zlib

import nibabel as nib
import numpy as np

from medjax.data.formats.volume import Volume

SUFFIXES = ('.nii', '.nii.gz')


def matches(head):
  """Whether the first bytes of a file are a NIfTI header (or any gzip)."""
  return head[:2] == b'\x1f\x8b' or head[344:348] in (b'n+1\0', b'n+2\0')


def read(path):
  """Reads 2-D, 3-D or 4-D voxels; the last of four axes holds channels.

  The header's slope and intercept are applied. Integers without a slope keep
  their dtype, everything else becomes float32.
  """
  try:
    image = nib.load(path)
    voxels = _voxels(image)
  except (EOFError, OSError, zlib.error) as e:
    raise ValueError(
      f'{path}: truncated or damaged NIfTI ({_line(e)}); copy it again'
    ) from None
  except nib.filebasedimages.ImageFileError:
    raise ValueError(
      f'{path}: not a NIfTI file, or cut off in its header; copy it again or '
      'convert it with dcm2niix'
    ) from None
  except ValueError as e:
    raise ValueError(f'{path}: cannot read its voxels ({_line(e)})') from None
  affine = np.asarray(image.affine, np.float64)
  meta = {'format': 'nifti', 'unit': 'mm'}
  rank = min(voxels.ndim, 3)
  if rank < 2:
    raise ValueError(f'{path}: has {voxels.ndim} axis; needs 2, 3 or 4')
  if rank == 2:
    meta['affine'] = affine  # where the slice lies, for writing it back
    affine = np.diag([*np.linalg.norm(affine[:3, :2], axis=0), 1.0])
  if voxels.ndim == rank:
    voxels = voxels[..., None]
  if voxels.ndim != rank + 1:
    raise ValueError(
      f'{path}: has shape {image.shape}; needs 2 or 3 spatial axes and at '
      'most one of channels'
    )
  return Volume(voxels, affine, '', meta)


def write(path, array, affine):
  """Writes voxels (*spatial[, C]) with a 3x3 (2-D) or 4x4 affine (mm, RAS)."""
  affine = np.asarray(affine, np.float64)
  if affine.shape == (3, 3):
    row, column = np.linalg.norm(affine[:2, :2], axis=0)
    affine = np.diag([row, column, 1.0, 1.0])
  array = np.asarray(array)
  if array.dtype == bool:
    array = array.astype(np.uint8)
  elif array.dtype in (np.int64, np.uint64):  # few readers take 64-bit labels
    array = array.astype(np.int32)
  elif array.dtype in (np.float64, np.float16):
    array = array.astype(np.float32)
  image = nib.Nifti1Image(array, affine)
  image.set_sform(affine, code=1)
  image.set_qform(affine, code=1, strip_shears=True)
  image.header.set_xyzt_units('mm')
  nib.save(image, path)


def _voxels(image):
  proxy = image.dataobj
  dtype = image.get_data_dtype()
  if dtype.fields:  # RGB(A) voxels
    voxels = np.asarray(proxy)
    return np.stack([voxels[name] for name in dtype.names[:3]], -1)
  if dtype.kind == 'c':
    raise ValueError('complex voxels')
  voxels = np.asanyarray(proxy)
  if voxels.dtype.kind == 'f' and voxels.dtype != np.float32:
    voxels = voxels.astype(np.float32)
  voxels = voxels.astype(voxels.dtype.newbyteorder('='), copy=False)
  while voxels.ndim > 3 and voxels.shape[3] == 1:  # a time axis of one
    voxels = np.squeeze(voxels, 3)
  return voxels


def _line(error):
  return ' '.join(str(error).split()) or type(error).__name__
