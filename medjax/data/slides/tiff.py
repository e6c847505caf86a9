"""Slides in TIFF: Aperio, Hamamatsu, OME and other pyramids, by tifffile."""

import contextlib
import functools
import re
import threading

import numpy as np

from medjax.data.formats.tiff import spacing_of_pixels
from medjax.data.slides.level import Level

SUFFIXES = ('.svs', '.tif', '.tiff', '.ndpi', '.scn', '.bif', '.qptiff', '.btf')
_HELD = 64  # decoded tiles of a level
_MPP = re.compile(r'\bMPP\s*=\s*([\d.]+)')
# Coarser is no scanner's: the resolution that software writes by default.
_COARSEST = 0.05


def matches(head):
  """Whether the first bytes of a file are those of a TIFF."""
  return head.startswith((b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'))


def levels(path):
  """The `Level`s of a file's first series, the finest first."""
  try:
    import tifffile
  except ImportError:
    raise ValueError(
      f'{path}: slides need tifffile: pip install medjax[formats]'
    ) from None
  with _explained(path, tifffile):
    file = tifffile.TiffFile(path)  # closed with the last of its levels
    found = [s.pages[0] for s in file.series[0].levels]
    axes = {s.axes for s in file.series[0].levels}
    if not axes <= {'YX', 'YXS'} or any(p.planarconfig != 1 for p in found):
      raise ValueError(
        f'{path}: its axes are {", ".join(sorted(axes))}, not rows and columns '
        'of grey or RGB; save the focal plane and channels wanted as a TIFF'
      )
    finest = _spacing(file, found[0])
    lock = threading.Lock()
    return [_level(path, page, found[0], finest, lock) for page in found]


def _level(path, page, first, finest, lock):
  if page.dtype is None or page.dtype.name not in ('uint8', 'uint16'):
    raise ValueError(
      f'{path}: its pixels are {page.dtype}, not 8 or 16 bits; save it anew'
    )
  kind = getattr(page.photometric, 'name', '').lower()
  if page.samplesperpixel not in (1, 3, 4) or kind == 'palette':
    raise ValueError(
      f'{path}: has {page.samplesperpixel} samples a pixel ({kind}), not grey '
      'or RGB; save it as RGB'
    )
  high, wide = page.chunks[:2]
  across = -(-page.imagewidth // wide)
  shape = (page.imagelength, page.imagewidth)

  def read(i, j):
    import tifffile

    index = i * across + j
    with lock, _explained(path, tifffile):
      handle = page.parent.filehandle
      if not page.databytecounts[index]:
        return None
      handle.seek(page.dataoffsets[index])
      data = handle.read(page.databytecounts[index])
      array, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
    if array is None:
      return None
    # Without the alpha channel, as pictures are read.
    array = array[0, : shape[0] - i * high, : shape[1] - j * wide, :3]
    return np.iinfo(array.dtype).max - array if kind == 'miniswhite' else array

  spacing = finest and tuple(
    f * a / b
    for f, a, b in zip(
      finest, (first.imagelength, first.imagewidth), shape, strict=True
    )
  )
  return Level(shape, spacing, (high, wide), functools.lru_cache(_HELD)(read))


def _spacing(file, page):
  """(row, column) in mm of the finest level, or None."""
  found = spacing_of_pixels(file.ome_metadata or '')
  if found is not None:
    return found[1:]
  if match := _MPP.search(page.description or ''):
    return (float(match[1]) / 1000,) * 2
  unit = {2: 25.4, 3: 10.0}.get(int(page.resolutionunit or 0))
  with contextlib.suppress(ZeroDivisionError, TypeError, ValueError):
    across, down = page.get_resolution(None)
    if unit and 0 < unit / max(across, down) <= _COARSEST:
      return unit / down, unit / across
  return None


@contextlib.contextmanager
def _explained(path, tifffile):
  """Gives damage, of whatever kind, as a line."""
  try:
    yield
  except (tifffile.TiffFileError, KeyError, IndexError, OSError) as e:
    said = ' '.join(str(e).split())[:120] or type(e).__name__
    raise ValueError(
      f'{path}: truncated or damaged slide ({said}); copy it again'
    ) from None
  except (NotImplementedError, ImportError) as e:
    raise ValueError(
      f'{path}: {" ".join(str(e).split())[:120]}; pip install medjax[formats]'
    ) from None
