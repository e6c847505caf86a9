import json
import os
import pathlib

import numpy as np
import pytest

from medjax import files


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
  path = tmp_path / 'a' / 'x.json'
  files.write_json(path, {'a': 1})

  def fail():
    with files.replacing(path) as f:
      f.write('half')
      raise RuntimeError

  with pytest.raises(RuntimeError):
    fail()
  assert json.loads(path.read_text()) == {'a': 1}
  assert [*path.parent.iterdir()] == [path]


def test_json_has_null_for_what_it_cannot_say(tmp_path):
  tree = {1: np.float32(np.nan), 'b': (np.arange(2), np.inf, np.True_)}
  files.write_json(tmp_path / 'x', tree)
  read = files.read_json(tmp_path / 'x', mend='')
  assert read == {'1': None, 'b': [[0, 1], None, True]}


def test_reading_json(tmp_path):
  assert files.read_json(tmp_path / 'none.json', mend='') is None
  (tmp_path / 'b.json').write_text('{"a": 1}', 'utf-8-sig')
  assert files.read_json(tmp_path / 'b.json', mend='') == {'a': 1}
  (tmp_path / 'x.json').write_text('{')
  with pytest.raises(ValueError, match=r'x\.json is not JSON.*; run it again'):
    files.read_json(tmp_path / 'x.json', mend='run it again')


def test_a_table_has_the_columns_of_all_rows(tmp_path):
  files.write_csv(tmp_path / 'x.csv', [{'a': 1}, {'a': 2, 'b': 'ä'}])
  text = (tmp_path / 'x.csv').read_text(encoding='utf-8')
  assert text.split() == ['a,b', '1,', '2,ä']


def test_formulas_are_text_and_read_back(tmp_path):
  """Spreadsheets run cells that begin so; numbers stay numbers."""
  names = ['=1+1', '+a', '-1-1', '@x', "'quoted", 'plain', '\t=1']
  files.write_csv(tmp_path / 'x.csv', [{'id': n, 'v': '-0.5'} for n in names])
  cells = [x.split(',') for x in (tmp_path / 'x.csv').read_text().splitlines()]
  assert [c[0][0] for c in cells[1:5]] == ["'"] * 4
  assert {c[1] for c in cells[1:]} == {'-0.5'}
  rows, columns = files.read_csv(tmp_path / 'x.csv', mend='')
  assert ([row['id'] for row in rows], columns) == (names, ['id', 'v'])


@pytest.mark.parametrize(
  'text', ['a,b\n1\n', 'a,b\n1,2,3\n', 'a\n"x', 'a\n\xff']
)
def test_damaged_tables(tmp_path, text):
  (tmp_path / 'x.csv').write_bytes(text.encode('latin-1'))
  with pytest.raises(ValueError, match=r'x\.csv is damaged.*; mend it') as e:
    files.read_csv(tmp_path / 'x.csv', mend='mend it')
  assert '\n' not in str(e.value)


def test_a_damaged_line_is_named(tmp_path):
  (tmp_path / 'x.csv').write_text('a,b\n1,2\n3\n')
  with pytest.raises(ValueError, match='line 3 has more or fewer fields'):
    files.read_csv(tmp_path / 'x.csv', mend='mend it')


def test_a_secret_is_there_and_long_enough(tmp_path):
  said, path = (
    dict(called='key', lacking='make one', kind='key'),
    tmp_path / 'a',
  )
  with pytest.raises(FileNotFoundError, match='key: no such file; make one'):
    files.read_secret(path, **said)
  path.write_text(f' {"x" * 15}\n')
  with pytest.raises(ValueError, match=r'key: has 15 bytes, .* has 16 or more'):
    files.read_secret(path, **said)
  path.write_text(f' {"x" * 16}\n')
  assert files.read_secret(path, **said) == b'x' * 16


def test_pipes_and_devices_are_not_opened(tmp_path):
  os.mkfifo(tmp_path / 'a.csv')
  for path in (tmp_path / 'a.csv', pathlib.Path('/dev/zero')):
    for read in (files.read_csv, files.read_json):
      with pytest.raises(ValueError, match='neither a file nor a folder'):
        read(path, mend='mend it')
  files.check_kind(tmp_path)
  files.check_kind(tmp_path / 'nothing')


def test_no_endless_line_and_no_endless_file(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('id\n' + 'x,' * 2**20)
  with pytest.raises(ValueError, match='a line has 1048576 characters or more'):
    files.read_csv(path, mend='mend it')
  with path.open('wb') as f:
    f.truncate(2**30)
  for read in (files.read_csv, files.read_json):
    with pytest.raises(ValueError, match='has 1024 MiB'):
      read(path, mend='mend it')


def test_names_that_are_no_text_are_written(tmp_path):
  name = os.fsdecode(b'\xff.png')
  files.write_csv(tmp_path / 'a.csv', [{'file': name}])
  rows, _ = files.read_csv(tmp_path / 'a.csv', mend='')
  assert rows == [{'file': r'\udcff.png'}]
  files.write_json(tmp_path / 'a.json', {'file': name})
  assert files.read_json(tmp_path / 'a.json', mend='') == {'file': name}


def test_a_sealed_file_is_as_it_was_written(tmp_path):
  path = tmp_path / 'a.json'
  tree = {'rate': 0.1, 'names': ['a', 'ä'], 'none': float('nan'), 'n': 3}
  files.write_json(path, tree, sealed=True)
  assert files.read_json(path, mend='') == {**tree, 'none': None}
  path.write_text(path.read_text().replace('0.1', '0.3'))
  with pytest.raises(ValueError, match=r'is damaged: .*; train again'):
    files.read_json(path, mend='train again')
