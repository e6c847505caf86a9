"""TIFF: pictures, and volumes whose pages are slices, channels or both.

Pillow decodes what it knows; tifffile, where it is installed, the rest. What a
page is, ImageJ, OME and tifffile write into the first page's description.
"""

import contextlib
import json
import math
import os
import pathlib
import re

import numpy as np
import PIL.TiffImagePlugin

from medjax.data.formats import image as pictures
from medjax.data.formats.image import PictureError
from medjax.data.formats.silence import unlogged
from medjax.data.formats.volume import Volume

SUFFIXES = ('.tif', '.tiff')
_MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_UNITS = {
  'm': 1e3, 'cm': 10, 'mm': 1, 'um': 1e-3, 'µm': 1e-3, 'μm': 1e-3,
  'micron': 1e-3, 'microns': 1e-3, '\\u00b5m': 1e-3, 'nm': 1e-6,
  'inch': 25.4, 'in': 25.4,
}  # fmt: skip
_FORMATS = {1: 'uint', 2: 'int', 3: 'float', 5: 'complex', 6: 'complex'}
# What Pillow reads right: (samples, bits, kind).
_PLAIN = {(1, b, 'uint') for b in (1, 2, 4, 8, 16, 32)}
_PLAIN |= {(1, b, 'int') for b in (8, 16, 32)} | {(1, 32, 'float')}
_PLAIN |= {(c, 8, 'uint') for c in (2, 3, 4)}
_WRONG = {('uint', 32): np.uint32, ('int', 8): np.int8}  # … but for the sign
_CHANNEL = re.compile(r'_\d{4}$')


def matches(head):
  """Whether the first bytes of a file are those of a TIFF."""
  return head.startswith(_MAGIC)


def read(path, *, labels=False):
  """Reads a picture (row, column, C), or a volume (column, row, page, C).

  Axes of a volume are in the order of a DICOM series. Pages are slices unless
  the description says that they are channels. Spacing is that of ImageJ, OME,
  or of NAME.json beside it, {"spacing": [page, row, column]} in mm, as nnU-Net
  wants it; else the pixel is the unit. Values run from black to white.
  """
  about = _About(path)
  if about.plain:
    pages, notes, palette = _by_pillow(path, about, labels)
  else:
    pages, notes, palette = _by_tifffile(path, about), (), None
    pages = [p[..., None] if p.ndim == 2 else p for p in pages]
  order, more = _order(path, about, len(pages))
  meta = {'format': 'image', 'unit': 'pixel'}
  if about.lossy:
    meta['lossy'] = True
  notes += more
  if palette:
    meta['palette'] = palette
  spacing = _spacing(path, about)  # page, row, column
  if spacing is not None:
    meta['unit'] = 'mm'
  else:
    spacing = (1.0, 1.0, 1.0)
  if notes:
    meta['notes'] = notes
  rows = [np.concatenate([pages[k] for k in line], -1) for line in order]
  if len(rows) == 1:
    return Volume(rows[0], np.diag([*spacing[1:], 1.0]), '', meta)
  affine = np.diag([*spacing[::-1], 1.0])
  return Volume(np.stack(rows).transpose(2, 1, 0, 3), affine, '', meta)


class _About:
  """What the first page's tags say."""

  def __init__(self, path):
    tags = _tags(path)
    bits = tags.get(258) or (1,)
    bits = (bits,) if isinstance(bits, int) else tuple(bits)
    formats = tags.get(339) or (1,)
    kind = formats if isinstance(formats, int) else formats[0]
    self.tags = tags
    self.bits = int(bits[0])
    self.kind = _FORMATS.get(int(kind), 'uint')
    self.samples = int(tags.get(277) or 1)
    self.white_first = tags.get(262) == 0
    self.lossy = tags.get(259) in (6, 7, 34892)  # JPEG
    self.text = str(tags.get(270) or '')
    self.plain = len(set(bits)) == 1 and (
      (self.samples, self.bits, self.kind) in _PLAIN
    )
    # JPEG 2000 and its like, which Pillow's library does not have.
    self.plain &= tags.get(259, 1) not in (33003, 33004, 33005, 34712, 50002)

  def __str__(self):
    return f'{self.samples} x {self.kind}{self.bits}'


def _tags(path):
  try:
    with open(path, 'rb') as f:
      head = f.read(8)
      head += f.read(8) if head[2:3] == b'+' or head[3:4] == b'+' else b''
      known = PIL.TiffImagePlugin.ImageFileDirectory_v2(head)
      f.seek(known.next)
      known.load(f)
      wanted = (256, 257, 258, 259, 262, 270, 277, 282, 283, 305, 339)
      return {t: known[t] for t in wanted if t in known}
  except Exception as e:  # Pillow meets damage with a dozen kinds
    said = ' '.join(str(e).split()) or type(e).__name__
    raise ValueError(
      f'{path}: truncated or damaged TIFF ({said}); copy it again'
    ) from None


# Decoding.


def _by_pillow(path, about, labels):
  pages, notes, palette = [], (), None
  with pictures.opened(path, ('TIFF',)) as image:
    count = getattr(image, 'n_frames', 1)
    size, mode = image.size, image.mode
    for k in range(count):
      image.seek(k)
      if (image.size, image.mode) != (size, mode):
        raise PictureError(
          f'{path}: its pages differ: {size[0]}x{size[1]} {mode} and '
          f'{image.size[0]}x{image.size[1]} {image.mode} (the levels of a '
          'slide?); save them apart, or cut the slide: medjax convert SLIDE '
          'TILES --tile=512'
        )
      pictures.check_size(path, image, count)
      page, notes, palette = pictures.samples(
        path, image, labels, lossy=about.lossy
      )
      pages.append(_right(about, page, labels))
  if _bool_of_tifffile(about):
    white = np.uint8(1 if labels else 255)
    pages = [(p == 0) * white for p in pages]
    notes += ('1 bit, written by tifffile: 1 is taken as white',)
  return pages, notes, palette


def _right(about, page, labels):
  """A page whose type Pillow takes for another, or leaves inverted."""
  wrong = _WRONG.get((about.kind, about.bits))
  if wrong is not None and page.dtype.itemsize == np.dtype(wrong).itemsize:
    page = page.view(wrong)
  if (about.kind, about.bits) == ('int', 16):  # Pillow gives 32
    page = page.astype(np.int16)
  if about.white_first and about.bits == 16 and about.kind == 'uint':
    page = np.uint16(2**16 - 1) - page.astype(np.uint16)
  return page


def _bool_of_tifffile(about):
  """numpy's True is stored as 1, and the page as one whose 0 is white."""
  return (
    about.white_first and about.bits == 1 and 'tifffile' in
    str(about.tags.get(305, ''))
  )  # fmt: skip


def _by_tifffile(path, about):
  """The pages of what Pillow reads wrongly, or not at all."""
  try:
    import tifffile
  except ImportError:
    raise ValueError(
      f'{path}: a TIFF of {about}, which needs tifffile: pip install tifffile '
      'imagecodecs, or save it as 8 or 16 bits'
    ) from None
  try:
    with _quiet(), tifffile.TiffFile(path) as file:
      pages = [p for p in file.pages if not p.is_reduced]
      first = pages[0]
      size = os.path.getsize(path)
      claim = sum(
        max(p.nbytes, math.prod(p.chunks) * p.dtype.itemsize) for p in pages
      )
      if claim > max(2**26, 2000 * size) or any(
        n > size for p in pages for n in p.databytecounts
      ):
        raise PictureError(
          f'{path}: truncated, or its header promises more than the file can '
          'hold; copy it again'
        )
      if any((p.shape, p.dtype) != (first.shape, first.dtype) for p in pages):
        raise PictureError(
          f'{path}: its pages differ; save them apart, or cut a slide: medjax '
          'convert SLIDE TILES --tile=512'
        )
      arrays = [_channels_last(p.asarray(), p.axes) for p in pages]
  except (PictureError, MemoryError):
    raise
  except Exception as e:  # of any kind: damage, a missing codec
    said = ' '.join(str(e).split()) or type(e).__name__
    raise ValueError(
      f'{path}: a TIFF of {about}, truncated, damaged or of a kind that is not '
      f'read ({said[:120]}); save it anew'
    ) from None
  if about.kind == 'complex' or arrays[0].dtype.kind not in 'biuf':
    raise ValueError(f'{path}: holds complex numbers; save their magnitude')
  if arrays[0].dtype.kind == 'f':
    return [a.astype(np.float32) for a in arrays]
  if about.white_first:
    return [np.iinfo(a.dtype).max - a for a in arrays]
  return arrays


@contextlib.contextmanager
def _quiet():
  """Keeps to itself what tifffile thinks of damage; it is raised as well."""
  with np.errstate(all='ignore'), unlogged():
    yield


def _channels_last(array, axes):
  if array.ndim == 2:
    return array
  if array.ndim == 3 and 'S' in axes:
    return np.moveaxis(array, axes.index('S'), -1)
  raise ValueError(f'a page has the axes {axes}')


# What pages are.


def _order(path, about, count):
  """([pages of each slice, whose samples are its channels], notes)."""
  found = _imagej(about.text) or _ome(path, about)
  if found is None:
    _check_shape(path, about, count)
    return [[k] for k in range(count)], ()
  axes, sizes = found  # 'czt': the fastest first
  if np.prod([sizes[a] for a in axes]) != count:
    raise ValueError(
      f'{path}: its description speaks of '
      + ' x '.join(f'{sizes[a]} {a}' for a in axes)
      + f' pages, and {count} are there; save it anew as OME-TIFF'
    )
  notes, slices = (), 'z'
  if sizes['t'] > 1:
    if sizes['z'] > 1:
      raise ValueError(
        f'{path}: holds {sizes["t"]} time points of {sizes["z"]} slices; save '
        'each time point as a file'
      )
    slices = 't'
    notes = (f'its {sizes["t"]} time points are taken as slices',)
  step, total = {}, 1
  for a in axes:
    step[a] = total
    total *= sizes[a]
  return [
    [k * step[slices] + c * step['c'] for c in range(sizes['c'])]
    for k in range(sizes[slices])
  ], notes


def _imagej(text):
  """('czt', sizes) of ImageJ's description, or None."""
  if not text.startswith('ImageJ='):
    return None
  found = dict(line.split('=', 1) for line in text.splitlines() if '=' in line)
  numbers = {k: int(v) for k, v in found.items() if v.strip().isdecimal()}
  names = {'c': 'channels', 'z': 'slices', 't': 'frames'}
  sizes = {a: numbers.get(name, 1) for a, name in names.items()}
  images = numbers.get('images', 1)
  if images > 1 and sizes['c'] * sizes['z'] * sizes['t'] == 1:
    sizes['z'] = images
  order = re.match('[czt]{3}', found.get('order', '').strip().lower())
  return (order[0] if order else 'czt'), sizes


def _pixels(text):
  """The attributes of OME's first image, or None."""
  found = re.search(r'<(?:\w+:)?Pixels\s([^>]*)>', text[: 2**22])
  if found is None or 'OME' not in text[:2000]:
    return None
  return dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', found[1]))


def _ome(path, about):
  """(order of axes, sizes) of OME's description, or None."""
  pixels = _pixels(about.text)
  if pixels is None:
    return None
  if len(re.findall(r'<(?:\w+:)?Pixels\s', about.text[: 2**22])) > 1:
    raise ValueError(f'{path}: holds several images; save them apart')
  sizes = {a: int(pixels.get(f'Size{a.upper()}', 1)) for a in 'czt'}
  if about.samples > 1:
    sizes['c'] = max(1, sizes['c'] // about.samples)
  order = pixels.get('DimensionOrder', 'XYCZT')[2:].lower()
  return (order if sorted(order) == ['c', 't', 'z'] else 'czt'), sizes


def _check_shape(path, about, count):
  """Refuses tifffile's arrays of four axes that do not say what these are."""
  if not about.text.startswith('{"shape"') or count == 1:
    return
  shape = ()
  with contextlib.suppress(ValueError, TypeError, KeyError):
    shape = tuple(n for n in json.loads(about.text)['shape'] if n > 1)
  if len(shape) - (about.samples > 1) > 3:
    raise ValueError(
      f'{path}: was written from an array {shape} whose axes it does not name; '
      'save it as OME-TIFF or NIfTI'
    )


# Where things lie.


def _spacing(path, about):
  """(page, row, column) in mm, or None."""
  for name in (path.name, _CHANNEL.sub('', path.stem) + path.suffix):
    beside = path.with_name(pathlib.Path(name).stem + '.json')
    if beside.is_file():
      found = _sidecar(beside)
      if found is not None:
        return found
  if _pixels(about.text) is not None:
    return spacing_of_pixels(about.text)
  with contextlib.suppress(ValueError, KeyError, ZeroDivisionError):
    if about.text.startswith('ImageJ='):
      said = dict(re.findall(r'^(\w+)=(.+?)\s*$', about.text, re.M))
      sizes = [1 / float(about.tags[t]) for t in (283, 282)]
      scale = _UNITS[said['unit'].lower()]
      found = [scale * v for v in (float(said.get('spacing', 1)), *sizes)]
      return tuple(found) if min(found) > 0 else None
  return None


def spacing_of_pixels(text):
  """(page, row, column) in mm of OME's description, or None."""
  pixels = _pixels(text) or {}
  with contextlib.suppress(ValueError, KeyError):
    found = [
      float(pixels[f'PhysicalSize{a}'])
      * _UNITS[pixels.get(f'PhysicalSize{a}Unit', 'µm').lower()]
      if f'PhysicalSize{a}' in pixels or a != 'Z'
      else 1.0
      for a in 'ZYX'
    ]
    return tuple(found) if min(found) > 0 else None
  return None


def _sidecar(path):
  """The spacing in nnU-Net's NAME.json, or None."""
  try:
    found = json.loads(path.read_text('utf-8-sig'))
    spacing = found.get('spacing') if isinstance(found, dict) else None
    if spacing is None:
      return None
    spacing = tuple(float(v) for v in spacing)
  except (ValueError, TypeError, OSError):
    raise ValueError(
      f'{path}: is no {{"spacing": [page, row, column]}}; mend it'
    ) from None
  if len(spacing) != 3 or not min(spacing) > 0:
    raise ValueError(f'{path}: spacing is {spacing}, not three sizes in mm')
  return spacing
