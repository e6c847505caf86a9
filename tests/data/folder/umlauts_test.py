"""One name in two spellings: u and ¨ as macOS has it, p1 beside P1."""

import unicodedata

import pytest
from data.folder.written import picture

from medjax.data.folder import open_folder, open_splits

ALL = {'fractions': (1, 0, 0)}
ONE, TWO = (unicodedata.normalize(form, 'Müller') for form in ('NFC', 'NFD'))


def table(folder, *lines):
  (folder / 'cases.csv').write_text('\n'.join(lines), 'utf-8')


def opened(path, **options):
  return open_folder(path, 'train', **{**ALL, **options})


def test_a_patient_of_a_table_is_in_one_split(tmp_path):
  rows = ['path,label,patient']
  for i in range(40):
    picture(tmp_path / f'{i}.png')
    name = (ONE, TWO)[i % 2] + str(i // 2)
    rows.append(f'{i}.png,{"ab"[i // 2 % 2]},{name}')
  table(tmp_path, *rows)
  splits = open_splits(tmp_path).values()
  patients = [{e.patient for e in cases.entries} for cases in splits]
  assert sum(map(len, patients)) == len(set.union(*patients)) == 20


def test_a_class_of_two_splits_is_one(tmp_path):
  for split, name in (('train', ONE), ('test', TWO)):
    for kind in (name, 'b'):
      picture(tmp_path / split / kind / f'{split}.png')
  assert opened(tmp_path).class_names == (ONE, 'b')
  names = (TWO, 'b')
  assert opened(tmp_path, class_names=names).class_names == (ONE, 'b')


@pytest.mark.parametrize('disk', [ONE, TWO])
@pytest.mark.parametrize('cell', [ONE, TWO])
def test_a_cell_means_a_folder_or_file(tmp_path, disk, cell):
  picture(tmp_path / 'scans' / disk / f'{disk}.png')
  picture(tmp_path / 'masks' / disk / f'{disk}_x.png', 1)
  told = {
    'path,label': (f'scans/{cell}/{cell}.png,a', {}),
    'patient,label': (f'{cell},a', {'image': 'scans/{patient}/*'}),
    'patient,x,label': (f'{cell},1,a', {'image': 'scans/{patient}/{y}.png'}),
    'patient,a,label': (
      f'{cell},b,a',
      {'image': 'scans/{patient}/*', 'mask': 'masks/{patient}/*_x.png'},
    ),
  }
  for columns, (row, fields) in told.items():
    table(tmp_path, columns, row)
    (entry,) = opened(tmp_path, fields=fields).entries
    assert entry.image == tmp_path / 'scans' / disk / f'{disk}.png'
    assert entry.patient == ONE or 'patient' not in columns
    assert not fields.get('mask') or entry.mask.parent.name == disk


def test_a_table_of_patients_without_paths(tmp_path):
  for name in (TWO, 'other'):
    picture(tmp_path / name / '1.png')
  table(tmp_path, 'patient,label', f'{ONE},a', 'other,b')
  assert [e.patient for e in opened(tmp_path).entries] == [ONE, 'other']


@pytest.mark.parametrize('names', [(ONE, TWO), (TWO, ONE)])
def test_patterns_of_images_and_masks(tmp_path, names):
  image, mask = names
  for i in range(3):
    picture(tmp_path / 'a' / image / f'{i}.png')
    picture(tmp_path / 'b' / mask / f'{i}.png', 1)
  fields = {'image': 'a/{patient}/{id}.png', 'mask': 'b/{patient}/{id}.png'}
  cases = opened(tmp_path, fields=fields, dense=True)
  assert len(cases) == 3
  assert {e.patient for e in cases.entries} == {ONE}
  assert cases[0]['mask'].all()


def test_masks_beside_images_are_no_images(tmp_path):
  for i in range(3):
    picture(tmp_path / f'{TWO}{i}.png')
    picture(tmp_path / f'{TWO}{i}_m.png', 1)
  fields = {'image': '{id}.png', 'mask': '{id}_m.png'}
  assert len(opened(tmp_path, fields=fields, dense=True)) == 3


def test_two_trees_of_images_and_masks(tmp_path):
  for i in range(3):
    picture(tmp_path / 'images' / ONE / f'{i}.png')
    picture(tmp_path / 'masks' / TWO / f'{i}.png', 1)
  assert len(opened(tmp_path, dense=True)) == 3


def test_patients_that_differ_in_capitals(tmp_path):
  for i in range(2):
    picture(tmp_path / f'{i}.png')
  table(tmp_path, 'path,label,patient', '0.png,a,Meier', '1.png,b,MEIER')
  with pytest.raises(ValueError, match='cases 0 and 1 differ only in cap') as e:
    opened(tmp_path)
  assert 'meier' not in str(e.value).lower()
  table(tmp_path, 'path,label,id', f'0.png,a,{TWO}', f'1.png,b,{TWO.upper()}')
  assert len(opened(tmp_path)) == 2  # nobody named a patient
