"""What identifies one patient, and whether a value holds any of it.

Annex E says which attributes to remove; this finds their values where they do
not belong: a name as a description, an id as a number, reversed, encoded.
"""

import base64
import dataclasses
import functools
import re
import unicodedata

from pydicom.datadict import tag_for_keyword

from medjax.privacy import values

# Whose values identify beside all names of persons (VR PN).
_IDS = (
  'PatientID', 'OtherPatientIDs', 'AccessionNumber', 'StudyID',
  'IssuerOfPatientID', 'InstitutionName', 'InstitutionAddress',
  'InstitutionalDepartmentName', 'ReferringPhysicianAddress',
  'ReferringPhysicianTelephoneNumbers', 'PatientAddress',
  'PatientTelephoneNumbers', 'PatientTelecomInformation',
  'PatientInsurancePlanCodeSequence', 'MilitaryRank', 'BranchOfService',
  'MedicalRecordLocator', 'CountryOfResidence', 'RegionOfResidence',
  'PatientReligiousPreference', 'Occupation', 'StationName',
  'DeviceSerialNumber', 'RequestingService', 'AdmissionID', 'ServiceEpisodeID',
  'CurrentPatientLocation', 'PatientInstitutionResidence',
  'PlacerOrderNumberImagingServiceRequest',
  'FillerOrderNumberImagingServiceRequest', 'RequestedProcedureID',
  'ScheduledProcedureStepID', 'PerformedProcedureStepID', 'PersonAddress',
  'PersonTelephoneNumbers', 'ResponsibleOrganization', 'VerifyingOrganization',
  'ClinicalTrialSubjectID', 'ClinicalTrialSiteName', 'ClinicalTrialSiteID',
  'ClinicalTrialSubjectReadingID', 'OrderEnteredBy', 'OrderCallbackPhoneNumber',
  'PatientBirthName', 'PatientMotherBirthName', 'GantryID', 'DetectorID',
  'PlateID', 'PerformedLocation', 'PerformedStationName',
  'ScheduledStationName',
)  # fmt: skip
_DATES = ('PatientBirthDate', 'PatientDeathDate')
_TEXTS = re.compile(rb'[\x20-\x7e]{6,}')
_WIDE = (
  re.compile(rb'(?:[\x20-\x7e]\0){6,}'),
  re.compile(rb'(?:\0[\x20-\x7e]){6,}'),
)
# Bytes as a letter, zero or neither: whether there is any text is quickly seen.
_KINDS = bytes(
  ord('a') if 0x20 <= b <= 0x7E else b and ord('x') for b in range(256)
)
_WORD = 5  # characters from which on a text is looked for within others


def normal(text):
  """Letters and digits alone, without accents, in small letters."""
  text = unicodedata.normalize('NFKD', text)
  return ''.join(c for c in text.casefold() if c.isalnum())


@dataclasses.dataclass(frozen=True)
class Identifiers:
  """Of one patient: words, texts (normal, from five characters on), codes.

  words: found as whole words. texts: found within others, as are their
  reversals. codes: parts of base64, where case counts. numbers: digits alone.
  """

  words: frozenset = frozenset()
  texts: frozenset = frozenset()
  codes: frozenset = frozenset()
  numbers: frozenset = frozenset()

  def __or__(self, other):
    return Identifiers(
      *(
        getattr(self, f.name) | getattr(other, f.name)
        for f in dataclasses.fields(self)
      )
    )

  def is_word(self, token):
    """Whether one word of a text is one of these, forward or backward."""
    token = normal(token)
    return token in self.words or token[::-1] in self.words

  def within(self, text, *, words=True):
    """Whether a text holds any of them, in any of the disguises.

    words: also the short ones, which must be whole words of it.
    """
    plain = normal(text)
    return (
      any(t in plain for t in self.texts)
      or any(c in text for c in self.codes)
      or (words and any(map(self.is_word, re.findall(r'[^\W_]+', text))))
    )

  def is_number(self, text):
    """Whether the digits of a number are one of the ids."""
    digits = text.strip().lstrip('+-').partition('.')[0]
    return digits.lstrip('0') in self.numbers

  def in_bytes(self, data, least=6, *, numbers=True):
    """Whether text that lies in bytes, 8 or 16 bits a letter, holds any.

    numbers: also digits alone, which among many coordinates come by chance.
    """
    kinds = data.translate(_KINDS)
    runs = _TEXTS.findall(data) if b'a' * 6 in kinds else []
    for i, pair in enumerate((b'a\0', b'\0a')):
      if pair * 6 in kinds:
        runs += [run[i::2] for run in _WIDE[i].findall(data)]
    text = b' '.join(runs).decode('ascii').lower()
    plain = re.sub(r'[^a-z0-9 ]', '', text)
    long = [
      t for t in self.texts if len(t) >= least and (numbers or not t.isdigit())
    ]
    return (
      any(t in plain for t in long if t.isascii())
      or any(c.lower() in text for c in self.codes if len(c) > 12)
      or any(t.encode() in data for t in long if not t.isascii())
    )


def of_values(names=(), ids=(), dates=()):
  """`Identifiers` of names (DICOM's form), ids and addresses, dates (DA)."""
  words, texts, codes, numbers = set(), set(), set(), set()
  for name in names:
    parts = [p for p in re.split(r'[\^=\s,.\-]+', name) if p]
    _add(words, texts, [name, *parts])
    for a in parts:
      for b in parts:
        if a is not b:
          _add(set(), texts, [a + b, a[:1] + b])
    codes |= _base64(' '.join(parts), name, *parts)
  for value in ids:
    _add(words, texts, [value])
    codes |= _base64(value)
    if re.fullmatch(r'0*[1-9]\d{5,}', value.strip()):
      numbers.add(value.strip().lstrip('0'))
  for date in dates:
    y, m, d = date[:4], date[4:6], date[6:8]
    texts |= {y + m + d, d + m + y, m + d + y}
    numbers.add(date)
  texts |= {t[::-1] for t in texts}
  return Identifiers(*map(frozenset, (words, texts, codes, numbers)))


def _add(words, texts, values):
  for value in values:
    plain = normal(value)
    if len(set(plain)) == 1:
      continue  # 000000 is nobody
    if len(plain) >= _WORD:
      texts.add(plain)
      for form in (plain, value, plain.upper()):
        texts.add(form.encode().hex())
    elif len(plain) > 1 and not plain.isdigit():
      words.add(plain)


def _base64(*texts):
  """What base64 of a longer text holds, wherever in it these begin."""
  found = set()
  for text in texts:
    for data in {v.encode() for v in (text, text.lower(), text.upper())}:
      for shift in range(3):
        code = base64.b64encode(b'\0' * shift + data).decode().rstrip('=')
        core = code[(0, 2, 3)[shift] : len(code) - 1]
        if len(core) >= 7:
          found.add(core)
  return found


def gather(dataset, retained=()):
  """What identifies in a header, at any depth: {'names', 'ids', 'dates'}.

  retained: tags of which an option says that they may stay.
  """
  found = {'names': set(), 'ids': set(), 'dates': set()}
  _collect(dataset, _tags(), frozenset(retained), ('ascii',), found)
  return found


@functools.cache
def _tags():
  tags = {tag_for_keyword(k): 'ids' for k in _IDS}
  return tags | {tag_for_keyword(k): 'dates' for k in _DATES}


def _collect(dataset, tags, retained, encodings, found):
  encodings = values.encodings_of(dataset, encodings)
  for tag in list(dataset.keys()):
    if tag in retained or tag.group == 0x7FE0:
      continue
    element = dataset.get_item(tag)
    vr = values.vr_of(element)
    if vr == 'SQ':
      for item in _items(dataset, tag):
        _collect(item, tags, retained, encodings, found)
      continue
    kind = 'names' if vr == 'PN' else tags.get(tag)
    if kind:
      for value in values.text(element, encodings).split('\\'):
        _note(found, kind, value.strip(' \0'))


def _items(dataset, tag):
  try:
    return list(dataset[tag].value or ())
  except Exception:  # its bytes are no items
    return ()


def _note(found, kind, value):
  if kind == 'dates':
    value = value.replace('.', '').replace('-', '')
    if not re.fullmatch(r'\d{8}', value):
      return
  if value and value != 'REMOVED':
    found[kind].add(value)
