"""Compressed frames without what a picture does not need: comments, tails.

JPEG, JPEG-LS and JPEG 2000 have room for text in their headers, all of them
after their ends. The compressed picture itself is not touched.
"""

import re
import struct

_SCAN = re.compile(rb'\xff[\x80-\xcf\xd8-\xfe]')
_JPEG_APPS = {
  0xE0: (b'JFIF\0', 14),  # without its thumbnail
  0xEE: (b'Adobe', 12),  # says which colours
  0xE8: (b'mrfx', 5),  # the same in JPEG-LS
}


def stripped(frame):
  """A frame of a JPEG family without comments; ValueError for a damaged one."""
  if frame[:2] == b'\xff\xd8':
    return _jpeg(frame)
  if frame[4:8] == b'jP  ':
    frame = _codestream(frame)
  if frame[:2] == b'\xff\x4f':
    return _jpeg_2000(frame)
  raise ValueError('a frame of its pixels is no JPEG stream')


def _segment(data, i):
  """(marker, end of the segment) at i."""
  while data[i : i + 2] == b'\xff\xff':
    i += 1
  if i + 4 > len(data) or data[i] != 0xFF:
    raise ValueError('a frame of its pixels is damaged')
  return i, data[i + 1], i + 2 + int.from_bytes(data[i + 2 : i + 4])


def _jpeg(data):
  out, i = [data[:2]], 2
  while True:
    if data[i : i + 2] == b'\xff\xd9':
      return b''.join([*out, b'\xff\xd9'])
    i, marker, end = _segment(data, i)
    if marker == 0xDA:
      found = _SCAN.search(data, end)
      if not found:  # no end: the picture may still be whole
        raise ValueError('a frame of its pixels has no end')
      end = found.start()
      out.append(data[i:end])
    elif 0xE0 <= marker <= 0xEF:
      name, size = _JPEG_APPS.get(marker, (b'?', 0))
      body = data[i + 4 : end]
      if body.startswith(name):
        body = body[:size]
        if marker == 0xE0:
          body = body[:12] + b'\0\0'
        head = struct.pack('>BBH', 0xFF, marker, len(body) + 2)
        out.append(head + body)
    elif marker != 0xFE:
      out.append(data[i:end])
    i = end


def _codestream(data):
  """The code stream in the boxes of a JP2 file."""
  i = 0
  while i + 8 <= len(data):
    size, kind = struct.unpack('>I4s', data[i : i + 8])
    if kind == b'jp2c':
      return data[i + 8 : i + size if size else None]
    if size < 8:
      break
    i += size
  raise ValueError('a frame of its pixels is damaged')


def _jpeg_2000(data):
  out, i = [data[:2]], 2
  while data[i : i + 2] != b'\xff\x90':
    i, marker, end = _segment(data, i)
    if marker != 0x64:
      out.append(data[i:end])
    i = end
  while data[i : i + 2] == b'\xff\x90':
    length = int.from_bytes(data[i + 6 : i + 10])
    end = i + length if length else data.rfind(b'\xff\xd9')
    if end < i + 12 or end > len(data):
      raise ValueError('a frame of its pixels is damaged')
    part, j = [data[i : i + 12]], i + 12
    while data[j : j + 2] != b'\xff\x93':
      j, marker, stop = _segment(data, j)
      if marker != 0x64:
        part.append(data[j:stop])
      j = stop
    part = b''.join([*part, data[j:end]])
    size = struct.pack('>I', len(part) if length else 0)
    out.append(part[:6] + size + part[10:])
    i = end
  return b''.join([*out, b'\xff\xd9'])


def run_length(frame, size):
  """An RLE frame, each of whose segments ends where its `size` bytes do."""
  count, *offsets = struct.unpack('<16I', frame[:64])
  if not 0 < count < 16:
    raise ValueError('a frame of its pixels is damaged')
  segments = []
  for start, stop in zip(
    offsets[:count], [*offsets[1:count], len(frame)], strict=True
  ):
    segments.append(_packed(frame[start:stop], size))
  starts, at = [], 64
  for segment in segments:
    starts.append(at)
    at += len(segment)
  head = struct.pack('<16I', count, *starts, *[0] * (15 - count))
  return head + b''.join(segments)


def _packed(data, size):
  i = done = 0
  while done < size:
    if i >= len(data):
      raise ValueError('a frame of its pixels is damaged')
    n = data[i]
    if n < 128:
      i, done = i + n + 2, done + n + 1
    elif n > 128:
      i, done = i + 2, done + 257 - n
    else:
      i += 1
  return data[:i] + b'\0' * (i % 2)
