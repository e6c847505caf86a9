"""Bare arrays: NumPy's .npy and .npz, and HDF5 (.h5, .hdf5); only read.

A file of several arrays is read by their names: `image`, `data` or `volume` is
the image, `label`, `mask` or `seg` the mask; `affine` (4, 4) or `spacing` (n,)
in mm, where there is one, is the image's. In HDF5 they may lie in groups.
"""

import collections
import math
import os
import zipfile
import zlib

import numpy as np

from medjax.data.formats import raw
from medjax.data.formats.volume import Volume

SUFFIXES = ('.npy', '.npz', '.h5', '.hdf5')
_IMAGE = ('image', 'img', 'data', 'volume', 'vol', 'x', 'arr_0')
_MASK = ('label', 'labels', 'mask', 'seg', 'segmentation', 'gt', 'y')
_PLACE = ('affine', 'spacing')
_CHANNELS = 4  # a last axis up to this is of channels


def matches(head):
  """Whether the first bytes of a file are those of NumPy or of HDF5."""
  return head.startswith((b'\x93NUMPY', b'\x89HDF\r\n\x1a\n'))


def read(path, *, labels=False):
  """Reads (row, column[, C]) or (x, y, z[, C]) as the array's axes stand.

  A last axis of 1 to 4 is taken as channels, which is noted; a first one is
  refused where it could be either. `labels`: the mask of several arrays.
  Without `affine` or `spacing` the pixel is the unit.
  """
  name = str(path).lower()
  if name.endswith('.npy'):
    found = {'': _npy(path)}
  elif name.endswith('.npz'):
    found = _npz(path)
  else:
    found = _hdf5(path)
  array = np.asarray(_chosen(path, found, labels)())
  if array.dtype.kind not in 'biuf':
    raise ValueError(f'{path}: holds {array.dtype}, not numbers')
  if array.dtype.kind == 'f':
    array = array.astype(np.float32, copy=False)
  if array.dtype == bool:
    array = array.astype(np.uint8)
  array = array.astype(array.dtype.newbyteorder('='), copy=False)
  array, notes = _channels_last(path, array, labels)
  place = _place(path, found)
  affine = _affine(path, place, array.ndim - 1)
  meta = {'format': 'array', 'unit': 'mm' if place else 'pixel'}
  if notes:
    meta['notes'] = notes
  return Volume(np.ascontiguousarray(array), affine, '', meta)


def _chosen(path, found, labels):
  """What reads the image, or the mask, of {name: function}."""
  names = [n for n in found if n.rpartition('/')[2] not in _PLACE]
  by_small = {n.lower(): n for n in names}
  for name in _MASK if labels else _IMAGE:
    if name in by_small:
      return found[by_small[name]]
  others = [n for n in names if n.lower() not in (_IMAGE if labels else _MASK)]
  if len(others) != 1:
    raise ValueError(
      f'{path}: which of its arrays {", ".join(names[:8])} is the '
      f'{"mask" if labels else "image"}? Call it '
      f'{"label" if labels else "image"}'
    )
  return found[others[0]]


def _channels_last(path, array, labels):
  if array.ndim == 2 or (labels and array.ndim == 3 and array.shape[-1] > 4):
    return array[..., None], ()
  if array.ndim in (3, 4) and array.shape[-1] <= _CHANNELS:
    if array.ndim == 3 and array.shape[-1] == 1:
      return array, ()
    return array, (f'its last axis of {array.shape[-1]} is taken as channels',)
  if array.ndim == 3 and array.shape[0] > _CHANNELS:
    return array[..., None], ()
  raise ValueError(
    f'{path}: has shape {array.shape}; which axis is of channels? Save '
    '(row, column, C) or (x, y, z, C), C up to 4, or a volume as NIfTI'
  )


def _place(path, found):
  """{'affine', 'spacing': array}, as far as they are there."""
  for name in _PLACE:
    several = [n for n in found if n.endswith(f'/{name}')]
    if len(several) > 1 and name not in found:
      raise ValueError(
        f'{path}: which of {", ".join(several[:8])} is the {name} of the '
        'image? Keep one'
      )
  return {k: np.asarray(found[k](), float) for k in _PLACE if k in found}


def _affine(path, place, rank):
  if 'affine' in place:
    affine = place['affine']
    if affine.shape != (rank + 1, rank + 1):
      raise ValueError(f'{path}: affine is no {rank + 1}x{rank + 1} matrix')
    return affine
  spacing = place.get('spacing', np.ones(rank))
  if spacing.shape != (rank,) or not (spacing > 0).all():
    raise ValueError(f'{path}: spacing is not {rank} sizes in mm')
  return np.diag([*spacing, 1.0])


# Files. Each gives {name: function that reads the array}.


def _npy(path):
  with open(path, 'rb') as f:
    shape, dtype = _header(path, f)
    offset = f.tell()
  raw.check_promise(path, math.prod(shape) * dtype.itemsize, offset=offset)
  return lambda: np.load(path, allow_pickle=False)


def _npz(path):
  try:
    with zipfile.ZipFile(path) as archive:
      members = {i.filename.removesuffix('.npy'): i for i in archive.infolist()}
      for info in members.values():
        with archive.open(info) as f:
          shape, dtype = _header(path, f)
        size = math.prod(shape) * dtype.itemsize
        raw.check_promise(path, size, packed=True)
        if size > info.file_size:
          raise ValueError(f'{path}: truncated; copy it again')
  except (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError,
    RuntimeError,
  ) as e:  # fmt: skip
    raise ValueError(f'{path}: not an .npz, or damaged ({e})') from None

  def load(name):
    try:
      with np.load(path, allow_pickle=False) as file:
        return file[name]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as e:
      raise ValueError(f'{path}: damaged ({e}); copy it again') from None

  return {name: lambda name=name: load(name) for name in members}


def _header(path, file):
  """(shape, dtype) of an array in NumPy's format; no pickles."""
  try:
    version = np.lib.format.read_magic(file)
    reader = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = reader(file)
  except (ValueError, KeyError, OSError) as e:
    said = ' '.join(str(e).split())[:120]
    raise ValueError(
      f'{path}: not a NumPy array, or damaged ({said})'
    ) from None
  if dtype.hasobject:
    raise ValueError(f'{path}: holds Python objects, which are not read')
  return shape, dtype


def _hdf5(path):
  try:
    import h5py
  except ImportError:
    raise ValueError(
      f'{path}: reading HDF5 needs h5py: pip install h5py'
    ) from None
  found = {}

  def keep(name, item):
    if isinstance(item, h5py.Dataset) and item.ndim:
      found[name] = item.nbytes

  try:
    with h5py.File(path) as file:
      file.visititems(keep)
  except (OSError, RuntimeError, KeyError) as e:
    said = ' '.join(str(e).split())[:120]
    raise ValueError(f'{path}: not HDF5, or damaged ({said})') from None
  if not found:
    raise ValueError(f'{path}: holds no array')

  def load(name, size):
    if size > max(2**26, 2000 * os.path.getsize(path)):
      raise ValueError(f'{path}: promises {size} bytes, which it cannot hold')
    try:
      with h5py.File(path) as file:
        return file[name][()]
    except (OSError, RuntimeError, KeyError) as e:
      said = ' '.join(str(e).split())[:120]
      raise ValueError(f'{path}: damaged ({said}); copy it again') from None

  # Of p1/image and p2/image neither is the image.
  last = {name: name.rpartition('/')[2] for name in found}
  counts = collections.Counter(last.values())
  return {
    last[n] if counts[last[n]] == 1 else n: lambda n=n, size=size: load(n, size)
    for n, size in found.items()
  }
