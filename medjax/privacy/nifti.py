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
# Size of the header → (its texts, name and place; where vox_offset is).
_FORMS = {
  348: (
    {'data_type': (4, 14), 'db_name': (14, 32), 'descrip': (148, 228),
     'aux_file': (228, 252), 'intent_name': (328, 344)},
    (108, 4),
  ),
  540: (
    {'descrip': (240, 320), 'aux_file': (320, 344), 'intent_name': (508, 524)},
    (168, 8),
  ),
}  # fmt: skip


def cleaned(data):
  """The bytes of a .nii.gz made of those of a .nii or .nii.gz."""
  data, size, order, offset = _opened(data)
  places, (at, width) = _FORMS[size]
  header = bytearray(data[:size])
  for start, stop in places.values():
    header[start:stop] = bytes(stop - start)
  header[at : at + width] = _offset_of(size + 4, width, order)
  return gzip.compress(bytes(header) + bytes(4) + data[offset:], 6, mtime=0)


def texts(data):
  """Names of the fields of a NIfTI file that hold text, 'extensions' too."""
  data, size, _, offset = _opened(data)
  places = {**_FORMS[size][0], 'extensions': (size, offset)}
  return [name for name, (a, b) in places.items() if data[a:b].strip(b'\0')]


def _opened(data):
  """(data, size of the header, order of its bytes, where its voxels are)."""
  if data[:2] == b'\x1f\x8b':
    try:
      data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
      raise RefusedError('not readable as NIfTI') from None
  for order in ('little', 'big'):
    size = int.from_bytes(data[:4], order)
    if size in _FORMS:
      at, width = _FORMS[size][1]
      offset = _offset(data[at : at + width], width, order)
      if size + 4 <= offset <= len(data):
        return data, size, order, offset
  raise RefusedError('not readable as NIfTI')


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
