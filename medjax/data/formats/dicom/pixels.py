"""Stored DICOM pixels to values: decoded, rescaled, in grey or RGB."""

import math

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_voi_lut, get_decoder, pixel_array

from medjax.data.formats.dicom import jpeg, lut
from medjax.data.formats.dicom.codestream import stated_size
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.header import are_words, number
from medjax.data.formats.silence import silent

_WORDS = ('PixelData', 'FloatPixelData', 'DoubleFloatPixelData')
_CLAIM_LIMIT = 2**28  # bytes that a compressed file may claim to hold …
_CLAIM_RATIO = 2000  # … unless it is at least this much smaller
# In this order. On damaged data pylibjpeg's RLE decoder ends the program, and
# so does gdcm, which is never used.
_DECODERS = ('pydicom', 'pyjpegls', 'pylibjpeg', 'imagecodecs', 'pillow')
# Their numbers are measurements; MONOCHROME1 then only says how to show them.
_MEASURED = frozenset({'CT', 'PT', 'NM', 'RTDOSE'})


def stored(dataset, path, index=None):
  """Decoded pixels (frames, rows, columns, C), before any rescaling.

  `index`: only that frame. Colour comes as RGB; a palette is looked up. Raises
  ValueError for absent, short or damaged pixels, and for compression without
  a decoder.
  """
  check(dataset, path)
  with parsing(path, 'pixels'):
    array = decoded(dataset, path, index)
    if dataset.PhotometricInterpretation == 'PALETTE COLOR':
      array = lut.colours(array, dataset)
    elif int(dataset.SamplesPerPixel) == 1:
      array = array[..., None]
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    array = array.reshape(-1, rows, columns, array.shape[-1])
    return array.astype(array.dtype.newbyteorder('='), copy=False)


def decoded(dataset, path, index=None):
  """Pixels as pydicom decodes them; raises what it raises.

  Where HighBit says so, values are the highest bits of their words instead of
  the lowest, as editions of the standard before 2014 allowed.
  """
  syntax = dataset.file_meta.TransferSyntaxUID
  if not are_words(dataset):
    with silent():
      return pixel_array(
        dataset, index=index, decoding_plugin=_plugins(syntax)[0]
      )
  plugin = _plugins(syntax)[0] if syntax.is_encapsulated else ''
  allocated, bits, high = (
    int(dataset.get(k) or 0) for k in ('BitsAllocated', 'BitsStored', 'HighBit')
  )
  if not 0 < bits <= high < allocated:
    return pixel_array(dataset, index=index, decoding_plugin=plugin)
  words = pixel_array(
    dataset, index=index, decoding_plugin=plugin, correct_unused_bits=False
  )
  below = 2 ** (high + 1 - bits) - 1
  above = words >> bits
  if np.any(words & below) and np.all((above == 0) | (above == -1)):
    raise DicomError(
      f'{path}: HighBit {high} contradicts its pixels, which fill the lowest '
      f'{bits} bits; mend the header (HighBit {bits - 1})'
    )
  return (words << (allocated - 1 - high)) >> (allocated - bits)


def _plugins(syntax):
  """The decoders for a transfer syntax that are installed, the best first."""
  if syntax in jpeg.SYNTAXES:
    jpeg.register()
  there = get_decoder(syntax).available_plugins
  return [name for name in _DECODERS if name in there]


def through_table(array, dataset, path):
  """Values through the modality look-up table."""
  with parsing(path, 'look-up table'):
    return lut.modality(array, dataset)


def stored_dtype(dataset, path):
  """The dtype that `stored` gives, told from the header."""
  with parsing(path):
    bits = int(dataset.get('BitsAllocated') or 16)
    signed = int(dataset.get('PixelRepresentation') or 0)
    # Floats, which a header read without its pixels does not show, have none.
    floats = bits >= 32 and dataset.get('PixelRepresentation') is None
    if floats or bits not in (1, 8, 16, 32):
      return np.dtype(np.float32)
    return np.dtype(f'{"i" if signed else "u"}{max(bits, 8) // 8}')


def rescale(array, slope, intercept, dtype):
  """`slope * array + intercept`, as `dtype`."""
  if (slope, intercept) == (1.0, 0.0):
    return array.astype(dtype, copy=False)
  if np.dtype(dtype).kind in 'iu':
    return array.astype(dtype) * int(slope) + int(intercept)
  return (array * float(slope) + float(intercept)).astype(dtype)


def rescaled_dtype(stored, slopes, intercepts):
  """The dtype for values: whole numbers stay whole.

  The stored dtype if nothing is rescaled, int32 if all slopes and intercepts
  are whole numbers and it can hold the results, else float32.
  """
  pairs = set(zip(slopes, intercepts, strict=True))
  if pairs == {(1.0, 0.0)} or stored.kind == 'f':
    return stored
  bounds = np.iinfo(stored)
  whole = all(s == int(s) and i == int(i) for s, i in pairs)
  top = max(
    abs(s * b + i) for s, i in pairs for b in (int(bounds.min), int(bounds.max))
  )
  return np.dtype(np.int32 if whole and top < 2**31 else np.float32)


def shrink(array):
  """int32 as int16, where the values allow it (Hounsfield units do)."""
  if array.dtype != np.int32 or array.size == 0:
    return array
  if array.min() >= -(2**15) and array.max() < 2**15:
    return array.astype(np.int16)
  return array


def picture(dataset, path, *, slope=1.0, intercept=0.0, voi=False):
  """The values of a single-frame image, (rows, columns, C), and its window.

  Rescaling, or the modality look-up table, is applied; MONOCHROME1 is turned
  so that bright is high, unless the values are measurements (CT, PET). `voi`:
  the VOI look-up table or window is applied too, giving float32.
  Returns (array, window (low, high) or None).
  """
  array = stored(dataset, path)[0]
  window = window_of(dataset, path)
  if array.shape[-1] == 3:
    return array, None
  bits = int(number(dataset, 'BitsStored', path, default=16))
  with parsing(path, 'look-up table'):
    table = bool(dataset.get('ModalityLUTSequence'))
    # PS3.3 C.8.7.1.1.2: fluoroscopy is shown as it is stored.
    shown = dataset.get('Modality') in ('XA', 'RF')
    if table and not (voi and shown):
      window = None if shown else window
      array = lut.modality(array, dataset)
      low, high = 0, _table_top(dataset.ModalityLUTSequence)
      slope, intercept = 1.0, 0.0
    else:
      signed = array.dtype.kind == 'i'
      low = -(2 ** (bits - 1)) if signed else 0
      high = low + 2**bits - 1
      dtype = rescaled_dtype(array.dtype, [slope], [intercept])
      array = rescale(array, slope, intercept, dtype)
    # Twice the middle of what can be stored, or shown: the mirror's place.
    total = (low + high) * slope + 2 * intercept
    if voi:
      array = apply_voi_lut(array[..., 0], dataset)[..., None]
      array = array.astype(np.float32)
      if 'VOILUTSequence' in dataset:
        total = _table_top(dataset.VOILUTSequence)
  if inverted(dataset):
    array = _mirror(array, total)
    window = window and (total - window[1], total - window[0])
  return shrink(array), (None if voi else window)


def _table_top(sequence):
  """The largest value that the entries of a look-up table can have."""
  return 2 ** int(sequence[0].LUTDescriptor[2]) - 1


def inverted(dataset):
  """Whether low stored values are shown bright and mean more absorption."""
  photometric = str(dataset.get('PhotometricInterpretation') or '')
  modality = str(dataset.get('Modality') or '')
  return photometric == 'MONOCHROME1' and modality not in _MEASURED


def window_of(dataset, path):
  """The first window of a header as (low, high) in values, or None."""
  try:
    with parsing(path):
      centre, width = (
        float(v[0] if isinstance(v, pydicom.multival.MultiValue) else v)
        for v in (dataset.get('WindowCenter'), dataset.get('WindowWidth'))
      )
  except DicomError:
    return None  # absent, or damaged: it changes no value
  if not (math.isfinite(centre) and math.isfinite(width)) or width <= 0:
    return None
  return centre - width / 2, centre + width / 2


def check(dataset, path):
  """Refuses pixels that are absent, cannot be, or cannot be decoded."""
  _check_claim(dataset, path)
  _check_decoder(dataset, path)
  _check_frames(dataset, path)


def _mirror(array, total):
  if array.dtype.kind in 'iu' and total == int(total):
    turned = int(total) - array.astype(np.int64)
    if turned.min() >= np.iinfo(array.dtype).min and (
      turned.max() <= np.iinfo(array.dtype).max
    ):
      return turned.astype(array.dtype)
    return turned.astype(np.int32)
  return (total - array).astype(np.float32)


def _check_claim(dataset, path):
  """Refuses absent pixels, and sizes that the file cannot hold."""
  word = next((w for w in _WORDS if w in dataset), None)
  if word is None:
    raise DicomError(
      f'{path}: holds no pixels (truncated, or not an image?); copy it again'
    )
  with parsing(path):
    found = len(dataset[word].value or b'')
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    samples = int(dataset.get('SamplesPerPixel') or 0)
    frames = int(dataset.get('NumberOfFrames') or 1)
    bits = int(dataset.BitsAllocated)
    photometric = str(dataset.get('PhotometricInterpretation') or '')
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
  if not photometric or samples not in (1, 3) or min(rows, columns) < 1:
    raise DicomError(
      f'{path}: its header describes no picture ({rows}x{columns}, {samples} '
      f'samples); mend the header'
    )
  if frames < 1 or bits not in (1, 8, 16, 32, 64):
    raise DicomError(
      f'{path}: NumberOfFrames {frames}, BitsAllocated {bits}; mend the header'
    )
  claim = rows * columns * samples * frames * bits // 8
  if photometric == 'YBR_FULL_422' and not compressed:
    claim = claim * 2 // 3
  if not compressed and found < claim:
    raise DicomError(
      f'{path}: truncated: {found} of {claim} bytes of pixels; copy it again'
    )
  if compressed and claim > max(_CLAIM_LIMIT, _CLAIM_RATIO * found):
    raise DicomError(
      f'{path}: its header claims {claim >> 20} MiB of pixels, which its '
      f'{found >> 10} KiB cannot hold; copy it again'
    )


def _check_frames(dataset, path):
  """Refuses compressed frames larger than the header says."""
  syntax = dataset.file_meta.TransferSyntaxUID
  if not syntax.is_encapsulated or syntax == pydicom.uid.RLELossless:
    return
  with parsing(path, 'pixels'):
    frames = generate_frames(
      dataset.PixelData,
      number_of_frames=int(dataset.get('NumberOfFrames') or 1),
    )
    said = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    for frame in frames:
      size = stated_size(frame)
      if size and any(a > b for a, b in zip(size, said, strict=True)):
        raise DicomError(
          f'{path}: its header says {said[0]}x{said[1]}x{said[2]}, its '
          f'compressed pixels {size[0]}x{size[1]}x{size[2]}; copy it again'
        )


def _check_decoder(dataset, path):
  syntax = dataset.file_meta.TransferSyntaxUID
  if not syntax.is_transfer_syntax or syntax.is_private:
    raise DicomError(f'{path}: unknown transfer syntax; save it uncompressed')
  if not syntax.is_compressed or syntax == pydicom.uid.RLELossless:
    return
  if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
    return
  try:
    available = _plugins(syntax)
  except NotImplementedError:
    raise DicomError(
      f'{path}: no decoder for {syntax.name}; save it uncompressed'
    ) from None
  wide = syntax == pydicom.uid.JPEGExtended12Bit and dataset.BitsStored > 8
  if not available or (wide and available == ['pillow']):
    raise DicomError(
      f'{path}: compressed as {syntax.name}, for which no decoder is '
      'installed; pip install medjax[dicom]'
    )
