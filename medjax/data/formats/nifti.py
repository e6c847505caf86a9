"""NIfTI files (.nii, .nii.gz)."""

import logging

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from medjax.data.formats import raw
from medjax.data.formats.volume import Volume

SUFFIXES = ('.nii', '.nii.gz')
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_COLOURS = {nib.nifti1.data_type_codes.dtype[n] for n in ('RGB', 'RGBA')}
# nibabel mends what it can of a header, and would say so for each file.
_SILENT = logging.Logger('silent', logging.CRITICAL + 1)


def matches(head):
  """Whether the first bytes of a file are a NIfTI header (or any gzip)."""
  return head[:2] == b'\x1f\x8b' or head[344:348] in (b'n+1\0', b'n+2\0')


def read(path):
  """Reads 2-D, 3-D or 4-D voxels; the last of four axes holds channels.

  The header's slope and intercept are applied. Integers without a slope keep
  their dtype, everything else becomes float32.
  """
  header, packed = _header(path)
  try:
    with np.errstate(all='ignore'):
      affine = np.asarray(header.get_best_affine(), np.float64)
      dtype = header.get_data_dtype()
      scaling = header.get_slope_inter()
      shape = tuple(int(n) for n in header.get_data_shape())
      offset = int(header['vox_offset']) or header.sizeof_hdr + 4
  except Exception as e:  # of a dozen kinds, about fields that cannot be
    raise ValueError(
      f'{path}: damaged NIfTI header ({_line(e)}); copy it again'
    ) from None
  if dtype.kind not in 'iuf' and dtype not in _COLOURS:
    raise ValueError(f'{path}: cannot read voxels of type {dtype}')
  if offset < header.sizeof_hdr:
    raise ValueError(f'{path}: damaged NIfTI header (vox_offset {offset})')
  while len(shape) > 3 and shape[3] == 1:  # a time axis of one
    shape = shape[:3] + shape[4:]
  if not 2 <= len(shape) <= 4:
    raise ValueError(
      f'{path}: has shape {shape}; needs 2 or 3 spatial axes and at most one '
      'of channels'
    )
  voxels = raw.read_voxels(path, shape, dtype, packed=packed, skip=offset)
  voxels = _values(voxels, *scaling)
  meta = {'format': 'nifti', 'unit': 'mm'}
  rank = min(len(shape), 3)
  if rank == 2:
    meta['affine'] = affine  # where the slice lies, for writing it back
    affine = np.diag([*np.linalg.norm(affine[:3, :2], axis=0), 1.0])
  if voxels.ndim == rank:
    voxels = voxels[..., None]
  if voxels.ndim != rank + 1:
    raise ValueError(f'{path}: has colours and {len(shape)} axes; needs 3')
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


def _header(path):
  """The header, and whether the file is compressed."""
  with open(path, 'rb') as f:
    packed = f.read(2) == b'\x1f\x8b'
  head = raw.unpacked_head(path, 540)
  for size, kind in _HEADERS.items():
    block, sizes = head[:size], (size.to_bytes(4, 'little'), size.to_bytes(4))
    if block[:4] not in sizes:
      continue
    if len(block) < size:
      break
    header = kind(block, check=False)
    if header['magic'].item() not in (b'n+1', b'n+2'):
      break
    try:
      header.check_fix(_SILENT, error_level=40)
    except Exception as e:
      raise ValueError(
        f'{path}: damaged NIfTI header ({_line(e)}); copy it again'
      ) from None
    return header, packed
  raise ValueError(
    f'{path}: not a NIfTI file, or cut off in its header; copy it again or '
    'convert it with dcm2niix'
  )


def _values(voxels, slope, intercept):
  """Scaled voxels; what is not an integer as float32."""
  if voxels.dtype.fields:  # RGB(A)
    return np.stack([voxels[name] for name in voxels.dtype.names[:3]], -1)
  with np.errstate(all='ignore'):  # what overflows is refused with the NaN
    voxels = apply_read_scaling(voxels, slope, intercept)
    if voxels.dtype.kind == 'f':
      voxels = voxels.astype(np.float32, copy=False)
  return voxels


def _line(error):
  return ' '.join(str(error).split()) or type(error).__name__
