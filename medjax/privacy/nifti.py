"""NIfTI files without the texts of their headers: `cleaned(data)`.

descrip, aux_file, db_name, data_type, intent_name and all extensions go; voxels
and places stay. Nothing in a NIfTI file says whose it is, or of what part.
"""

import gzip
import struct
import zlib

from medjax.privacy.objects import RefusedError

KIND = 'nifti'
SUFFIXES = ('.nii', '.nii.gz')
# Size of the header → (where its texts are, where vox_offset is, its format).
_FORMS = {
  348: (((4, 14), (14, 32), (148, 228), (228, 252), (328, 344)), (108, 4)),
  540: (((240, 320), (320, 344), (508, 524)), (168, 8)),
}


def cleaned(data):
  """The bytes of a .nii.gz made of those of a .nii or .nii.gz."""
  if data[:2] == b'\x1f\x8b':
    try:
      data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
      raise RefusedError('not readable as NIfTI') from None
  for order in ('little', 'big'):
    size = int.from_bytes(data[:4], order)
    if size in _FORMS:
      return gzip.compress(_bare(data, size, order), 6, mtime=0)
  raise RefusedError('not readable as NIfTI')


def _bare(data, size, order):
  texts, (at, width) = _FORMS[size]
  header = bytearray(data[:size])
  offset = _offset(header[at : at + width], width, order)
  if not size + 4 <= offset <= len(data):
    raise RefusedError('not readable as NIfTI')
  for start, stop in texts:
    header[start:stop] = bytes(stop - start)
  header[at : at + width] = _offset_of(size + 4, width, order)
  return bytes(header) + bytes(4) + data[offset:]


def _offset(data, width, order):
  """vox_offset: a float in NIfTI-1, an integer in NIfTI-2."""
  if width == 8:
    return int.from_bytes(data, order)
  value = struct.unpack('<f' if order == 'little' else '>f', data)[0]
  return int(value) if value == value and abs(value) < 2**31 else 0


def _offset_of(value, width, order):
  if width == 8:
    return value.to_bytes(8, order)
  return struct.pack('<f' if order == 'little' else '>f', value)
