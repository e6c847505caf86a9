"""Patients that columns, folders and headers name, and notes where none do."""

import itertools

import pytest
from data.folder.written import dicom, picture
from pydicom.uid import CTImageStorage

from medjax.data import formats
from medjax.data.folder import open_folder, open_splits
from medjax.data.formats.dicom import header


def pair(folder, name):
  picture(folder / 'images' / name)
  picture(folder / 'masks' / name, 1)


def table(folder, header, count=40, of_one=4):
  """40 pictures of 10 patients, of two classes."""
  rows = [header]
  for i in range(count):
    picture(folder / f'{i}.png')
    rows.append(f'{i}.png,{"ab"[i % 2]},p{i // of_one}')
  (folder / 'cases.csv').write_text('\n'.join(rows))


def patients(path, **options):
  """The patients of each split."""
  splits = open_splits(path, **options).values()
  return [{e.patient for e in cases.entries} for cases in splits]


def apart(path, **options):
  found = patients(path, **options)
  return not any(a & b for a, b in itertools.combinations(found, 2))


def notes(path, **options):
  return open_folder(path, 'train', **options).notes


COLUMNS = (
  'patient_id', 'PatientID', 'Patient_ID', 'subject', 'subject_id',
  'participant_id',
)  # fmt: skip


@pytest.mark.parametrize('name', COLUMNS)
def test_a_column_names_the_patient(tmp_path, name):
  table(tmp_path, f'path,label,{name}')
  assert apart(tmp_path)
  assert set.union(*patients(tmp_path)) == {f'p{i}' for i in range(10)}
  said = f'the column {name} is taken as the patient'
  assert said in notes(tmp_path)
  assert open_folder(tmp_path, 'train')[0][name].startswith('p')


def test_what_is_told_is_no_patient(tmp_path):
  table(tmp_path, 'path,grade,subject')
  assert len(set.union(*patients(tmp_path, fields={'label': 'grade'}))) == 10
  for fields, rule in (
    ({'label': 'grade'}, '.+'),
    ({'label': 'subject'}, ''),
    ({'label': 'grade', 'covariates': 'subject'}, ''),
    ({'label': 'grade', 'patient': 'path'}, ''),
  ):
    options = {'fields': fields, 'patient': rule}
    assert len(set.union(*patients(tmp_path, **options))) == 40
  table(tmp_path, 'path,patient_id,patient')
  fields = {'label': 'patient_id'}
  assert len(set.union(*patients(tmp_path, fields=fields))) == 10


def test_a_patient_for_each_case_changes_no_split(tmp_path):
  table(tmp_path, 'path,label,patient_id', of_one=1)
  found = {e.id: e.patient for e in open_folder(tmp_path, 'train').entries}
  assert all(name == patient for name, patient in found.items())
  assert not notes(tmp_path)


def test_columns_that_disagree(tmp_path):
  table(tmp_path, 'path,label,patient_id')
  path = tmp_path / 'cases.csv'
  header, *rows = path.read_text().splitlines()
  same = [f'{row},x{row.rpartition(",")[2]}' for row in rows]
  path.write_text('\n'.join([f'{header},subject', *same]))
  assert apart(tmp_path)
  other = [f'{row},s{i}' for i, row in enumerate(rows)]
  path.write_text('\n'.join([f'{header},subject', *other]))
  with pytest.raises(ValueError, match='patient_id, subject is the patient'):
    open_folder(tmp_path, 'train')
  assert apart(tmp_path, fields={'patient': 'patient_id'})


def test_a_cell_without_a_patient(tmp_path):
  table(tmp_path, 'path,label,patient_id')
  path = tmp_path / 'cases.csv'
  path.write_text(path.read_text().replace(',p3', ',NA'))
  assert len(set.union(*patients(tmp_path))) == 9 + 4
  assert '4 cases have none' in notes(tmp_path)[0]


def test_a_table_alone(tmp_path):
  """A patient's number is no covariate, and cases keep their names."""
  rows = [f'{30 + i % 7},{i // 3},{i % 2}' for i in range(60)]
  (tmp_path / 'cases.csv').write_text('\n'.join(['age,subject,label', *rows]))
  cases = open_folder(tmp_path, 'train', images=False)
  assert cases.covariate_names == ('age',)
  assert cases.entries[0].id.startswith('line ')
  assert apart(tmp_path, images=False)


# Folders.


def test_numbered_folders_below_images_are_patients(tmp_path):
  for p in range(6):
    for i in range(4):
      pair(tmp_path, f'P00{p}/{i}.png')
  assert apart(tmp_path, dense=True)
  assert len(set.union(*patients(tmp_path, dense=True))) == 6
  said = '6 numbered folders below images/ are taken as patients'
  assert said in str(notes(tmp_path, dense=True))
  rule = {'dense': True, 'patient': '.+'}
  assert len(set.union(*patients(tmp_path, **rule))) == 24
  assert not notes(tmp_path, **rule)


@pytest.mark.parametrize('first', [True, False])
def test_a_patient_of_two_splits_is_refused(tmp_path, first):
  """train/images/P1 and test/images/P1, or images/train/P1 and the like."""

  def add(split, name):
    above, below = (split, '') if first else ('', f'{split}/')
    pair(tmp_path / above, below + name)

  for p, i in itertools.product(range(5), range(2)):
    add('train', f'P{p}/{i}.png')
    add('test', f'P1{p}/{i}.png')
  assert len(open_folder(tmp_path, 'test', dense=True)) == 10
  add('test', 'P1/9.png')
  with pytest.raises(ValueError, match='of one patient, but in'):
    open_folder(tmp_path, 'train', dense=True)


def test_folders_with_an_image_each_stay_as_they_are(tmp_path):
  for p in range(6):
    pair(tmp_path, f'P00{p}/image.png')
  found = open_folder(tmp_path, 'train', dense=True)
  assert all(e.patient == e.id for e in found.entries)
  assert not found.notes


@pytest.mark.parametrize(
  'names',
  [
    ['images/Meier/{}.png', 'images/Huber/{}.png'],
    ['images/P1/{}.png', 'images/P2/{}.png', 'images/P3/{}.png'],
    [f'images/fold{k}/{{}}.png' for k in range(5)],
    ['Meier/{}.png', 'Huber/{}.png'],
    ['train/images/Meier/{}.png', 'train/images/Huber/{}.png'],
    ['train/1/{}.png', 'train/2/{}.png'],
  ],
)
def test_what_names_nobody_is_noted(tmp_path, names):
  for name, i in itertools.product(names, range(12)):
    image = name.format(i)
    picture(tmp_path / image)
    if 'images' in name:
      picture(tmp_path / image.replace('images', 'masks'), 1)
    else:
      picture(tmp_path / image.replace('.png', '_mask.png'), 1)
  cases = open_folder(tmp_path, 'train', dense=True)
  (note,) = (n for n in cases.notes if 'every image is a patient' in n)
  rule = note.partition('data.patient=')[2].strip("'")
  found = open_folder(
    tmp_path, 'train', dense=True, patient=rule, fractions=(1, 0, 0)
  )
  assert len({e.patient for e in found.entries}) == len(names)
  assert not any('every image' in n for n in found.notes)
  assert 'Meier' not in note


def test_folders_of_classes_name_no_patients(tmp_path):
  for kind, i in itertools.product('ab', range(12)):
    picture(tmp_path / kind / f'{i}.png')
  assert notes(tmp_path) == ()


# Headers.


def loose(folder, ids, *, placed=True):
  """Folders a and b with four loose DICOM files of each patient."""
  for kind, (p, name), k in itertools.product('ab', enumerate(ids), range(4)):
    place = {'position': k if placed else None}
    person = name and f'{kind}{name}'
    file = folder / kind / f'{p}_{k}.dcm'
    dicom(file, CTImageStorage, patient=person, **place)


def test_loose_slices_are_of_the_patients_that_their_headers_name(tmp_path):
  loose(tmp_path, ['Doe', 'Roe', 'Poe'])
  assert apart(tmp_path)
  found = set.union(*patients(tmp_path))
  assert found == {
    formats.patient_digest(f'{kind}{name}')
    for kind, name in itertools.product('ab', ['Doe', 'Roe', 'Poe'])
  }
  (note,) = notes(tmp_path)
  assert note.startswith('24 DICOM images are of 6 patients by their PatientID')
  assert len(set.union(*patients(tmp_path, patient='.+'))) == 24
  assert not notes(tmp_path, patient='.+')


def test_rows_of_dicom_are_of_their_patients_unless_the_table_says(tmp_path):
  loose(tmp_path, ['Doe', 'Roe', 'Poe'])
  rows = [
    f'{kind}/{p}_{k}.dcm,{kind},{kind}{p}{k}'
    for kind, p, k in itertools.product('ab', range(3), range(4))
  ]
  for columns, count in (('path,label,x', 6), ('path,label,subject', 24)):
    (tmp_path / 'cases.csv').write_text('\n'.join([columns, *rows]))
    assert len(set.union(*patients(tmp_path))) == count


@pytest.mark.parametrize('unlabelled', [True, False])
def test_images_without_a_patient_id_are_patients_of_their_own(
  tmp_path, unlabelled
):
  loose(tmp_path, ['Doe', ''], placed=False)
  found = set.union(*patients(tmp_path, unlabelled=unlabelled))
  assert len(found) == 2 + 8
  assert '; 8 have none' in notes(tmp_path)[0]


def test_a_patient_id_that_tells_nobody_apart(tmp_path):
  """As it is after a de-identification."""
  for kind, k in itertools.product('ab', range(12)):
    file = tmp_path / kind / f'{k}.dcm'
    dicom(file, CTImageStorage, position=k, patient='ANON')
  assert len(set.union(*patients(tmp_path))) == 24
  (note,) = notes(tmp_path)
  assert note.startswith('all 24 DICOM images have one PatientID: each is')


def test_a_patient_id_that_tells_a_part_of_them_not_apart(tmp_path):
  """Of two sites one wrote ANON into each file."""
  for kind, k in itertools.product('ab', range(30)):
    file = tmp_path / kind / f'{k}.dcm'
    who = 'ANON' if k < 20 else f'{kind}{k // 2}'
    dicom(file, CTImageStorage, position=k, patient=who)
  assert len(set.union(*patients(tmp_path))) == 40 + 10
  assert apart(tmp_path)
  one, several = notes(tmp_path)
  assert one.startswith('40 of 60 DICOM images have one PatientID: each is')
  assert '20 DICOM images are of 10 patients' in several
  assert 'at most 2 of one' in several


def test_a_patient_id_for_each_image_changes_no_split(tmp_path):
  for kind, k in itertools.product('ab', range(12)):
    file = tmp_path / kind / f'{k}.dcm'
    dicom(file, CTImageStorage, position=k, patient=f'{kind}{k}')
  found = open_folder(tmp_path, 'train')
  assert all(e.patient == e.id for e in found.entries)
  assert not found.notes


@pytest.mark.parametrize('placed', [True, False])
def test_each_header_is_read_once(tmp_path, monkeypatch, placed):
  loose(tmp_path, ['Doe', 'Roe', 'Poe'], placed=placed)
  read, load = [], header.load
  monkeypatch.setattr(
    header, 'load', lambda path, **o: read.append(path) or load(path, **o)
  )
  open_splits(tmp_path)
  assert len(read) == len(set(read)) == 24
