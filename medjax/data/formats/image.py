"""Pictures: PNG, JPEG, and TIFF as far as Pillow reads it."""

import numpy as np
import PIL.Image
import PIL.ImageOps

from medjax.data.formats.volume import Volume

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
_MAGIC = (b'\x89PNG', b'\xff\xd8\xff', b'II*\0', b'MM\0*', b'BM')
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


def matches(head):
  """Whether the first bytes of a file are those of a picture."""
  return head.startswith(_MAGIC)


def read(path, *, indices=False):
  """Reads grey (C=1) or RGB (C=3) samples, 8 or 16 bits (32 in TIFF).

  Alpha is dropped. A palette is looked up, giving RGB, unless `indices`: the
  indices of a palette are what label maps store. The camera's orientation tag
  is honoured, as viewers do.
  """
  try:
    with PIL.Image.open(path) as image:
      if getattr(image, 'n_frames', 1) > 1:
        raise ValueError(
          f'{path}: has {image.n_frames} frames; save a volume as NIfTI'
        )
      image.load()
      image = PIL.ImageOps.exif_transpose(image)
      array = _samples(image, indices)
  except PIL.UnidentifiedImageError:
    raise ValueError(
      f'{path}: not a picture that Pillow knows; export it as PNG'
    ) from None
  except PIL.Image.DecompressionBombError as e:
    raise ValueError(f'{path}: too large for one picture ({e})') from None
  except (OSError, SyntaxError, EOFError) as e:
    raise ValueError(
      f'{path}: truncated or damaged picture ({e}); copy it again'
    ) from None
  return Volume(array, np.eye(3), '', {'format': 'image', 'unit': 'pixel'})


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
