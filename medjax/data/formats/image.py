"""Pictures that Pillow reads: PNG, JPEG, BMP, GIF, WebP, JPEG 2000, PGM.

TIFF is a module of its own, which shares what is here.
"""

import os

import numpy as np
import PIL.Image
import PIL.ImageOps

from medjax.data.formats import colours
from medjax.data.formats.silence import silent, unwarned
from medjax.data.formats.volume import Volume

SUFFIXES = (
  '.png', '.jpg', '.jpeg', '.bmp', '.gif', '.webp', '.jp2', '.pgm', '.ppm',
  '.pbm',
)  # fmt: skip
_MAGIC = (
  b'\x89PNG', b'\xff\xd8\xff', b'BM', b'GIF8', b'\0\0\0\x0cjP', b'P4', b'P5',
  b'P6',
)  # fmt: skip
# Pillow knows many more, some of which run other programs.
_PILLOW = ('PNG', 'JPEG', 'BMP', 'GIF', 'JPEG2000', 'PPM', 'WEBP')
# Pillow mode → the mode whose samples are returned.
_MODES = {
  '1': 'L',
  'LA': 'L',
  'La': 'L',
  'RGBA': 'RGB',
  'RGBa': 'RGB',
  'RGBX': 'RGB',
  'CMYK': 'RGB',
  'YCbCr': 'RGB',
  'HSV': 'RGB',
  'LAB': 'RGB',
}
# A picture this large is believed if its file is not this much smaller.
_LARGE = 2**26
_RATIO = 2000
_ORIENTATION = 0x0112


class PictureError(ValueError):
  """A line of our own, to tell it from what Pillow raises."""


def matches(head):
  """Whether the first bytes of a file are those of a picture."""
  webp = head[:4] == b'RIFF' and head[8:12] == b'WEBP'
  return webp or head.startswith(_MAGIC)


def read(path, *, labels=False):
  """Reads grey (C=1) or RGB (C=3) samples of 8 or 16 bits.

  Axes are (row, column). Alpha is dropped, a palette looked up. The camera's
  orientation tag is honoured, as viewers do. Pillow keeps 8 of 16 bits of a
  colour, which is noted. `labels`: the classes that a mask's samples,
  palette or alpha mean, C=1 (see `colours`).
  """
  with opened(path, _PILLOW) as image:
    if getattr(image, 'n_frames', 1) > 1:
      raise PictureError(
        f'{path}: is an animation of {image.n_frames} frames; save a volume '
        'as NIfTI'
      )
    check_size(path, image)
    _check_bmp(path, image)
    notes = bits_lost(image)
    lossy = _lossy(path, image)
    array, more, palette = samples(path, image, labels, lossy=lossy)
  meta = {'format': 'image', 'unit': 'pixel'}
  if notes + more:
    meta['notes'] = notes + more
  if lossy:
    meta['lossy'] = True
  if palette:
    meta['palette'] = palette
  return Volume(array, np.eye(3), '', meta)


def form_of(path):
  """(channels, bits) that `read` will give, by the header; None if unknown."""
  with open(path, 'rb') as f:
    head = f.read(26)
  if head.startswith(_MAGIC[0]) and len(head) == 26:  # Pillow takes its time
    bits, kind = head[24], head[25]
    channels = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}.get(kind)
    return channels and (channels, 16 if (bits, kind) == (16, 0) else 8)
  try:
    with opened(path, (*_PILLOW, 'TIFF')) as image:
      mode = image.mode
  except ValueError:
    return None
  if mode == 'F' or mode[0] == 'I':
    return 1, 16 if '16' in mode else 32
  return 1 if mode in ('1', 'L', 'LA', 'La') else 3, 8


class opened:  # noqa: N801 - used as a function is
  """A context with the Pillow image of a file, whose errors are one line."""

  def __init__(self, path, formats):
    self._path, self._formats = path, formats
    self._silent = silent()
    self._image = None

  def __enter__(self):
    self._silent.__enter__()
    try:
      with unwarned():  # about tags that are not used here
        self._image = PIL.Image.open(self._path, formats=self._formats)
    except BaseException as e:
      self._silent.__exit__(None, None, None)
      self._explain(e)
      raise
    return self._image

  def __exit__(self, kind, error, trace):
    self._image.close()
    self._silent.__exit__(None, None, None)
    if error is not None:
      self._explain(error)

  def _explain(self, error):
    path = self._path
    if isinstance(error, PictureError | MemoryError) or not isinstance(
      error, Exception
    ):
      return
    if isinstance(error, PIL.UnidentifiedImageError):
      raise ValueError(
        f'{path}: not a picture, or a damaged one ({", ".join(_PILLOW)} and '
        'TIFF are known); copy it again or export it as PNG'
      ) from None
    if isinstance(error, PIL.Image.DecompressionBombError):
      raise ValueError(
        f'{path}: too large for one picture (more than 179 megapixels); save '
        'it smaller; a TIFF is cut by medjax convert FILE TILES --tile=512'
      ) from None
    said = ' '.join(str(error).split())  # Pillow's damage has a dozen kinds
    raise ValueError(
      f'{path}: truncated or damaged picture ({said or type(error).__name__}); '
      'copy it again'
    ) from None


def write(path, array, affine=None):
  """Writes a PNG: (H, W) or (H, W, 1 or 3), integers of 8 or 16 bits.

  `affine` is not stored: a PNG has no place for it that is read reliably.
  """
  del affine
  array = np.asarray(array)
  name = str(path).lower()
  if name.endswith(('.jpg', '.jpeg', '.webp', '.jp2')):
    kind = name.rpartition('.')[2].upper().replace('JPG', 'JPEG')
    raise ValueError(f'{path}: {kind} alters pixel values; write .png')
  if array.ndim == 3 and array.shape[-1] == 1:
    array = array[..., 0]
  if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
    raise ValueError(
      f'{path}: a PNG holds (H, W) or (H, W, 3), not {array.shape}; '
      'write .nii.gz'
    )
  PIL.Image.fromarray(_integers(path, array)).save(path)


def check_size(path, image, count=1):
  """Refuses a picture larger than its file can hold, before it is decoded."""
  wide = 4 if image.mode in ('I', 'F') else len(image.getbands())
  claim = image.width * image.height * wide * count
  if claim > max(_LARGE, _RATIO * os.path.getsize(path)):
    raise PictureError(
      f'{path}: its header claims {count} x {image.width}x{image.height} '
      'pixels, which the file cannot hold; copy it again'
    )


def _check_bmp(path, image):
  """Refuses grey palettes, of which Pillow decodes the wrong bits."""
  if image.format == 'BMP' and image.mode in ('1', 'L'):
    with open(path, 'rb') as f:
      bits = int.from_bytes(f.read(30)[28:], 'little')
    if bits != {'1': 1, 'L': 8}[image.mode]:
      raise PictureError(
        f'{path}: a BMP of {bits} bits with a palette of greys, which is not '
        'read; save it as PNG'
      )


def bits_lost(image):
  """The note on colours of 16 bits, of which Pillow gives 8."""
  if image.mode.startswith('RGB') and any(
    '16' in str(t.args) for t in image.tile
  ):
    return ('colours of 16 bits: the upper 8 are kept',)
  return ()


def samples(path, image, labels, *, lossy=False):
  """((row, column, C), notes, palette) of an open picture, turned upright."""
  shades = colours.shades_of(image)  # before loading, which forgets them
  image.load()
  # Pillow takes long to find no tags; they are in `info`, or of a TIFF.
  if image.info and image.getexif().get(_ORIENTATION, 1) != 1:
    image = PIL.ImageOps.exif_transpose(image)
  if labels:
    array, notes, palette = colours.labels_of(path, image, shades, lossy=lossy)
    return array[..., None], notes, palette
  if image.mode in ('P', 'PA'):
    image = image.convert('RGB')
  elif image.mode in _MODES:
    image = image.convert(_MODES[image.mode])
  return whole(image), (), None


def whole(image):
  """The samples (row, column, C) in the machine's order of bytes."""
  array = np.array(image)
  array = array.astype(array.dtype.newbyteorder('='), copy=False)
  return array if array.ndim == 3 else array[..., None]


def _lossy(path, image):
  if image.format == 'WEBP':
    with open(path, 'rb') as f:
      return f.read(16)[12:16] == b'VP8 '
  return image.format == 'JPEG'


def _integers(path, array):
  if array.dtype == bool:
    return array.astype(np.uint8)
  if array.dtype.kind not in 'iu':
    raise ValueError(
      f'{path}: a PNG holds integers, not {array.dtype}; scale to uint8 first'
    )
  top = 2**16 - 1 if array.ndim == 2 else 2**8 - 1
  low, high = (array.min(), array.max()) if array.size else (0, 0)
  if low < 0 or high > top:
    raise ValueError(
      f'{path}: a PNG holds 0–{top}, not {low}–{high}; write .nii.gz'
    )
  if array.dtype in (np.uint8, np.uint16) and array.ndim == 2:
    return array
  return array.astype(np.uint8 if high < 256 else np.uint16)
