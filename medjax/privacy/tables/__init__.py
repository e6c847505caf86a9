"""What the DICOM standard says of confidentiality, as tables and as rules.

The files are made by `benchmarks/privacy_tables.py`: PS3.15 Tables E.1-1,
E.3.4-1 and E.3.10-1, edition 2026d, and which attributes a SOP class has.
"""

import csv
import functools
import importlib.resources

from pydicom.datadict import dictionary_VR

EDITION = '2026d'

# Option → its code in CID 7050; the Basic Profile is 113100.
BASIC = ('113100', 'Basic Application Confidentiality Profile')
OPTIONS = {
  'clean-pixels': ('113101', 'Clean Pixel Data Option'),
  'clean-faces': ('113102', 'Clean Recognizable Visual Features Option'),
  'clean-graphics': ('113103', 'Clean Graphics Option'),
  'clean-structured': ('113104', 'Clean Structured Content Option'),
  'clean-descriptors': ('113105', 'Clean Descriptors Option'),
  'retain-full-dates': (
    '113106',
    'Retain Longitudinal Temporal Information Full Dates Option',
  ),
  'retain-modified-dates': (
    '113107',
    'Retain Longitudinal Temporal Information Modified Dates Option',
  ),
  'retain-patient-characteristics': (
    '113108',
    'Retain Patient Characteristics Option',
  ),
  'retain-device': ('113109', 'Retain Device Identity Option'),
  'retain-uids': ('113110', 'Retain UIDs Option'),
  'retain-safe-private': ('113111', 'Retain Safe Private Option'),
  'retain-institution': ('113112', 'Retain Institution Identity Option'),
}

# SOP classes that were retired or are drafts, and whose modules they have.
_AS = {
  '1.2.840.10008.5.1.4.1.1.3': '1.2.840.10008.5.1.4.1.1.3.1',
  '1.2.840.10008.5.1.4.1.1.5': '1.2.840.10008.5.1.4.1.1.20',
  '1.2.840.10008.5.1.4.1.1.6': '1.2.840.10008.5.1.4.1.1.6.1',
  '1.2.840.10008.5.1.4.1.1.12.3': '1.2.840.10008.5.1.4.1.1.12.1',
}
# A sequence that Annex E wants as a dummy, and that is more than codes.
_WALKED = (0x0040A073, 0x00081111)  # observers; procedure steps by UID


def _rows(name):
  text = importlib.resources.files(__name__).joinpath(name)
  with text.open(encoding='utf-8', newline='') as f:
    yield from csv.reader(f)


def words(name):
  """The words of one of the lists beside this module."""
  text = importlib.resources.files(__name__).joinpath(name)
  return frozenset(text.read_text(encoding='utf-8').split())


@functools.cache
def annex_e():
  """{tag, or 'private': (name, basic action, {option: action})}."""
  (_, _, _, *options), *rows = _rows('annex_e.csv')
  return {
    tag if tag == 'private' or 'x' in tag else int(tag, 16): (
      name,
      basic,
      {o: c for o, c in zip(options, cells, strict=True) if c},
    )
    for tag, name, basic, *cells in rows
  }


@functools.cache
def content_items():
  """{(scheme, code, value type): (name, basic action, {option: action})}."""
  (_, _, _, _, _, *options), *rows = _rows('content_items.csv')
  return {
    (scheme, code, kind): (
      name,
      basic,
      {o: c for o, c in zip(options, cells, strict=True) if c},
    )
    for code, scheme, name, kind, basic, *cells in rows
  }


def chosen(basic, cells, options):
  """One action: 'X', 'Z', 'D', 'U', 'K', 'C' or, of a sequence, 'W' to walk.

  Of an alternative such as X/Z/D the last is taken that keeps an object valid
  whatever type the attribute has in it. An option that retains goes before one
  that cleans.
  """
  said = {cells[o] for o in options if o in cells}
  if 'K' in said:
    return 'K'
  if 'C' in said:
    return 'C'
  return basic.rpartition('/')[2]


@functools.cache
def actions(options):
  """{tag: action} of Table E.1-1 under a tuple of options."""
  found = {}
  for tag, (_, basic, cells) in annex_e().items():
    if isinstance(tag, str):
      continue
    action = chosen(basic, cells, options)
    if action in 'DU' and _vr(tag) == 'SQ':
      action = _of_sequence(tag, action, basic)
    found[tag] = action
  return found


def _of_sequence(tag, action, basic):
  """A dummy item is only made where one is needed; else none is left."""
  if action == 'U' or tag in _WALKED:
    return 'W'
  if 'Z' in basic:
    return 'Z'
  return 'D' if tag in (0x0040A730, 0x00401101) else 'X'


def _vr(tag):
  try:
    return dictionary_VR(tag)
  except KeyError:  # newer than pydicom
    return 'UN'


@functools.cache
def _classes():
  uids = {number: uid for number, uid in _rows('classes.csv')}
  found = {uid: set() for uid in uids.values()}
  for numbers, tags in _rows('attributes.csv'):
    tags = [int(tag, 16) for tag in tags.split()]
    for number in numbers.split():
      found[uids[number]].update(tags)
  return {uid: frozenset(tags) for uid, tags in found.items()}


def allowed(sop_class):
  """Tags that a SOP class has at any depth, beside Annex E; None: unknown."""
  return _classes().get(_AS.get(sop_class, sop_class))


@functools.cache
def safe_private():
  """{(creator, group, element within its block)} of Table E.3.10-1."""
  return frozenset(
    (creator, int(group, 16), int(element, 16))
    for creator, group, element in _rows('safe_private.csv')
  )
