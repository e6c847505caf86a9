import pytest

from medjax.inspect import inspect_table
from medjax.survey import outcomes


def found(tmp_path, *lines, **fields):
  path = tmp_path / 'cases.csv'
  path.write_text('\n'.join(lines) + '\n')
  assert outcomes.is_bare(path)
  return [(f.level, f.text, f.examples) for f in
          outcomes.read(path, fields)[1]]  # fmt: skip


BAD = {
  'a time of 0': (('time,event', '0,1', '2,0'), 'time: 1 row with a time that'),
  'a negative time': (('time,event', '-3,1', '2,0'), 'not above 0'),
  'a missing time': (('time,event', 'NA,1', '2,0'), 'time: missing in 1 row'),
  'half an event': (('time,event', '1,0.5', '2,0'), 'no whole number from 0'),
  'all censored': (('time,event', '1,0', '2,0'), 'all are censored'),
  'one event': (('time,event', '1,1', '2,0'), '1 event; no score of so few'),
  'an event in words': (('time,event', '1,dead', '2,alive'), 'event is text'),
  'dead before the relapse': (
    ('os_days,rfs_days', '5,7', '9,9'), 'os_days is below rfs_days in 1 row'),
  'days and years': (
    ('os_days,rfs_years', '900,2.4', '800,2.1'), 'are they in one unit?'),
  'visits': (
    ('patient,time,event', 'a,1,1', 'a,1,1', 'b,2,0'), '3 rows of 2 patients'),
  'the outcome in disguise': (
    ('time,event,score', *(f'{i},1,{-i}' for i in range(1, 30))),
    'score alone has a C of 1.000'),
  'the label in disguise': (
    ('label,stage', *(f'{"ab"[i % 2]},{i % 2 + i / 99}' for i in range(30))),
    'stage alone has an area under the ROC of 1.000'),
  'a number of the patient': (
    ('time,event,MRN', *(f'{1 + i % 7},{i % 2},{(i * 37) % 101}'
                         for i in range(30))),
    "MRN looks like an id, and is no covariate then: if it is the patient's, "
    "say data.fields.patient='MRN'"),
  'words of many kinds': (
    ('time,event,diagnosis', *(f'{1 + i % 7},{i % 2},d{i % 25}'
                               for i in range(50))),
    'diagnosis has 25 values that are no numbers, more than 20'),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD)
def test_what_is_odd_is_said(tmp_path, name):
  lines, says = BAD[name]
  assert any(says in text for _, text, _ in found(tmp_path, *lines))


def test_nothing_odd(tmp_path):
  lines = [f'{1 + i % 7},{i % 2},{(i * 37) % 11}' for i in range(40)]
  assert found(tmp_path, 'time,event,age', *lines) == []


def test_a_table_of_images_is_another_matter(tmp_path):
  path = tmp_path / 'cases.csv'
  path.write_text('Path,time,event\n0.png,1,1\n')
  assert not outcomes.is_bare(path)
  assert not outcomes.is_bare(tmp_path)


@pytest.mark.parametrize(
  ('key', 'visits'), [('patient', 1), ('patient', 2), ('id', 1)]
)
def test_no_patient_is_named(tmp_path, capsys, key, visits):
  path = tmp_path / 'cases.csv'
  names = ['Huber', 'Meier', 'Rossi', 'Weiss', 'Huber', 'Favre', 'Keller']
  lines = [
    f'{number},{name},{"mf"[i % 2]},{50 + i},K{number},{10 + i + visit},1'
    for i, name in enumerate(names)
    for visit in range(visits)
    for number in [8 * (4711 + i)]
  ]
  header = 'MRN,Nachname,sex,age,Fall,time,event'
  path.write_text('\n'.join([header, *lines]))
  page = inspect_table(path, tmp_path, {key: 'MRN'}).read_text()
  said = capsys.readouterr().out
  for shown in (said, page):
    assert '37688' not in shown  # neither a number nor a word
    assert not any(name in shown for name in names)
    assert 'f, m' in shown  # what many share is listed
  assert '6 values' in said


def test_ispy1(shared_data, tmp_path, capsys):
  path = shared_data('ispy1') / 'patients.csv'
  page = inspect_table(path, tmp_path).read_text()
  said = capsys.readouterr().out
  assert 'os_days is below rfs_days in 17 rows' in said
  assert 'os_days is below rfs_days in 17 rows' in page
  assert '1001' not in said  # no patient is named
