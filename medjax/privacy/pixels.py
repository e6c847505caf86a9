"""Pixels without burned-in text: what is outside of regions or looks like text.

`treated(…)` says whether an image was looked through, and blanks in place what
it found. All other pixels stay as they are.
"""

import numpy as np
import pydicom.pixels
from pydicom import uid

from medjax.data.formats.dicom import jpeg
from medjax.privacy import text, values
from medjax.privacy.objects import RefusedError

# Pictures of screens, films and scenes: text is often part of them.
_RISKY = tuple(
  f'1.2.840.10008.5.1.4.1.1.{n}'
  for n in (
    '3', '3.1', '6', '6.1', '6.2', '6.3', '7', '7.1', '7.2', '7.3', '7.4',
    '12.1', '12.1.1', '12.2', '12.2.1', '12.3', '77.1.1', '77.1.1.1', '77.1.2',
    '77.1.2.1', '77.1.3', '77.1.4', '77.1.4.1', '77.1.5.1', '77.1.5.2',
  )
)  # fmt: skip
# Masks, doses and maps: their pixels are no picture of anything seen.
_COMPUTED = tuple(
  f'1.2.840.10008.5.1.4.1.1.{n}'
  for n in ('66.4', '66.5', '66.7', '481.2', '30')
)
_SLIDE = '1.2.840.10008.5.1.4.1.1.77.1.6'
_CORNERS = (
  'RegionLocationMinY0', 'RegionLocationMinX0', 'RegionLocationMaxY1',
  'RegionLocationMaxX1',
)  # fmt: skip
_PIXELS = 0x7FE00010


def treated(new, meta, syntax, *, options, trust, read=None):
  """(whether the pixels were looked through, their syntax, blanked boxes).

  new: the data set, whose pixels and syntax change where text was found. meta:
  a file meta group that may be changed.
  trust: also gives away what may show text and was not looked through. read:
  a second look, (image) → boxes, as `ocr.reader` makes one. Raises
  `RefusedError`.
  """
  if 'PixelData' not in new:
    return bool({0x7FE00008, 0x7FE00009} & set(new.keys())), syntax, 0
  kind = new.SOPClassUID
  burned = new.get('BurnedInAnnotation') == 'YES'
  if kind in _COMPUTED:
    return not burned, syntax, 0
  if kind == _SLIDE and not trust:
    _check_slide(new)
  looks = 'clean-pixels' in options
  if not looks and (burned or kind in _RISKY) and not trust:
    raise RefusedError(
      'its picture may show text: --options=clean-pixels looks for it, '
      '--trust-pixels gives it away as it is'
    )
  if not looks:
    return False, syntax, 0
  frames = _decoded(new, meta, syntax)
  outside = _outside(new, frames.shape[1:3])
  found = _found(frames, outside, read)
  if burned and not any(found) and outside is None and not trust:
    raise RefusedError('it says that text is burned in, and none was found')
  if outside is None and not any(found):
    return True, syntax, 0
  frames = _blanked(new, frames, outside, found)
  return True, _stored(new, frames, syntax), sum(map(len, found))


def _check_slide(new):
  kinds = {str(k) for k in new.get('ImageType') or ()}
  if kinds & {'LABEL', 'OVERVIEW'}:
    raise RefusedError(
      'the label of a slide; --trust-pixels gives it away as it is'
    )


def _decoded(new, meta, syntax):
  """All frames (n, h, w, c), colours as they are stored."""
  jpeg.register()
  try:
    new.file_meta = meta
    meta.TransferSyntaxUID = syntax
    array = pydicom.pixels.pixel_array(new, raw=True)
  except Exception:  # whatever a decoder raises
    raise RefusedError('its pixels cannot be decoded to be looked at') from None
  color = int(new.get('SamplesPerPixel', 1)) > 1
  if not color:
    array = array[..., None]
  return array[None] if array.ndim == 3 else array


def _outside(new, shape):
  """Mask (h, w) of what no ultrasound region has; None where none is said."""
  try:
    regions = [
      [int(region[k].value) for k in _CORNERS]
      for region in new.get('SequenceOfUltrasoundRegions') or ()
    ]
  except (KeyError, TypeError, ValueError):
    raise RefusedError('its ultrasound regions are damaged') from None
  if not regions:
    return None
  outside = np.ones(shape, bool)
  for top, left, bottom, right in regions:
    outside[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = False
  return outside if outside.any() else None


def _found(frames, outside, read):
  """Boxes of text for each frame; what stands still is looked for in the mean.

  Text repeats from frame to frame, noise does not: the mean has the text and
  little of the noise.
  """
  grey = frames.astype(np.float32).mean(-1)
  still = []
  if len(grey) > 2:
    still = text.boxes(grey[:: max(1, len(grey) // 32)].mean(0))
  found = []
  for image in grey:
    image = image if outside is None else np.where(outside, image.min(), image)
    own = text.boxes(image)
    if read is not None:
      own = own + read(image)
    found.append(still + own)
  return found


def _blanked(new, frames, outside, found):
  """The frames with black where text was, whatever black is stored as."""
  frames = frames.copy()
  if new.get('PhotometricInterpretation') in ('YBR_RCT', 'YBR_ICT'):
    new.PhotometricInterpretation = 'RGB'  # which JPEG 2000 decodes these to
  black = _black(new, frames)
  for frame, boxes in zip(frames, found, strict=True):
    text.blank(frame, boxes, black)
    if outside is not None:
      frame[outside] = black
  return frames


def _black(new, frames):
  kind = new.get('PhotometricInterpretation', '')
  low, high = frames.min(), frames.max()
  if kind == 'MONOCHROME1':
    return high
  if kind.startswith('YBR'):
    middle = 1 << (int(new.BitsStored) - 1)
    return np.array([0, middle, middle], frames.dtype)
  if kind == 'RGB':
    return np.zeros(3, frames.dtype)
  if kind == 'PALETTE COLOR':
    return _darkest(new, low)
  return low


def _darkest(new, low):
  """The index whose colour is darkest."""
  light = 0
  for name in ('Red', 'Green', 'Blue'):
    data = new.get(f'{name}PaletteColorLookupTableData')
    if not isinstance(data, bytes):
      return low
    light = light + np.frombuffer(data, '<u2').astype(int)
  first = new.RedPaletteColorLookupTableDescriptor[1]
  return int(np.argmin(light)) + int(first)


def _stored(new, frames, syntax):
  """Puts frames into a data set, uncompressed; returns the syntax."""
  plain = uid.ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
  planar = int(new.get('PlanarConfiguration') or 0)
  if new.get('PhotometricInterpretation') == 'YBR_FULL_422':
    new.PhotometricInterpretation = 'YBR_FULL'  # decoded, it has all samples
  if syntax.is_encapsulated:
    planar = 0
    if 'PlanarConfiguration' in new:
      new.PlanarConfiguration = 0
  if planar:
    frames = np.moveaxis(frames, -1, 1)
  if new.BitsAllocated == 1:
    data = np.packbits(frames.ravel().astype(bool), bitorder='little').tobytes()
  else:
    order = '<' if plain.is_little_endian else '>'
    data = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
  wide = frames.dtype.itemsize > 1 or plain.is_implicit_VR
  data += b'\0' * (len(data) % 2)
  new.add(values.new(_PIXELS, 'OW' if wide else 'OB', data))
  return plain
