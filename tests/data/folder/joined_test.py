"""Two tables that are one, and fields that nobody told."""

import numpy as np
import PIL.Image
import pytest

from medjax.data.facts import DataFacts
from medjax.data.folder import open_folder, tables

ALL = {'fractions': (1, 0, 0)}


def write(root, features, *, header='file,area,shape'):
  for i in range(3):
    array = np.full((5, 4), i, np.uint8)
    PIL.Image.fromarray(array).save(root / f'{i}.png')
  lines = [f'{i}.png,{"ab"[i % 2]},{i}' for i in range(3)]
  (root / 'cases.csv').write_text('\n'.join(['file,label,age', *lines]) + '\n')
  (root / 'features.csv').write_text('\n'.join([header, *features]) + '\n')


def opened(root, on='', covariates='age, area, shape'):
  return open_folder(
    root,
    'train',
    fields={'image': '{file}', 'covariates': covariates},
    join={'table': 'features.csv', 'on': on},
    **ALL,
  )


@pytest.mark.parametrize('on', ['', 'file'])
def test_columns_of_both(tmp_path, on):
  write(tmp_path, ['2.png,20,round', '0.png,7,flat'])
  cases = opened(tmp_path, on)
  assert cases.covariate_names == ('age', 'area', 'shape=flat', 'shape=round')
  found = {c['id']: c['covariates'].tolist() for c in cases}
  assert found['0'] == [0, 7, 1, 0]
  assert found['2'] == [2, 20, 0, 1]
  np.testing.assert_array_equal(found['1'], [1, *[np.nan] * 3])
  assert '1 of 3 rows have no row in features.csv' in cases.notes


def test_columns_that_both_have_and_that_agree_are_one(tmp_path):
  """As radiomics carries those of the table of cases along."""
  rows = ['2.png,a,2,20,round', '0.png,a,0,7,flat']
  write(tmp_path, rows, header='file,label,age,area,shape')
  cases = opened(tmp_path, 'file')
  assert cases.covariate_names == ('age', 'area', 'shape=flat', 'shape=round')
  assert {c['id']: c['covariates'][1] for c in cases}['2'] == 20


@pytest.mark.parametrize(
  ('lines', 'header', 'on', 'message'),
  [
    (['0.png,1,a', '0.png,2,a'], 'file,area,shape', '',
     r'line 3: file is that of line 2 too; keep one'),
    (['x.png,1,a'], 'file,area,shape', '', 'a table of other cases'),
    (['2,1,b', '01,1,a'], 'age,area,shape', '',
     r'features\.csv, line 3: age is 01, and 1 in .*: write the same text'),
    ([',1,a'], 'file,area,shape', '', 'line 2: file is empty'),
    (['0.png,1,a'], 'name,area,shape', '', 'shares no column .*data.join.on'),
    (['0.png,1,a'], 'name,area,shape', 'file', "has no column 'file'"),
    (['0.png,1,3'], 'file,area,age', 'file', "column 'age' is in .* too"),
    (['0.png,1,3'], 'file,area,age', '', r'shares file, age with'),
  ],
)  # fmt: skip
def test_tables_that_do_not_join(tmp_path, lines, header, on, message):
  write(tmp_path, lines, header=header)
  with pytest.raises(ValueError, match=message):
    opened(tmp_path, on)


def test_a_field_that_is_empty_is_none(tmp_path):
  """As the default config has it: prior=''."""
  for folder in ('images', 'masks'):
    (tmp_path / folder).mkdir()
    for i in range(3):
      array = np.full((5, 4), i > 0, np.uint8)
      PIL.Image.fromarray(array).save(tmp_path / folder / f'{i}.png')
  fields = {
    'image': 'images/{id}.png', 'mask': 'masks/{id}.png', 'prior': '',
  }  # fmt: skip
  cases = open_folder(tmp_path, 'train', fields=fields, dense=True, **ALL)
  assert len(cases) == 3
  assert 'prior' not in cases[0]


def test_facts_of_further_images_and_of_columns_that_tell(tmp_path):
  rows = ['path,label,before,leak']
  for i in range(12):
    PIL.Image.fromarray(np.full((5, 4), i, np.uint8)).save(
      tmp_path / f'{i}.png'
    )
    rows.append(f'{i}.png,{"ab"[i % 2]},{"3.png" if i == 5 else ""},{i % 2}')
  (tmp_path / 'cases.csv').write_text('\n'.join(rows) + '\n')
  cases = open_folder(
    tmp_path, 'train', fields={'prior': 'before', 'covariates': 'leak'}, **ALL
  )
  facts = DataFacts.of(cases)
  assert facts.further_images == ('prior',)
  assert facts.further_channels == (1,)
  assert facts.telling == ('leak',)


def test_long_numbers_are_told_apart(tmp_path):
  """Of which a float holds but the first 16 digits; nor is 1E5 a number."""
  image = '20240131123456781,0.png', '1E5,1.png', '3,2.png'
  other = '20240131123456780,1', '100000,2', '3,3'
  for name, header, rows in (('a', 'id,path', image), ('b', 'id,x', other)):
    (tmp_path / f'{name}.csv').write_text('\n'.join([header, *rows]))
  one, two = (tables.read(tmp_path / f'{name}.csv') for name in 'ab')
  table, notes = tables.joined(one, two)
  assert [row.cells['x'] for row in table.rows] == ['', '', '3']
  assert notes == ('2 of 3 rows have no row in b.csv',)
