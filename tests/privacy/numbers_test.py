"""Pseudonyms, dates and words."""

import datetime

import pytest
from pydicom.uid import UID

from medjax.privacy import dates, identifiers, key, words


def test_pseudonyms_are_of_their_key_and_stay():
  a, b = key.Key(b'a' * 32), key.Key(b'b' * 32)
  assert a.patient('4711') == key.Key(b'a' * 32).patient('4711')
  assert a.patient('4711') != b.patient('4711') != a.patient('4712')
  assert a.patient(a.patient('4711')) == a.patient('4711')
  assert b.patient(a.patient('4711')) != a.patient('4711')
  uid = a.uid('1.2.3')
  assert UID(uid).is_valid
  assert len(uid) <= 44
  assert a.uid(uid) == uid != b.uid(uid)
  assert a.uid('1.2.4') != uid


def test_no_two_of_many_are_one():
  secret = key.Key(b'a' * 32)
  assert len({secret.uid(f'1.2.{i}') for i in range(20000)}) == 20000
  days = [secret.days(str(i)) for i in range(20000)]
  assert -3650 <= min(days) < -3640
  assert -40 < max(days) <= -30
  assert secret.days(secret.patient('1')) == 0


def test_a_key_lies_apart_and_is_one(tmp_path):
  made = key.read(tmp_path / 'k/secret', tmp_path / 'out', tmp_path / 'in')
  again = key.read(tmp_path / 'k/secret', tmp_path / 'out', tmp_path / 'in')
  assert made.id == again.id
  assert (tmp_path / 'k/secret').stat().st_mode & 0o077 == 0
  for folder in ('out', 'in'):
    with pytest.raises(ValueError, match='a key beside its data'):
      key.read(tmp_path / folder / 'x', tmp_path / 'out', tmp_path / 'in')
  (tmp_path / 'bad').write_text('hello')
  with pytest.raises(ValueError, match='is no key'):
    key.read(tmp_path / 'bad', tmp_path / 'out', tmp_path / 'in')


@pytest.mark.parametrize(
  ('value', 'vr', 'expected'),
  [
    ('20200301', 'DA', '20200228'),
    ('2020.03.01', 'DA', '20200228'),
    ('20210301', 'DA', '20210227'),
    ('1960', 'DA', ''),
    ('200301', 'DA', ''),
    ('20201301', 'DA', ''),
    ('JANE', 'DA', ''),
    ('20200301123456.789+0100', 'DT', '20200228123456.789+0100'),
    ('20200301', 'DT', '20200228'),
    ('2020', 'DT', ''),
    ('202003011260', 'DT', ''),
    ('123456.7', 'TM', '123456.7'),
    ('12:34:56', 'TM', '12:34:56'),
    ('JANE', 'TM', ''),
  ],
)
def test_dates_move_by_days_and_times_stay(value, vr, expected):
  assert dates.shifted(value, vr, -2) == expected


def test_intervals_stay():
  one, two = (dates.shifted(d, 'DA', -777) for d in ('20190211', '20240301'))
  one, two = (datetime.datetime.strptime(d, '%Y%m%d') for d in (one, two))
  assert (two - one).days == 1845


@pytest.mark.parametrize(
  ('age', 'expected'),
  [('093Y', '090Y'), ('089Y', '089Y'), ('012M', '012M'), ('old', '')],
)
def test_ages(age, expected):
  assert dates.age(age) == expected


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('T1 AX post contrast 5mm', 'T1 AX post contrast 5mm'),
    ('CT Abdomen of Zebrowski, O.', 'CT Abdomen of'),
    ('Tel. 555-808-0917', ''),
    ('born 12/03/1960', ''),
    ('b1000 ADC', 'b1000 ADC'),
    ('RGB(37, 231, 253)', 'RGB(37, 231, 253)'),
    ('555,808,0917', ''),
    ('J O H N chest', 'chest'),
    ('chest 12 xyzzy 345 678', 'chest'),
    ('OphEliaZebrowski', ''),
    ('head\x00\x01z', 'head z'),
    ('code35 WINDOW1 Carotids', 'code35 WINDOW1 Carotids'),
    ('head1960 xyzzy12 12', '12'),
    ('head123 456 chest12', ''),
  ],
)
def test_only_known_words_stay(text, expected):
  cleaned = words.cleaned(text)
  assert cleaned == expected
  assert words.cleaned(cleaned) == cleaned


@pytest.mark.parametrize(
  ('text', 'kept'),
  [
    ('LightSpeedApps14.13_2.8.2L_H2.1M4', True),
    ('scanner.radiology.hospital.example', False),
    ('T3BoZWxpYSBIZWFkIHRoZSBmaXJzdA', False),
    ('T3BoZWxpYSBIZWFkIHRoZSBmaXJzdA.1', False),
  ],
)
def test_long_words_of_a_device_are_versions(text, kept):
  assert words.of_device(text) == (text if kept else '')


_JANE = identifiers.of_values(
  names=['Head^Ophelia'], ids=['QMR884177', '7391283'], dates=['19370411']
)


@pytest.mark.parametrize(
  'text',
  [
    'Ophelia', 'OPHELIA', 'ailehpo', 'x_Óphelia.1', 'headophelia', 'HEAD',
    'qmr-884-177', '1937-04-11', '11.04.1937', 'T3BoZWxpYSBIZWFk',
    'xxxT3BoZWxpYQ', '514d52383834313737', 'dr ophelia head',
  ],
)  # fmt: skip
def test_identifiers_are_found_in_disguise(text):
  assert _JANE.within(text)


def test_identifiers_are_not_found_where_they_are_not():
  for text in ('Brain', 'T1 axial', 'SIEMENS', '2.25', 'ahead', 'SOMATOM 64'):
    assert not _JANE.within(text)
  assert _JANE.is_number('7391283.0')
  assert not _JANE.is_number('739128.3')
  assert _JANE.in_bytes(b'\0\1xxQMR884177\0')
  assert _JANE.in_bytes('..Ophelia..'.encode('utf-16-le'))
  assert not _JANE.in_bytes(bytes(range(256)) * 9)
