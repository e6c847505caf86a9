"""Values of DICOM elements as text, and what a value of each VR may look like.

Elements are looked at as the bytes in which they were stored: damaged values
are seen as they are, and what is kept is written as it was.
"""

import functools
import re
import struct

import pydicom.charset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue

TEXT = frozenset(('LO', 'SH', 'LT', 'ST', 'UT', 'UC', 'PN', 'AE', 'UR'))
DATES = frozenset(('DA', 'DT', 'TM'))
_STRINGS = TEXT | DATES | {'CS', 'UI', 'DS', 'IS', 'AS'}
# struct's letter of numbers that can be read one by one.
_NUMBERS = {'US': 'H', 'SS': 'h', 'UL': 'I', 'SL': 'i', 'UV': 'Q', 'SV': 'q',
            'FL': 'f', 'FD': 'd'}  # fmt: skip
_SIZES = {
  'US': 2, 'SS': 2, 'UL': 4, 'SL': 4, 'FL': 4, 'FD': 8, 'AT': 4, 'UV': 8,
  'SV': 8, 'OW': 2, 'OL': 4, 'OF': 4, 'OD': 8, 'OV': 8,
}  # fmt: skip
_FORMS = {
  'DS': re.compile(rb'[0-9+\-.eE \\]*'),
  'IS': re.compile(rb'[0-9+\- \\]*'),
  'UI': re.compile(rb'[0-9.\\]*'),
  'AS': re.compile(rb'[0-9]{3}[DWMY]'),
  # Capital letters by the standard; small ones are common.
  'CS': re.compile(rb'[A-Za-z0-9_ \\/.+\-]*'),
}
_FAMILIES = (
  frozenset(('OB', 'OW', 'UN')),
  frozenset(('US', 'SS', 'OW')),
  frozenset(('LO', 'SH', 'CS', 'UC', 'UT', 'ST', 'LT')),
  frozenset(('DS', 'IS')),
)
_LONGEST_ITEM = {'DS': 32, 'IS': 20, 'CS': 64, 'UI': 64}


@functools.cache
def official(tag):
  """VRs of a tag in the data dictionary: ('US', 'SS'); () for none."""
  try:
    return tuple(dictionary_VR(tag).split(' or '))
  except KeyError:
    return ()


def vr_of(element):
  """The VR of an element; '' where file and dictionary contradict."""
  vrs = official(element.tag)
  said = element.VR
  if said in (None, 'UN', '') or (said not in vrs and ' or ' in str(said)):
    return vrs[0] if vrs else 'UN'
  if said in vrs or not vrs:
    return said
  for family in _FAMILIES:
    if said in family and family.intersection(vrs):
      return said
  return ''


def encodings_of(dataset, parent):
  """Python's encodings for the texts of a data set, or of one around it."""
  element = dataset.get_item(0x00080005) if 0x00080005 in dataset else None
  if element is None:
    return parent
  raw = element.value
  if isinstance(raw, bytes):
    raw = raw.decode('ascii', 'replace').strip(' \0').split('\\')
  names = [raw] if isinstance(raw, str) else list(raw or ())
  try:
    return tuple(pydicom.charset.convert_encodings(names or ['']))
  except (LookupError, ValueError):
    return ('utf-8',)


def text(element, encodings=('ascii',)):
  r"""The text of an element, values parted by a backslash; '' for none."""
  value = element.value
  if value is None:
    return ''
  if isinstance(value, bytes):
    return _decoded(value, encodings).strip(' \0')
  if isinstance(value, str):
    return value.strip(' \0')
  if isinstance(value, list | tuple | MultiValue):
    return '\\'.join(str(v) for v in value)
  return str(value)


def _decoded(data, encodings):
  if data.isascii() and b'\x1b' not in data:
    return data.decode('ascii')
  try:
    return pydicom.charset.decode_bytes(
      data, list(encodings), {0x0D, 0x0A, 0x09, 0x0C, 0x5E, 0x3D, 0x5C}
    )
  except (LookupError, ValueError, AttributeError):
    return data.decode('latin-1')


def is_well_formed(element, vr):
  """Whether the bytes of an element are what its VR allows."""
  value = element.value
  if value is None or len(element_bytes(element, vr)) == 0:
    return True
  data = element_bytes(element, vr)
  if vr in _FORMS:
    data = data.strip(b' \0')
    if vr in _LONGEST_ITEM and any(
      len(part.strip()) > _LONGEST_ITEM[vr] for part in data.split(b'\\')
    ):
      return False
    return _FORMS[vr].fullmatch(data) is not None
  if vr in _SIZES:
    return len(data) % _SIZES[vr] == 0
  return True


def element_bytes(element, vr):
  """The bytes of an element's value; of texts and numbers, of their text."""
  value = element.value
  if isinstance(value, bytes | bytearray):
    return bytes(value)
  if value is None:
    return b''
  if vr in _SIZES and not isinstance(value, str):
    return b''  # numbers already
  return text(element).encode('utf-8', 'replace')


def numbers(element, vr):
  """The numbers of a binary element, if they are few enough to be looked at."""
  letter = _NUMBERS.get(vr)
  value = element.value
  if letter is None or value is None:
    return ()
  if isinstance(value, bytes):
    size = struct.calcsize(letter)
    if len(value) > 64 * size or len(value) % size:
      return ()
    order = '<' if getattr(element, 'is_little_endian', True) else '>'
    return struct.unpack(f'{order}{len(value) // size}{letter}', value)
  if isinstance(value, int | float):
    return (value,)
  return tuple(value)[:64] if hasattr(value, '__iter__') else ()


def is_string(vr):
  """Whether values of a VR are stored as characters."""
  return vr in _STRINGS


def new(tag, vr, value):
  """A DataElement that takes the value as it is, valid or not."""
  return DataElement(tag, vr, value, validation_mode=0)
