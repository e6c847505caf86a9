"""What a compressed frame says of itself: `stated_size(frame)`.

Decoders believe the frame, not the file's header, so that a few bytes could
have them ask for all memory there is.
"""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_FIRST_SCAN = 0xDA


def stated_size(frame):
  """(rows, columns, samples) of a JPEG, JPEG-LS or JPEG 2000 frame.

  None where its first bytes state no size.
  """
  at = frame[:512].find(b'\xff\x4f\xff\x51')  # behind boxes, if it has any
  if at >= 0:
    return _size_2000(frame[at + 4 : at + 42])
  if frame[:2] == b'\xff\xd8':
    return _size_jpeg(frame)
  return None


def _size_2000(siz):
  """From the SIZ marker: ITU-T T.800, A.5.1."""
  if len(siz) < 38:
    return None
  x, y, x0, y0 = (_number(siz[i : i + 4]) for i in (4, 8, 12, 16))
  return max(y - y0, 0), max(x - x0, 0), _number(siz[36:38])


def _size_jpeg(frame):
  """From the start of frame: ITU-T T.81, B.2.2; T.87 for JPEG-LS."""
  at = 2
  while at + 9 < len(frame):
    if frame[at] != 0xFF:
      return None
    marker = frame[at + 1]
    if marker == 0xFF:  # a filling byte
      at += 1
      continue
    if marker in _WITHOUT_LENGTH:
      at += 2
      continue
    if marker == _FIRST_SCAN:
      return None
    if marker in _START_OF_FRAME:
      rows, columns = _number(frame[at + 5 : at + 7]), frame[at + 7 : at + 9]
      return rows, _number(columns), frame[at + 9]
    at += 2 + _number(frame[at + 2 : at + 4])
  return None


def _number(data):
  return int.from_bytes(data, 'big')
