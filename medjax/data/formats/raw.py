"""Raw voxels behind a header: what it promises is read, and no more.

A header may lie, by damage or intent, and a small file may inflate to fill the
memory. So a promise is checked against the size of the file before anything is
allocated, and decompression stops where the promise ends.
"""

import math
import os
import pathlib
import zlib

import numpy as np

_RATIO = 1040  # bytes that one byte of deflate can stand for, and some more
_CHUNK = 2**18
_PIECE = 2**24
_GZIP = b'\x1f\x8b'
_MEMORY = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def count_of(path, shape):
  """How many voxels a shape has; ValueError unless it can be one."""
  if not shape or min(shape) < 1:
    raise ValueError(
      f'{path}: its header states the shape {tuple(shape)}, so no voxels; '
      'export it again'
    )
  return math.prod(int(n) for n in shape)


def check_promise(path, promised, *, packed=False, offset=0):
  """Refuses a header that promises more bytes than file or machine can hold.

  packed: what lies from byte `offset` on is gzip or zlib.
  """
  held = os.path.getsize(path) - offset
  if promised > max(held, 0) * (_RATIO if packed else 1):
    raise ValueError(
      f'{path}: truncated, or its header is damaged: it promises {promised} '
      f'bytes of voxels, and {max(held, 0)} bytes are there; copy it again'
    )
  if promised > _MEMORY:
    raise ValueError(
      f'{path}: needs {promised >> 30} GiB of memory, and this machine has '
      f'{_MEMORY >> 30}; crop or resample it elsewhere'
    )


def read_voxels(path, shape, dtype, *, packed=False, offset=0, skip=0):
  """Voxels of a file, (*shape) with the first axis fastest, native bytes.

  They start `skip` bytes into what is unpacked from byte `offset` on. Raises
  ValueError if there are fewer than `shape` says, or a checksum is wrong.
  """
  dtype = np.dtype(dtype)
  count = count_of(path, shape)
  check_promise(
    path, skip + count * dtype.itemsize, packed=packed, offset=offset
  )
  array = np.empty(count, dtype)
  with open(path, 'rb') as f:
    f.seek(offset)
    if packed:
      missing = _unpack(path, f, array, skip)
    else:
      f.seek(skip, os.SEEK_CUR)
      missing = array.nbytes - f.readinto(memoryview(array).cast('B'))
  if missing:
    raise ValueError(
      f'{path}: truncated: {missing} of {array.nbytes} bytes of voxels are '
      'missing; copy it again'
    )
  native = array.astype(dtype.newbyteorder('='), copy=False)
  return native.reshape(shape, order='F')


def read_ascii(path, shape, dtype, *, offset=0):
  """Voxels written as text, (*shape) with the first axis fastest."""
  dtype = np.dtype(dtype).newbyteorder('=')
  count = count_of(path, shape)
  check_promise(path, 2 * count - 1, offset=offset)
  with open(path, 'rb') as f:
    f.seek(offset)
    words = f.read().split()
  if len(words) < count:
    raise ValueError(
      f'{path}: truncated: {len(words)} of {count} voxels are there; copy it '
      'again'
    )
  kind = float if dtype.kind == 'f' else int
  try:
    array = np.fromiter(map(kind, words[:count]), dtype, count)
  except (ValueError, OverflowError):
    raise ValueError(
      f'{path}: damaged: its voxels are not {dtype} numbers; copy it again'
    ) from None
  return array.reshape(shape, order='F')


def unpacked_head(path, size):
  """The first `size` bytes of a file, or of what a gzip file holds."""
  with open(path, 'rb') as f:
    head = f.read(max(size, 2**16))
  if head[:2] != _GZIP:
    return head[:size]
  try:
    return zlib.decompressobj(47).decompress(head, size)
  except zlib.error:
    raise ValueError(f'{path}: damaged compression; copy it again') from None


def quoted(text):
  """What a header says (None: nothing), short enough for a line."""
  text = text or ''
  return repr(text if len(text) <= 60 else text[:57] + '...')


def numbers(path, field, text, *, count=None, kind=float):
  """The numbers in a header's field; ValueError naming the field."""
  try:
    values = [kind(word) for word in text.split()]
    known = kind is int or all(not math.isinf(v) for v in values)
  except ValueError:
    known = False
  if not known or (count is not None and len(values) != count):
    many = 'numbers' if count is None else f'{count} numbers'
    raise ValueError(
      f'{path}: its header field {field!r} is not {many}; mend the header'
    )
  return values


def data_file(path, name):
  """The file of voxels that a header names, which must lie beside it.

  Elsewhere is refused, or a header from anyone could have any file read.
  """
  parts = pathlib.PurePath(name)
  if parts.is_absolute() or '..' in parts.parts or '\0' in name or not name:
    raise ValueError(
      f'{path}: its voxels must lie beside it, not in {quoted(name)}; move them'
    )
  found = pathlib.Path(path).parent / parts
  if not found.is_file():
    raise FileNotFoundError(f'{path}: its file of voxels {found} is missing')
  return found


def _unpack(path, file, array, skip):
  """Fills `array` with what a file unpacks to; how many bytes are missing."""
  target = memoryview(array).cast('B')
  at, held, inflate = -skip, b'', zlib.decompressobj(47)
  beyond = len(target) + skip + _PIECE  # so much more is unpacked for its end
  try:
    while True:
      held = held or file.read(_CHUNK)
      if not held:  # without its end, so without its checksum
        return max(len(target) - max(at, 0), 1)
      piece = inflate.decompress(held, _PIECE)
      held = inflate.unconsumed_tail
      begin = min(max(-at, 0), len(piece))
      start = min(max(at, 0), len(target))
      wanted = piece[begin : begin + len(target) - start]
      target[start : start + len(wanted)] = wanted
      at += len(piece)
      if at > beyond:
        return 0  # far more follows than was promised: it is left there
      if inflate.eof:
        held = inflate.unused_data or file.read(_CHUNK)
        if not held.startswith(_GZIP):
          return max(len(target) - max(at, 0), 0)
        inflate = zlib.decompressobj(47)  # a file of several members
  except zlib.error:
    raise ValueError(
      f'{path}: damaged compression (a code or a checksum is wrong); copy it '
      'again'
    ) from None
