"""Look-up tables of DICOM: their entries, and values looked up in them."""

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut

_COLOURS = ('Red', 'Green', 'Blue')
_BLANK = np.zeros(0, np.uint8)


def modality(array, dataset):
  """Values (…) through the modality look-up table (PS3.3 C.11.1)."""
  item = dataset.ModalityLUTSequence[0]
  start, table = _table(item.LUTDescriptor, item.LUTData, array, dataset)
  return _looked_up(array, table, start)


def colours(array, dataset):
  """RGB (…, 3), 8 bits: palettes are for display, whatever their width."""
  if 'RedPaletteColorLookupTableData' not in dataset:  # in segments
    found = apply_color_lut(array, dataset)[..., :3]
    shift = 8 if found.dtype == np.uint16 else 0
    return (found >> shift).astype(np.uint8)
  start, tables = palette(dataset, array)
  shift = _excess(dataset, tables)
  return np.stack(
    [(_looked_up(array, t, start) >> shift).astype(np.uint8) for t in tables],
    -1,
  )


def palette(dataset, array=_BLANK):
  """The first value that is mapped, and three tables of colours."""
  found = [
    _table(
      dataset[f'{c}PaletteColorLookupTableDescriptor'].value,
      dataset[f'{c}PaletteColorLookupTableData'].value,
      array,
      dataset,
    )
    for c in _COLOURS
  ]
  return found[0][0], [table for _, table in found]


def palette_notes(dataset):
  """A note where the entries of a palette are not as its descriptor says."""
  if 'RedPaletteColorLookupTableData' not in dataset:
    return ()
  said = int(dataset.RedPaletteColorLookupTableDescriptor[2])
  used = 8 + _excess(dataset, palette(dataset)[1])
  if used == said:
    return ()
  return (f'palette says {said} bits, its entries have {used}',)


def _excess(dataset, tables):
  """By how many bits the entries of a palette are wider than 8.

  Entries that say 16 bits and are all below 256 have 8, as do some that say 8
  and are stored in 16.
  """
  top = max(int(t.max(initial=0)) for t in tables)
  if tables[0].dtype == np.uint8 or top < 256:
    return 0
  said = int(dataset.RedPaletteColorLookupTableDescriptor[2])
  return said - 8 if 8 < said <= 16 and top < 2**said else 8


def _table(descriptor, data, array, dataset):
  """The first value that is mapped, and the entries, uint8 or uint16.

  PS3.3 C.7.6.3.1.5: 0 entries are 65536, and the first value has the sign of
  the pixels, whatever the element was read as.
  """
  count = int(descriptor[0]) & 0xFFFF or 2**16
  start = int(descriptor[1])
  if array.dtype.kind == 'i' and start >= 2**15:
    start -= 2**16
  elif array.dtype.kind == 'u' and start < 0:
    start += 2**16
  if isinstance(data, bytes | bytearray):
    order = '<' if _is_little(dataset) else '>'
    width = 2 if len(data) >= 2 * count else 1
    words = np.frombuffer(data, np.uint8 if width == 1 else f'{order}u2')
  else:
    words = np.atleast_1d(np.asarray(data, np.int64) & 0xFFFF)
  if len(words) < count:
    raise ValueError('a look-up table is short')
  kind = np.uint8 if words.dtype == np.uint8 else np.uint16
  return start, words[:count].astype(kind)


def _is_little(dataset):
  syntax = dataset.file_meta.TransferSyntaxUID
  return syntax != pydicom.uid.ExplicitVRBigEndian


def _looked_up(array, table, start):
  """Values below the first that is mapped take the first entry, and so on."""
  index = np.clip(array.astype(np.int64) - start, 0, len(table) - 1)
  return table[index]
