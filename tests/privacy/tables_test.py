"""Annex E as medjax has it, against another reading of the standard."""

import pytest
from pydicom.datadict import tag_for_keyword

from medjax.privacy import tables

# What the edition 2026d says otherwise than 2026c, or dicom-anonymizer misses.
_NEWER = 8


def test_the_basic_profile_is_that_of_dicom_anonymizer():
  theirs = pytest.importorskip(
    'dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c'
  )
  lists = {
    'D': theirs.D_TAGS, 'Z': theirs.Z_TAGS, 'X': theirs.X_TAGS,
    'U': theirs.U_TAGS, 'Z/D': theirs.Z_D_TAGS, 'X/Z': theirs.X_Z_TAGS,
    'X/D': theirs.X_D_TAGS, 'X/Z/D': theirs.X_Z_D_TAGS,
    'X/Z/U': theirs.X_Z_U_STAR_TAGS,
  }  # fmt: skip
  found = {t: a for a, tags in lists.items() for t in tags}
  plain = {t[0] << 16 | t[1]: a for t, a in found.items() if len(t) == 2}
  ours = {t: basic for t, (_, basic, _) in tables.annex_e().items()}
  assert len(plain) > 600
  assert {t: a for t, a in plain.items() if ours.get(t) != a} == {}
  assert (
    len([t for t in ours if t not in plain and isinstance(t, int)]) <= _NEWER
  )


@pytest.mark.parametrize(
  ('keyword', 'options', 'action'),
  [
    ('PatientID', (), 'D'),
    ('PatientBirthDate', ('retain-full-dates',), 'Z'),
    ('StudyDate', (), 'Z'),
    ('StudyDate', ('retain-modified-dates',), 'C'),
    ('StudyDate', ('retain-full-dates',), 'K'),
    ('StudyDescription', (), 'X'),
    ('StudyDescription', ('clean-descriptors',), 'C'),
    ('PatientAge', (), 'X'),
    ('PatientAge', ('retain-patient-characteristics',), 'K'),
    ('DeviceSerialNumber', (), 'D'),
    ('DeviceSerialNumber', ('retain-device',), 'K'),
    ('InstitutionName', (), 'D'),
    ('InstitutionName', ('retain-institution',), 'K'),
    ('SOPInstanceUID', (), 'U'),
    ('SOPInstanceUID', ('retain-uids',), 'K'),
    ('ContentSequence', (), 'D'),
    ('ContentSequence', ('clean-structured',), 'C'),
    ('ReferencedImageSequence', (), 'W'),
    ('OriginalAttributesSequence', (), 'X'),
  ],
)
def test_options(keyword, options, action):
  assert tables.actions(options)[tag_for_keyword(keyword)] == action


def test_options_have_the_codes_of_cid_7050():
  from pydicom.sr import _cid_dict, _concepts_dict

  names = _cid_dict.cid_concepts[7050]['DCM']
  known = {}
  for name in names:
    known |= _concepts_dict.concepts['DCM'][name]
  codes = [tables.BASIC, *tables.OPTIONS.values()]
  assert {code for code, _ in codes} == set(known)
  for code, meaning in codes:
    assert meaning.split()[:3] == known[code][0].split()[:3]


def test_what_a_class_has():
  ct = tables.allowed('1.2.840.10008.5.1.4.1.1.2')
  assert tag_for_keyword('KVP') in ct
  assert tag_for_keyword('EchoTime') not in ct
  assert tag_for_keyword('ImageComments') not in ct  # prose: Annex E says
  assert tables.allowed('1.2.3.4') is None


def test_safe_private():
  assert ('Philips PET Private Group', 0x7053, 0x00) in tables.safe_private()
  assert len(tables.safe_private()) == 289
