"""A header made anew: only what may stay is copied, at any depth.

`Cleaner(…).cleaned(dataset)` builds another data set. An element comes into it
by the action of PS3.15 Table E.1-1 under the options, or, where that table does
not name it, because its SOP class has it; all else is left behind.
"""

import collections

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID_dictionary

from medjax.privacy import dates, tables, values, words

CHARSET = 0x00080005
PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
CONTENT = 0x0040A730
_PATIENT_ID, _PATIENT_NAME = 0x00100020, 0x00100010
_CODE_VALUE = 0x00080100
# Texts of makers and of terminologies, not of people.
_OF_DEVICES = frozenset(map(tag_for_keyword, (
  'Manufacturer', 'ManufacturerModelName', 'SoftwareVersions',
  'SecondaryCaptureDeviceManufacturer',
  'SecondaryCaptureDeviceManufacturerModelName',
  'SecondaryCaptureDeviceSoftwareVersions', 'DetectorManufacturerName',
  'DetectorManufacturerModelName', 'ReceiveCoilManufacturerName',
  'TransmitCoilManufacturerName', 'ApplicationName', 'ApplicationVersion',
  'ApplicationManufacturer', 'ConvolutionKernel', 'ReceiveCoilName',
  'TransmitCoilName', 'MultiCoilElementName', 'SequenceName',
  'PulseSequenceName', 'FilterType', 'ImageFilter', 'CollimatorGridName',
  'TriggerSourceOrType', 'TimeSource', 'Radiopharmaceutical', 'StackID',
  'AttenuationCorrectionMethod', 'ReconstructionMethod',
  'ScatterCorrectionMethod', 'DetectorLinesOfResponseUsed', 'RescaleType',
  'OpticalPathIdentifier', 'AlgorithmName', 'AlgorithmVersion',
  'SegmentAlgorithmName', 'MIMETypeOfEncapsulatedDocument', 'CodeValue',
  'CodingSchemeDesignator', 'CodingSchemeVersion',
)))  # fmt: skip
# Coded strings that say how to read an object; no short name is found in them.
STRUCTURE = frozenset(map(tag_for_keyword, (
  'SpecificCharacterSet', 'ImageType', 'Modality', 'ConversionType',
  'PresentationIntentType', 'ScanningSequence', 'SequenceVariant',
  'ScanOptions', 'MRAcquisitionType', 'PatientPosition', 'ContentQualification',
  'DimensionOrganizationType', 'PhotometricInterpretation',
  'BurnedInAnnotation', 'LossyImageCompression', 'LossyImageCompressionMethod',
  'RelationshipType', 'ValueType', 'ContinuityOfContent', 'CompletionFlag',
  'VerificationFlag', 'Units', 'CountsSource', 'DecayCorrection',
  'SegmentationType', 'SegmentAlgorithmType', 'SegmentationFractionalType',
  'DoseUnits', 'DoseType', 'DoseSummationType', 'ContourGeometricType',
)))  # fmt: skip
_CODE_SYSTEMS = '2.16.840.1.113883.6.'
_CHARSETS = frozenset(
  ['', 'ISO_IR 6', 'ISO_IR 192', 'GB18030', 'GBK', 'ISO 2022 IR 6']
  + [f'ISO_IR {n}' for n in (100, 101, 109, 110, 144, 127, 126, 138, 148, 203,
                             13, 166)]
  + [f'ISO 2022 IR {n}' for n in (100, 101, 109, 110, 144, 127, 126, 138, 148,
                                  203, 13, 166, 87, 159, 149, 58)]
)  # fmt: skip


class Cleaner:
  """Makes the headers of one patient's files of one SOP class anew.

  options: names of `tables.OPTIONS`, a tuple. days: the shift of dates.
  `done` counts (tag, what was done, by which rule).
  """

  def __init__(self, key, options, sop_class, identifiers, days):
    self.key, self.options, self.days = key, options, days
    self.identifiers = identifiers
    self.actions = tables.actions(options)
    self.allowed = tables.allowed(sop_class)
    self.done = collections.Counter()
    self.wide = False  # whether a kept text needs more than ASCII

  def cleaned(self, dataset, encodings=('ascii',), root=True):
    """Another data set with what may stay of one; the given one is not used on.

    Pixel data are left to the caller.
    """
    encodings = values.encodings_of(dataset, encodings)
    new = Dataset()
    creators = _creators(dataset)
    for tag in sorted(dataset.keys()):
      if tag in PIXELS and root:
        continue
      action, rule = self._action(tag, creators, root)
      element = None
      if action != 'X':
        element, action = self._applied(dataset, tag, action, encodings, root)
      if element is not None:
        new._dict[tag] = element
      self.done[int(tag), action, rule] += 1
    self._keep_creators(new, creators)
    if root and CHARSET in new and self.wide:
      new._dict[CHARSET] = values.new(CHARSET, 'CS', 'ISO_IR 192')
    elif root and self.wide:
      new.add(values.new(CHARSET, 'CS', 'ISO_IR 192'))
    new.set_original_encoding(*dataset.original_encoding, new_charset(new))
    return new

  def _action(self, tag, creators, root):
    """What to do with a tag, and by which rule."""
    if tag.element == 0 or tag.group < 8 or tag.group == 0xFFFC:
      return 'X', 'structure'
    if tag == CHARSET:
      return ('K' if root else 'X'), 'class'
    if tag.group & 1:
      return self._of_private(tag, creators)
    if 0x5000 <= tag.group < 0x5100 or 0x6000 <= tag.group < 0x6100:
      return 'X', 'E.1-1'
    if tag in self.actions:
      return self.actions[tag], 'E.1-1'
    if tag in self.allowed:
      return 'K', 'class'
    return 'X', 'class'

  def _of_private(self, tag, creators):
    if 'retain-safe-private' in self.options and tag.element >= 0x1000:
      creator = creators.get((tag.group, tag.element >> 8))
      if (creator, tag.group, tag.element & 0xFF) in tables.safe_private():
        return 'K', 'E.3.10'
    return 'X', 'E.1-1'

  def _keep_creators(self, new, creators):
    """Names the owners of the private elements that were kept."""
    used = {(t.group, t.element >> 8) for t in list(new.keys()) if t.group & 1}
    for group, block in used:
      tag = group << 16 | block
      new.add(values.new(tag, 'LO', creators[group, block]))

  def _applied(self, dataset, tag, action, encodings, root):
    """(element or None, the action that was taken)."""
    element = dataset.get_item(tag)
    vr = values.vr_of(element)
    if vr == 'SQ' or element.VR == 'SQ':
      return self._sequence(dataset, tag, action, encodings)
    if element.VR == 'UN':  # parsed by what the dictionary says
      try:
        element = dataset[tag]
      except Exception:
        return None, 'X'
      if element.VR == 'UN' or ' or ' in element.VR:
        return None, 'X'
    if not vr:
      return None, 'X'
    if element.VR is None and not dataset.original_encoding[0]:
      element = dataset[tag]  # implicit, in a file that says explicit
    if tag in (_PATIENT_ID, _PATIENT_NAME) and action != 'K':
      return self._pseudonym(dataset, tag, vr, encodings, root), 'D'
    if vr == 'UI':
      return self._uids(element, action), 'U'
    if action in 'ZD':
      return self._dummy(element, vr, action), action
    kept = self._kept(element, vr, action, encodings)
    if kept is None:  # nothing of it may stay: as without the option
      basic = tables.annex_e().get(int(tag), ('', ''))[1].rpartition('/')[2]
      if basic == 'X':
        return None, 'X'
      # A text may be one that an object must have; no number is made up.
      words_of = vr in values.TEXT or vr == 'CS'
      action = basic or ('D' if words_of else 'Z')
      return self._dummy(element, vr, action), action
    return kept, action

  def _pseudonym(self, dataset, tag, vr, encodings, root):
    patient = values.text(dataset.get_item(tag), encodings)
    if not root:
      return values.new(tag, vr, '')
    if not patient:
      return values.new(tag, vr, '')
    if tag == _PATIENT_NAME:
      element = (
        dataset.get_item(_PATIENT_ID) if _PATIENT_ID in dataset else None
      )
      patient = (values.text(element, encodings) if element else '') or patient
    return values.new(tag, vr, self.key.patient(patient))

  def _uids(self, element, action):
    """UIDs of the standard stay; others are replaced, always alike."""
    uids = values.text(element).split('\\')
    if action == 'K' and 'retain-uids' in self.options:
      uids = [u for u in uids if values.is_well_formed(element, 'UI')]
    else:
      uids = [self.uid(u.strip(' \0')) for u in uids]
    return values.new(element.tag, 'UI', uids if len(uids) > 1 else uids[0])

  def uid(self, uid):
    """The UID that another becomes; '' stays."""
    if not uid or uid in UID_dictionary:
      return uid
    rest = uid.removeprefix(_CODE_SYSTEMS)
    if rest != uid and rest.isdigit() and len(rest) < 5:
      return uid
    return self.key.uid(uid)

  def _dummy(self, element, vr, action):
    if action == 'Z' or not values.element_bytes(element, vr):
      if vr in ('US', 'SS', 'UL', 'SL', 'FL', 'FD') or vr.startswith('O'):
        return values.new(element.tag, vr, b'' if vr[0] == 'O' else None)
      return values.new(element.tag, vr, '')
    return values.new(element.tag, vr, dummy(vr))

  def _kept(self, element, vr, action, encodings):
    """An element that stays, cleaned; None where nothing of it may."""
    tag = element.tag
    if tag == CHARSET:
      names = values.text(element).split('\\')
      return element if _CHARSETS.issuperset(names) else None
    if vr in values.DATES:
      return self._date(element, vr)
    if vr == 'AS':
      age = dates.age(values.text(element))
      return values.new(tag, vr, age) if age else None
    if vr in values.TEXT:
      return self._text(element, vr, action, encodings)
    if not values.is_well_formed(element, vr):
      return None
    if vr == 'CS':
      return self._codes(element)
    if vr in ('DS', 'IS'):
      parts = values.text(element).split('\\')
      found = any(map(self.identifiers.is_number, parts))
      return None if found else element
    numbers = values.numbers(element, vr)
    if any(self.identifiers.is_number(f'{n:.6f}') for n in numbers):
      return None
    data = values.element_bytes(element, vr)
    return None if self.identifiers.in_bytes(data) else element

  def _codes(self, element):
    """Coded strings without those that hold an identifier."""
    words = element.tag not in STRUCTURE
    parts = values.text(element).split('\\')
    fine = [
      '' if self.identifiers.within(p, words=words) or _has_id(p) else p
      for p in parts
    ]
    if fine == parts:
      return element
    fine = [f or (p and 'REMOVED') for f, p in zip(fine, parts, strict=True)]
    return values.new(element.tag, 'CS', fine) if len(fine) > 1 else None

  def _date(self, element, vr):
    parts = values.text(element).split('\\')
    if 'retain-modified-dates' in self.options:
      days = self.days
    elif 'retain-full-dates' in self.options:
      days = 0
    else:
      return None
    parts = [dates.shifted(p, vr, days) for p in parts]
    if not all(parts):
      return None
    return values.new(element.tag, vr, parts if len(parts) > 1 else parts[0])

  def _text(self, element, vr, action, encodings):
    """Words of people are cleaned, those of devices looked through."""
    tag, text = element.tag, values.text(element, encodings)
    if not text:
      return values.new(tag, vr, '')
    many = vr not in ('LT', 'ST', 'UT', 'UR')
    parts = text.split('\\') if many else [text]
    if tag in self.actions and action == 'K':  # an option retains it
      parts = ['' if self.identifiers.within(p) else p for p in parts]
      parts = [p if p.isprintable() else '' for p in parts]
    elif tag in _OF_DEVICES:
      digits = 18 if tag == _CODE_VALUE else 8  # as SNOMED CT has
      parts = [
        words.of_device(p, self.identifiers, digits=digits) for p in parts
      ]
    else:
      parts = [words.cleaned(p, self.identifiers) for p in parts]
    if not any(parts):
      return None
    self.wide |= not all(p.isascii() for p in parts)
    return values.new(tag, vr, parts if len(parts) > 1 else parts[0])

  def _sequence(self, dataset, tag, action, encodings):
    """(sequence or None, the action that was taken)."""
    try:
      element = dataset[tag]
      items = list(element.value or ())
    except Exception:  # its bytes are no items
      return None, 'X'
    if element.VR != 'SQ':
      return None, 'X'
    if action == 'Z':
      return _sequence(tag, []), 'Z'
    if action == 'D':
      from medjax.privacy import structured

      return _sequence(tag, [structured.dummy(tag)] if items else []), 'D'
    if action == 'C' and tag not in (0x00700001, 0x00400275):
      from medjax.privacy import structured

      cleaned = [structured.item(self, i, encodings) for i in items]
      cleaned = [i for i in cleaned if i is not None]
    else:
      cleaned = [self.cleaned(i, encodings, root=False) for i in items]
    return _sequence(tag, cleaned), action


def _has_id(text):
  return sum(map(str.isdigit, text)) > 7


def _sequence(tag, items):
  return values.new(tag, 'SQ', Sequence(items))


def dummy(vr):
  """A value of a VR that says nothing."""
  if vr in dates.DUMMIES:
    return dates.DUMMIES[vr]
  if vr in ('DS', 'IS'):
    return '0'
  if vr == 'AS':
    return '000Y'
  if vr in ('US', 'SS', 'UL', 'SL', 'FL', 'FD', 'UV', 'SV'):
    return 0
  return b'\0\0' if vr.startswith('O') or vr == 'UN' else 'REMOVED'


def _creators(dataset):
  """{(group, block): creator} of the private blocks of a data set."""
  found = {}
  for tag in list(dataset.keys()):
    if tag.group & 1 and 0x10 <= tag.element < 0x100:
      element = dataset.get_item(tag)
      found[tag.group, tag.element] = values.text(element)
  return found


def new_charset(dataset):
  """The charset with which pydicom shall write, so that it converts nothing."""
  return dataset._character_set
