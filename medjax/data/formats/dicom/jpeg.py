"""Lossless and 12-bit JPEG, for pydicom, by imagecodecs (libjpeg-turbo).

pydicom itself has gdcm for the lossless, which ends the program on damaged
data, and pylibjpeg-libjpeg, whose licence is the GPL.
"""

import importlib.util

import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder

SYNTAXES = (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGExtended12Bit)
# pydicom asks a plugin for this name.
DECODER_DEPENDENCIES = {syntax: ('imagecodecs',) for syntax in SYNTAXES}
_END = b'\xff\xd9'


def is_available(syntax):
  """Whether frames of a transfer syntax can be decoded."""
  return syntax in SYNTAXES and bool(importlib.util.find_spec('imagecodecs'))


def decode_frame(frame, runner):
  """The samples of one frame as bytes, in the words that the header states."""
  import imagecodecs

  if _END not in frame[-8:]:  # else the rest would be grey
    raise ValueError('the frame has no end')
  # With both colour spaces stated as they are stored, nothing is converted.
  space = 'RGB' if runner.samples_per_pixel == 3 else 'GRAYSCALE'
  array = imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=space)
  word = np.dtype(f'<u{runner.bits_allocated // 8}')
  if array.dtype.itemsize > word.itemsize:
    raise ValueError('the frame has wider samples than the header says')
  if runner.samples_per_pixel == 3:
    runner.set_option('planar_configuration', 0)
  return array.astype(word).tobytes()


def register():
  """Makes pydicom know this module's decoder."""
  for syntax in SYNTAXES:
    decoder = get_decoder(syntax)
    if is_available(syntax) and 'imagecodecs' not in decoder.available_plugins:
      decoder.add_plugin('imagecodecs', (__name__, 'decode_frame'))
