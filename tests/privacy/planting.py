"""A person who is nobody, written into DICOM files wherever something fits.

`plant(dataset, person, path)` writes a file with more than 40 hidden places;
`leaks(path, person)` looks for the person in the bytes and in the values.
"""

import base64
import dataclasses
import functools
import io
import re
import struct
import unicodedata

import numpy as np
import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag


@dataclasses.dataclass(frozen=True)
class Person:
  """Who; the charset is that of the name."""

  family: str
  given: str
  charset: str
  codec: str
  mrn: str
  birth: str = '19370411'
  phone: str = '+49-555-8080917'
  street: str = 'Quittenweg 17'
  town: str = 'Kleinzschachwitz'
  doctor: str = 'Xaverheimer'
  hospital: str = 'Sankt-Quirinus-Klinikum'
  serial: str = 'SNQ77Z4821'
  accession: str = 'ACQ5520914'
  mail: str = 'quade@example.org'
  mother: str = 'Dolgorukowna'  # of whom no header tells


PEOPLE = (
  Person('Zebrowski', 'Ophelia', 'ISO_IR 100', 'latin-1', 'QMR8841770'),
  Person('Müllerström', 'Jörgína', 'ISO_IR 100', 'latin-1', 'QMR8841771'),
  Person('Διονυσιάδης', 'Αναστασία', 'ISO_IR 126', 'iso8859-7', 'QMR8841772'),
  Person('Люксембург', 'Ярослава', 'ISO_IR 144', 'iso8859-5', 'QMR8841773'),
  Person('山田邦彦', '太郎左衛門', 'ISO_IR 192', 'utf-8', 'QMR8841774'),
)


# A number of which the file then has an id: pydicom writes no other.
_HOLE = '1777777701'


def _set(ds, tag, vr, value):
  ds[tag] = DataElement(tag, vr, value, validation_mode=0)


def _code(meaning, value='T-1', scheme='99QQ'):
  item = Dataset()
  _set(item, 0x00080100, 'SH', value)
  _set(item, 0x00080102, 'SH', scheme)
  _set(item, 0x00080104, 'LO', meaning)
  return item


def _deep(depth, name, person):
  """Referenced images within one another, with a person at every depth."""
  item = Dataset()
  _set(item, 0x00081150, 'UI', '1.2.840.10008.5.1.4.1.1.2')
  _set(item, 0x00081155, 'UI', f'1.2.3.4.{person.mrn[3:]}.{depth}')
  _set(item, 0x00100010, 'PN', name)
  _set(item, 0x00080090, 'PN', person.doctor)
  _set(item, 0x0040A170, 'SQ', Sequence([_code(f'of {person.family} {depth}')]))
  if depth > 1:
    deeper = _deep(depth - 1, name, person)
    _set(item, 0x00081140, 'SQ', Sequence([deeper]))
    _set(item, 0x00082112, 'SQ', Sequence([deeper]))
  return item


def _text_item(kind, tag, vr, value, children=()):
  item = Dataset()
  _set(item, 0x0040A010, 'CS', 'CONTAINS')
  _set(item, 0x0040A040, 'CS', kind)
  _set(item, 0x0040A043, 'SQ', Sequence([_code('Finding', '121071', 'DCM')]))
  _set(item, tag, vr, value)
  if children:
    _set(item, 0x0040A730, 'SQ', Sequence(list(children)))
  return item


def plant(ds, person, path, number):
  """Writes the file; returns how many places hold the person."""
  p, count = person, 0
  name = f'{p.family}^{p.given}'
  free = f'{p.mother} for {p.given} {p.family}, {p.street}, {p.town}, {p.birth}'
  encoded = base64.b64encode(f'{p.family} {p.given}'.encode()).decode()
  reverse = (p.family + p.given)[::-1]
  flat = (p.given + p.family).upper()
  _set(ds, 0x00080005, 'CS', p.charset)
  plain = {
    # Where they belong.
    0x00100010: ('PN', name), 0x00100020: ('LO', p.mrn),
    0x00100030: ('DA', p.birth), 0x00101040: ('LO', f'{p.street} {p.town}'),
    0x00102154: ('SH', p.phone), 0x00101000: ('LO', p.mrn),
    0x00101001: ('PN', name), 0x00101060: ('PN', f'{p.family}^Maria'),
    0x00080080: ('LO', p.hospital), 0x00080081: ('ST', f'{p.street} {p.town}'),
    0x00080090: ('PN', p.doctor), 0x00081050: ('PN', p.doctor),
    0x00081070: ('PN', p.doctor), 0x00321032: ('PN', p.doctor),
    0x00080050: ('SH', p.accession), 0x00181000: ('LO', p.serial),
    0x00081010: ('SH', p.serial), 0x00200010: ('SH', p.accession),
    # Free text.
    0x00081030: ('LO', free[:64]),
    0x0008103E: ('LO', f'T1 {p.family} {p.mail}'),
    0x00104000: ('LT', free), 0x00204000: ('LT', free),
    0x001021B0: ('LT', f'Tel. {p.phone}'), 0x00181030: ('LO', f'p {flat}'),
    0x00082111: ('ST', f'by {p.doctor} for {p.mrn}'),
    0x00380040: ('LO', free[:64]), 0x00401400: ('LT', free),
    0x00184000: ('LT', free), 0x00620005: ('LO', free[:64]),
    # Where makers write.
    0x00080070: ('LO', f'ACME {p.family}'), 0x00081090: ('LO', flat),
    0x00181020: ('LO', encoded), 0x00181210: ('SH', p.mrn),
    0x00180024: ('SH', reverse[:16]), 0x00181250: ('SH', p.family[:16]),
    0x00080104: ('LO', free[:64]),
    # Codes, numbers, dates, UIDs.
    0x00180015: ('CS', p.mrn), 0x00185100: ('CS', 'HFS'),
    0x00200013: ('IS', p.birth), 0x00201041: ('DS', p.birth + '.0'),
    0x00200012: ('IS', _HOLE), 0x00180050: ('DS', _HOLE),
    0x00080023: ('DA', _ascii(p.family, p)),
    0x00080033: ('TM', _ascii(p.given, p)),
    0x0008002A: ('DT', p.mrn), 0x00101010: ('AS', '093Y'),
    0x0020000D: ('UI', f'1.2.3.{p.mrn[3:]}.1'),
    0x00080018: ('UI', f'1.2.3.{p.mrn[3:]}.2.{number}'),
    0x0020000E: ('UI', f'1.2.3.{p.birth}.3'),
    0x00200052: ('UI', f'1.2.3.{p.birth}.4'),
    # Retired, unknown, and of other classes.
    0x00084000: ('LT', free), 0x00100050: ('SQ', Sequence([_code(free)])),
    0x00420011: ('OB', b'%PDF ' + p.mrn.encode() + b' '),
    0x00880200: ('SQ', Sequence([_deep(1, name, p)])),
    0x00181400: ('LO', free[:64]), 0x00104010: ('SH', p.mrn),
    0x40000010: ('LT', free), 0x0008FFEE: ('LO', p.family),
    0xFFFCFFFC: ('OB', p.mrn.encode() * 2),
    # Bytes.
    0x00282000: ('OB', b'icc ' + p.mrn.encode() + b' \0'),
    0x00281201: ('OW', p.mrn.encode()), 0x50003000: ('OW', p.mrn.encode()),
    0x60003000: ('OW', p.mrn.encode() * 2), 0x60004000: ('LT', free),
    0x00181800: ('CS', _ascii(flat[:16], p)),
    # Sequences, to six levels.
    0x00081140: ('SQ', Sequence([_deep(6, name, p)])),
    0x00082112: ('SQ', Sequence([_deep(3, name, p), _deep(1, name, p)])),
    0x00400275: ('SQ', Sequence([_deep(2, name, p)])),
    0x00189346: ('SQ', Sequence([_code(free[:64])])),
    0x00400555: ('SQ', Sequence([_text_item('TEXT', 0x0040A160, 'UT', free)])),
    0x00082218: ('SQ', Sequence([_code(flat), _code(p.mrn, p.mrn, p.mrn)])),
    0x0040A730: ('SQ', Sequence([
      _text_item('TEXT', 0x0040A160, 'UT', free, [
        _text_item('PNAME', 0x0040A123, 'PN', name, [
          _text_item('DATE', 0x0040A121, 'DA', p.birth),
          _text_item('UIDREF', 0x0040A124, 'UI', f'1.2.3.{p.mrn[3:]}'),
          _text_item('DATETIME', 0x0040A120, 'DT', p.birth + '120000'),
        ])]),
    ])),
    # Private: a name, a sequence, bytes that are a sequence, a large one.
    0x00090010: ('LO', 'QUADE HEALTH'), 0x00091001: ('LO', name),
    0x00091002: ('SQ', Sequence([_deep(4, name, p)])),
    0x00091003: ('UN', _bytes_of(_deep(2, p.mrn, p))),
    0x00091004: ('OB', p.mrn.encode() * 3000),
    0x00091005: ('UT', '\0'.join(p.mrn)), 0x00110010: ('LO', p.mrn),
  }  # fmt: skip
  for tag, (vr, value) in plain.items():
    _set(ds, tag, vr, value)
    count += 1
  if ds.original_encoding == (False, True):  # a sequence as UN has it
    ds.set_original_encoding(False, True, ds._character_set)
    data = _bytes_of(_deep(2, p.mrn, p))
    ds._dict[BaseTag(0x00081250)] = RawDataElement(
      BaseTag(0x00081250), 'UN', len(data), data, 0, False, True
    )
    count += 1
  count += _in_pixels(ds, p)
  count += _write(ds, p, path)
  return count


def _ascii(text, p):
  return text if text.isascii() else p.mrn


def _bytes_of(item):
  """An item as UN has it: implicit, little endian."""
  from pydicom.filebase import DicomBytesIO
  from pydicom.filewriter import write_dataset

  buffer = DicomBytesIO()
  buffer.is_implicit_VR, buffer.is_little_endian = True, True
  write_dataset(buffer, item, 'utf-8')
  data = buffer.getvalue()
  return struct.pack('<HHI', 0xFFFE, 0xE000, len(data)) + data


def _in_pixels(ds, p):
  """Behind native pixels; in a comment and behind the end of a JPEG."""
  if 'PixelData' not in ds:
    return 0
  hidden = p.mrn.encode() + p.family.encode(p.codec)
  if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
    ds.PixelData = ds.PixelData + hidden + b'\0' * (len(hidden) % 2)
    return 1
  try:
    count = int(ds.get('NumberOfFrames') or 1)
    frames = list(generate_frames(ds.PixelData, number_of_frames=count))
  except ValueError:
    return 0
  if frames[0][:2] == b'\xff\xd8':
    comment = b'\xff\xfe' + struct.pack('>H', len(hidden) + 2) + hidden
    frames = [f[:2] + comment + f[2:] + hidden for f in frames]
  elif frames[0][:2] == b'\xff\x4f':
    comment = b'\xff\x64' + struct.pack('>HH', len(hidden) + 4, 1) + hidden
    size = int.from_bytes(frames[0][4:6]) + 4
    frames = [f[:size] + comment + f[size:] + hidden for f in frames]
  else:
    frames = [f + hidden for f in frames]
  ds.PixelData = encapsulate(frames)
  return 2


def _write(ds, p, path):
  """Writes it with a person in the preamble, in group 2 and behind the end."""
  for tag in [t for t in list(ds.keys()) if t.element == 0]:
    del ds[tag]
  buffer = io.BytesIO()
  pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
  data = buffer.getvalue().replace(_HOLE.encode(), p.mrn.encode())
  data = bytearray(data)
  hidden = f'{p.family}{p.mrn}'.encode()
  data[:20] = hidden[:20].ljust(20, b' ')
  path.write_bytes(bytes(data) + hidden * 3)
  return 2


def needles(person):
  """(texts, bytes) that must be nowhere."""
  p = person
  texts = {
    p.family, p.given, p.mrn, p.mrn[3:], p.birth, p.street, p.town, p.doctor,
    p.hospital, p.mother, p.serial, p.accession, p.mail,
    '5558080917', '8080917',
    p.family + p.given, p.given + p.family, 'quade', '11041937', '04111937',
    '11.04.1937', '1937-04-11',
  }  # fmt: skip
  texts |= {t[::-1] for t in texts if t != 'quade'}
  texts |= {_folded(t) for t in texts}
  raw = set()
  for text in texts:
    for codec in (p.codec, 'utf-8', 'utf-16-le', 'utf-16-be'):
      for form in (text, text.upper(), text.lower()):
        try:
          raw.add(form.encode(codec))
        except UnicodeEncodeError:
          continue
  for text in (f'{p.family} {p.given}', p.family, p.mrn):
    raw.add(base64.b64encode(text.encode()).rstrip(b'='))
    raw.add(text.encode().hex().encode())
  return texts, raw


def _folded(text):
  text = unicodedata.normalize('NFKD', text)
  return ''.join(c for c in text if not unicodedata.combining(c))


@functools.cache
def _all_needles(people):
  texts, raw = set(), set()
  for person in people:
    found = needles(person)
    texts |= {re.sub(r'\W', '', t).casefold() for t in found[0]}
    raw |= found[1]
  return texts, raw


def leaks(path, people=PEOPLE):
  """[(where, what)] of people in one file, in its bytes and its values."""
  flat, raw = _all_needles(people)
  data = path.read_bytes()
  found = [('bytes', n) for n in raw if n in data]
  for place, value in _values(pydicom.dcmread(path)):
    text = re.sub(r'\W', '', value).casefold()
    found += [(place, n) for n in flat if n in text]
  return found


def _values(ds, place=''):
  for element in ds:
    here = f'{place}/{element.tag}'
    if element.VR == 'SQ':
      for item in element.value:
        yield from _values(item, here)
    elif isinstance(element.value, bytes):
      yield here, element.value.decode('latin-1')
    elif element.VR == 'UI' and str(element.value).startswith('2.25.'):
      continue  # 38 digits that are a digest
    else:
      yield here, _string(element.value)


def _string(value):
  if isinstance(value, list | tuple | np.ndarray) or (
    not isinstance(value, str) and hasattr(value, '__iter__')
  ):
    return '\\'.join(_string(v) for v in value)
  return str(value)
