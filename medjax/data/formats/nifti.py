"""NIfTI (.nii, .nii.gz), and pairs of .hdr and .img: NIfTI or Analyze 7.5."""

import logging
import pathlib

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from medjax.data.formats import raw
from medjax.data.formats.volume import Volume

SUFFIXES = ('.nii', '.nii.gz', '.hdr')
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_COLOURS = {nib.nifti1.data_type_codes.dtype[n] for n in ('RGB', 'RGBA')}
# nibabel mends what it can of a header, and would say so for each file.
_SILENT = logging.Logger('silent', logging.CRITICAL + 1)
_UNITS = {1: ('meter', 1e3), 2: ('mm', 1.0), 3: ('micron', 1e-3)}


def matches(head):
  """Whether the first bytes of a file are a NIfTI header (or any gzip)."""
  magic = head[344:348]
  return head[:2] == b'\x1f\x8b' or magic in (b'n+1\0', b'n+2\0', b'ni1\0')


def read(path):
  """Reads 2-D, 3-D or 4-D voxels; the last of four axes holds channels.

  The header's slope and intercept are applied. Integers without a slope keep
  their dtype, everything else becomes float32. Places are in mm, whatever the
  header's unit. What was assumed is in `meta['notes']`: which of two places
  that disagree was taken, and a voxel size or orientation that is missing.
  """
  path = pathlib.Path(path)
  if path.name.lower().endswith(('.img', '.img.gz')):
    path = path.with_name(
      path.name[: path.name.lower().rindex('.img')] + '.hdr'
    )
    if not path.is_file():
      raise FileNotFoundError(f'{path}: the header of an .img is missing')
  header, packed, notes = _header(path)
  data, least = path, header.sizeof_hdr
  if 'magic' not in header or header['magic'].item() == b'ni1':
    (data, packed), least = _beside(path), 0
  try:
    with np.errstate(all='ignore'):
      affine, more = _affine(header)
      dtype = header.get_data_dtype()
      scaling = header.get_slope_inter()
      shape = tuple(int(n) for n in header.get_data_shape())
      offset = int(header['vox_offset']) or (least and least + 4)
  except Exception as e:  # of a dozen kinds, about fields that cannot be
    raise ValueError(
      f'{path}: damaged NIfTI header ({_line(e)}); copy it again'
    ) from None
  if dtype.kind not in 'iuf' and dtype not in _COLOURS:
    raise ValueError(f'{path}: cannot read voxels of type {dtype}')
  if offset < least:
    raise ValueError(f'{path}: damaged NIfTI header (vox_offset {offset})')
  while len(shape) > 3 and shape[3] == 1:  # a time axis of one
    shape = shape[:3] + shape[4:]
  if not 2 <= len(shape) <= 4:
    raise ValueError(
      f'{path}: has shape {shape}; needs 2 or 3 spatial axes and at most one '
      'of channels'
    )
  voxels = raw.read_voxels(data, shape, dtype, packed=packed, skip=offset)
  voxels = _values(voxels, *scaling)
  meta = {'format': 'nifti', 'unit': 'mm'}
  if notes + more:
    meta['notes'] = notes + more
  rank = min(len(shape), 3)
  if rank == 2:
    meta['axes'] = 'xy'
    meta['affine'] = affine  # where the slice lies, for writing it back
    affine = np.diag([*np.linalg.norm(affine[:3, :2], axis=0), 1.0])
  if voxels.ndim == rank:
    voxels = voxels[..., None]
  if voxels.ndim != rank + 1:
    raise ValueError(f'{path}: has colours and {len(shape)} axes; needs 3')
  return Volume(voxels, affine, '', meta)


def write(path, array, affine):
  """Writes voxels (*spatial[, C]) with a 3x3 (2-D) or 4x4 affine (mm, RAS).

  Integers of 64 bits become 32 where these hold them.
  """
  affine = np.asarray(affine, np.float64)
  if affine.shape == (3, 3):
    row, column = np.linalg.norm(affine[:2, :2], axis=0)
    affine = np.diag([row, column, 1.0, 1.0])
  array = np.asarray(array)
  if array.dtype == bool:
    array = array.astype(np.uint8)
  elif array.dtype in (np.int64, np.uint64):  # few readers take 64-bit labels
    narrow = array.astype(np.int32)
    array = narrow if np.array_equal(narrow, array) else array
  elif array.dtype in (np.float64, np.float16):
    array = array.astype(np.float32)
  # nibabel writes 64 bits only where it is told to.
  image = nib.Nifti1Image(array, affine, dtype=array.dtype)
  image.set_sform(affine, code=1)
  image.set_qform(affine, code=1, strip_shears=True)
  image.header.set_xyzt_units('mm')
  nib.save(image, path)


def _affine(header):
  """(voxel → mm (4, 4), notes), by the sform, else the qform, else sizes."""
  affine = np.asarray(header.get_best_affine(), np.float64)
  if 'sform_code' not in header:
    return affine, ('no orientation in Analyze: taken as LAS',)
  notes = []
  name, scale = _UNITS.get(int(header['xyzt_units']) & 7, ('mm', 1.0))
  if scale != 1:
    notes.append(f'sizes are in {name}: turned into mm')
  sform, qform = int(header['sform_code']), int(header['qform_code'])
  if sform > 0 and qform > 0:
    moved = _largest_move(affine - header.get_qform(), header.get_data_shape())
    if moved > 0.1 * np.linalg.norm(affine[:3, :3], axis=0).min():
      notes.append(
        f'sform and qform disagree by up to {moved * scale:.3g} mm: the sform '
        'is taken'
      )
  elif sform <= 0 and qform <= 0:
    notes.append('no orientation in the header: taken as LAS')
  affine[:3] *= scale
  return affine, tuple(notes)


def _largest_move(difference, shape):
  """How far apart two affines put a corner of a volume."""
  ends = np.array([*shape, 1, 1, 1][:3]) - 1
  corners = np.array([*np.ndindex(2, 2, 2)]) * ends
  moved = corners @ difference[:3, :3].T + difference[:3, 3]
  return np.linalg.norm(moved, axis=1).max()


def _header(path):
  """The header, whether the file is compressed, and notes."""
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
    if header['magic'].item() not in (b'n+1', b'n+2', b'ni1'):
      if size == 540 or not str(path).lower().endswith('.hdr'):
        break
      header = nib.Spm99AnalyzeHeader(block, check=False)
    notes = _missing_sizes(header)
    try:
      header.check_fix(_SILENT, error_level=40)
    except Exception as e:
      raise ValueError(
        f'{path}: damaged NIfTI header ({_line(e)}); copy it again'
      ) from None
    return header, packed, notes
  raise ValueError(
    f'{path}: not a NIfTI file, or cut off in its header; copy it again or '
    'convert it with dcm2niix'
  )


def _beside(path):
  """The .img of a .hdr, and whether it is compressed."""
  stem = path.name[: -len('.hdr')]
  for ending in ('.img', '.img.gz', '.IMG', '.IMG.GZ'):
    found = path.with_name(stem + ending)
    if found.is_file():
      return found, ending.lower().endswith('.gz')
  raise FileNotFoundError(f'{path}: its voxels, {stem}.img, are missing')


def _missing_sizes(header):
  """The note on voxel sizes of 0, which nibabel makes 1, where they count."""
  rank = min(int(header['dim'][0]), 3)
  sizes = np.asarray(header['pixdim'][1 : rank + 1])
  placed = 'sform_code' in header and header['sform_code'] > 0
  if not placed and (sizes == 0).any():
    axes = ', '.join('xyz'[a] for a in np.flatnonzero(sizes == 0))
    return (f'voxel size 0 along {axes}: 1 mm is assumed',)
  return ()


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
