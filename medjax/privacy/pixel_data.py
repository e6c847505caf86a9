"""Pixel data as long as its header says, and without room for text.

Nothing of the picture changes: padding behind native pixels, comments in
compressed frames, fragments behind the last frame and overlays in unused bits
are left out. `RefusedError` where the data are not what the header says.
"""

import numpy as np
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from medjax.privacy import codestreams, values
from medjax.privacy.objects import RefusedError

_PIXELS = 0x7FE00010
_VIDEO = ('MPEG', 'HEVC', 'SMPTE')


def size_of(dataset):
  """(frames, rows, columns, samples) of an image; None for no image."""
  try:
    rows, columns = dataset.get('Rows'), dataset.get('Columns')
    if not rows or not columns:
      return None
    frames = int(dataset.get('NumberOfFrames') or 1)
    return (
      frames,
      int(rows),
      int(columns),
      int(dataset.get('SamplesPerPixel', 1)),
    )
  except (TypeError, ValueError):
    raise RefusedError('the size of its image is no number') from None


def copied(dataset, new, syntax, identifiers):
  """Puts the pixel data of one data set into another that was made of it."""
  tags = [t for t in (0x7FE00010, 0x7FE00008, 0x7FE00009) if t in dataset]
  if not tags:
    return
  size = size_of(dataset)
  if size is None:
    raise RefusedError('pixel data without Rows and Columns')
  element = dataset.get_item(tags[0])
  data = values.element_bytes(element, 'OB')
  if len(tags) > 1 or not data:
    raise RefusedError('pixel data that are empty, or twice')
  if tags[0] != _PIXELS:
    width = 4 if tags[0] == 0x7FE00008 else 8
    data, vr = _native(data, int(np.prod(size)) * width), 'OF'
    vr = 'OF' if width == 4 else 'OD'
  elif syntax.is_encapsulated:
    if _has_embedded_overlay(dataset):
      raise RefusedError('an overlay within compressed pixels')
    data, vr = _frames(data, size, syntax, dataset), 'OB'
  else:
    bits = int(dataset.get('BitsAllocated') or 8)
    data = _native(data, _length(dataset, size, bits))
    data = _without_overlays(dataset, data, bits)
    vr = 'OB' if bits <= 8 and not syntax.is_implicit_VR else 'OW'
  if identifiers.in_bytes(data, least=8):
    raise RefusedError('an identifier is written into the bytes of its pixels')
  element = values.new(tags[0], vr, data)
  element.is_undefined_length = syntax.is_encapsulated and tags[0] == _PIXELS
  new.add(element)


def _length(dataset, size, bits):
  """Bytes of native pixel data, PS3.5 8.1.1 and A.1 to A.4."""
  frames, rows, columns, samples = size
  pixels = frames * rows * columns
  if bits == 1:
    return (pixels * samples + 7) // 8
  if dataset.get('PhotometricInterpretation') == 'YBR_FULL_422':
    return pixels * 2 * (bits // 8)
  return pixels * samples * (bits // 8)


def _native(data, length):
  if len(data) < length:
    raise RefusedError('its pixel data are shorter than its header says')
  return data[:length] + b'\0' * (length % 2)


def _has_embedded_overlay(dataset):
  positions = [t for t in list(dataset.keys()) if t & 0xFF00FFFF == 0x60000102]
  return any(dataset[t].value for t in positions)


def _without_overlays(dataset, data, bits):
  """Native pixels whose unused bits, where an overlay lay, repeat the sign."""
  if not _has_embedded_overlay(dataset):
    return data
  stored = int(dataset.get('BitsStored') or bits)
  high = int(dataset.get('HighBit', stored - 1))
  if bits not in (8, 16, 32) or high != stored - 1:
    raise RefusedError('an overlay in the bits of its pixels')
  order = '<' if dataset.original_encoding[1] else '>'
  kind = 'i' if dataset.get('PixelRepresentation') else 'u'
  array = np.frombuffer(data[: len(data) // (bits // 8) * (bits // 8)],
                        f'{order}{kind}{bits // 8}')  # fmt: skip
  spare = bits - stored
  return ((array << spare) >> spare).astype(array.dtype).tobytes()


def _frames(data, size, syntax, dataset):
  """Encapsulated frames anew, each without what is no picture."""
  count, rows, columns, _ = size
  if any(word in syntax.name for word in _VIDEO):
    raise RefusedError('a video, whose stream is not examined')
  try:
    frames = list(generate_frames(data, number_of_frames=count))
  except Exception:
    raise RefusedError('its compressed pixels are damaged') from None
  if len(frames) < count:
    raise RefusedError('its pixel data have fewer frames than its header says')
  frames = frames[:count]
  try:
    if syntax == uid.RLELossless:
      bare = [codestreams.run_length(f, rows * columns) for f in frames]
    else:
      bare = [codestreams.stripped(f) for f in frames]
  except (ValueError, IndexError) as e:
    said = str(e) if 'pixels' in str(e) else 'its compressed pixels are damaged'
    raise RefusedError(said) from None
  return encapsulate(bare, has_bot=True)
