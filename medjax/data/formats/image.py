"""Pictures: PNG, JPEG, BMP, and TIFF as far as Pillow reads it."""

import os
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps

from medjax.data.formats.silence import silent
from medjax.data.formats.volume import Volume

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
_MAGIC = (
  b'\x89PNG', b'\xff\xd8\xff', b'II*\0', b'MM\0*', b'II+\0', b'MM\0+', b'BM',
)  # fmt: skip
# Pillow knows many more, some of which run other programs.
_PILLOW = ('BMP', 'JPEG', 'PNG', 'TIFF')
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


def matches(head):
  """Whether the first bytes of a file are those of a picture."""
  return head.startswith(_MAGIC)


def read(path, *, indices=False):
  """Reads grey (C=1) or RGB (C=3) samples, 8 or 16 bits (32 in TIFF).

  Axes are (row, column). A TIFF of several pages of one size is a volume, with
  axes (column, row, page) as a DICOM series has them. Alpha is dropped. A
  palette is looked up, giving RGB, unless `indices`: the indices of a palette
  are what label maps store. The camera's orientation tag is honoured, as
  viewers do. Pillow keeps 8 of 16 bits of a colour, which is noted.
  """
  try:
    with silent(), warnings.catch_warnings():
      warnings.simplefilter('ignore')  # about tags that are not used here
      with PIL.Image.open(path, formats=_PILLOW) as image:
        pages, notes = _pages(path, image, indices)
  except PIL.UnidentifiedImageError:
    raise ValueError(
      f'{path}: not a picture, or a damaged one (PNG, JPEG, TIFF and BMP are '
      'known); copy it again or export it as PNG'
    ) from None
  except PIL.Image.DecompressionBombError as e:
    raise ValueError(f'{path}: too large for one picture ({e})') from None
  except (_PictureError, MemoryError):
    raise
  except Exception as e:  # Pillow meets damage with a dozen kinds
    said = ' '.join(str(e).split())
    raise ValueError(
      f'{path}: truncated or damaged picture ({said or type(e).__name__}); '
      'copy it again'
    ) from None
  meta = {'format': 'image', 'unit': 'pixel'}
  if notes:
    meta['notes'] = notes
  if len(pages) == 1:
    return Volume(pages[0], np.eye(3), '', meta)
  return Volume(np.stack(pages).transpose(2, 1, 0, 3), np.eye(4), '', meta)


def write(path, array, affine=None):
  """Writes a PNG: (H, W) or (H, W, 1 or 3), integers of 8 or 16 bits.

  `affine` is not stored: a PNG has no place for it that is read reliably.
  """
  del affine
  array = np.asarray(array)
  if str(path).lower().endswith(('.jpg', '.jpeg')):
    raise ValueError(f'{path}: JPEG alters pixel values; write .png')
  if array.ndim == 3 and array.shape[-1] == 1:
    array = array[..., 0]
  if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
    raise ValueError(
      f'{path}: a PNG holds (H, W) or (H, W, 3), not {array.shape}; '
      'write .nii.gz'
    )
  PIL.Image.fromarray(_integers(path, array)).save(path)


class _PictureError(ValueError):
  """A line of this module's own, to tell it from what Pillow raises."""


def _pages(path, image, indices):
  """The samples of each page, (row, column, C), and notes."""
  count = getattr(image, 'n_frames', 1)
  if count > 1 and image.format == 'PNG':
    raise _PictureError(
      f'{path}: is an animation of {count} frames; save a volume as NIfTI'
    )
  pages, notes = [], ()
  size, mode = image.size, image.mode
  for k in range(count if image.format == 'TIFF' else 1):
    image.seek(k)
    if (image.size, image.mode) != (size, mode):
      raise _PictureError(
        f'{path}: its pages differ: {size[0]}x{size[1]} {mode} and '
        f'{image.size[0]}x{image.size[1]} {image.mode}; save them apart'
      )
    _check_size(path, image, count)
    if any('16' in str(t.args) for t in image.tile) and mode.startswith('RGB'):
      notes = ('colours of 16 bits: the upper 8 are kept',)
    image.load()
    pages.append(_samples(PIL.ImageOps.exif_transpose(image), indices))
  return pages, notes


def _check_size(path, image, count):
  """Refuses a picture larger than its file can hold, before it is decoded."""
  wide = 4 if image.mode in ('I', 'F') else len(image.getbands())
  claim = image.width * image.height * wide * count
  if claim > max(_LARGE, _RATIO * os.path.getsize(path)):
    raise _PictureError(
      f'{path}: its header claims {count} x {image.width}x{image.height} '
      'pixels, which the file cannot hold; copy it again'
    )


def _samples(image, indices):
  if image.mode in ('P', 'PA') and not indices:
    image = image.convert('RGB')
  elif image.mode == 'PA':
    image = image.getchannel('P')
  elif image.mode in _MODES:
    image = image.convert(_MODES[image.mode])
  array = np.array(image)
  array = array.astype(array.dtype.newbyteorder('='), copy=False)
  return array if array.ndim == 3 else array[..., None]


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
