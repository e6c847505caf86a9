"""FreeSurfer's volumes (.mgh, .mgz); only read."""

import nibabel.freesurfer.mghformat as mgh
import numpy as np

from medjax.data.formats import raw
from medjax.data.formats.volume import Volume

SUFFIXES = ('.mgh', '.mgz')
_HEADER = 284  # bytes before the voxels
_DTYPES = {0: '>u1', 1: '>i4', 3: '>f4', 4: '>i2', 10: '>u2'}


def matches(head):
  """Whether the first bytes of a file are an MGH header of version 1."""
  return head[:4] == b'\0\0\0\1' and head[20:24] in {
    k.to_bytes(4) for k in _DTYPES
  }


def read(path):
  """Reads 3-D voxels; frames are channels. Places are scanner RAS, in mm."""
  head = raw.unpacked_head(path, _HEADER)
  if len(head) < _HEADER or not matches(head):
    raise ValueError(f'{path}: not an MGH file; copy it again')
  *shape, frames, kind = np.frombuffer(head, '>i4', 5, 4).tolist()
  dtype = np.dtype(_DTYPES[kind])
  try:
    header = mgh.MGHHeader(head[: mgh.MGHHeader.template_dtype.itemsize])
    affine = np.asarray(header.get_affine(), np.float64)
  except Exception as e:  # of several kinds, about fields that cannot be
    said = ' '.join(str(e).split()) or type(e).__name__
    raise ValueError(f'{path}: damaged MGH header ({said})') from None
  with open(path, 'rb') as f:
    packed = f.read(2) == b'\x1f\x8b'
  voxels = raw.read_voxels(
    path, (*shape, frames), dtype, packed=packed, skip=_HEADER
  )
  meta = {'format': 'mgh', 'unit': 'mm'}
  if int.from_bytes(head[28:30]) <= 0:
    meta['notes'] = ('no orientation in the header: taken as coronal, 1 mm',)
  return Volume(voxels, affine, '', meta)
