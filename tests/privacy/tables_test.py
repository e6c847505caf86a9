"""Annex E as medjax has it, against another reading of the standard."""

import ast
import importlib.util
import pathlib

import pytest
from pydicom.datadict import tag_for_keyword

from medjax.privacy import tables

# What the edition 2026d says otherwise than 2026c, or dicom-anonymizer misses.
_NEWER = 8
# Attributes of 2026d that 2024d had not; and one that it would not clean.
_NEWER_THAN_2024 = 34
_CLEANED_SINCE = {('clean-descriptors', 'Requesting Service')}
_CODES = {
  'KEEP': 'K', 'CLEAN': 'C', 'REMOVE': 'X', 'EMPTY': 'Z', 'DUMMY': 'D',
  'UID': 'U', 'EMPTY_OR_DUMMY': 'Z/D', 'REMOVE_OR_EMPTY': 'X/Z',
  'REMOVE_OR_DUMMY': 'X/D', 'REMOVE_OR_EMPTY_OR_DUMMY': 'X/Z/D',
  'REMOVE_OR_EMPTY_OR_UID': 'X/Z/U',
}  # fmt: skip


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


def idiscores():
  """{code of CID 7050: {tag: action}} of idiscore's table, edition 2024d.

  Read, not imported: it needs versions of packages that others cannot have.
  """
  found = importlib.util.find_spec('idiscore')
  if found is None:
    pytest.skip('idiscore is not here: pip install --no-deps idiscore')
  place = pathlib.Path(found.submodule_search_locations[0])
  tree = ast.parse((place / '_public_dicom.py').read_text())
  columns = {}
  for node in tree.body:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
      told = {k.arg: k.value for k in node.value.keywords}
      columns[told['code'].value] = {
        int(tag.args[0].value, 16)
        if tag.func.id == 'SingleTag'
        else tag.args[0].value
        if tag.args
        else 'private': _CODES[action.attr]
        for tag, action in (rule.elts for rule in told['rules'].elts)
      }
  return columns


def test_every_cell_of_every_option_is_that_of_idiscore():
  theirs, ours = idiscores(), tables.annex_e()
  options = {code: name for name, (code, _) in tables.OPTIONS.items()}
  basic, cells = theirs.pop('113100'), 0
  mine = {t: action.replace('*', '') for t, (_, action, _) in ours.items()}
  assert {t: a for t, a in basic.items() if mine[t] != a} == {}
  assert len(ours.keys() - basic.keys()) == _NEWER_THAN_2024
  assert len(theirs) == 10  # pixels and faces are no columns
  for code, column in theirs.items():
    name = options[code]
    mine = {t: has[name] for t, (*_, has) in ours.items() if name in has}
    since = mine.keys() - column.keys()
    assert {t: a for t, a in column.items() if mine.get(t) != a} == {}
    more = {(name, ours[t][0]) for t in since & basic.keys()}
    assert more <= _CLEANED_SINCE
    cells += len(column)
  assert cells > 600


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
