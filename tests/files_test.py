import json

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
  (tmp_path / 'x.json').write_text('{')
  with pytest.raises(ValueError, match=r'x\.json is not JSON.*; run it again'):
    files.read_json(tmp_path / 'x.json', mend='run it again')


def test_a_table_has_the_columns_of_all_rows(tmp_path):
  files.write_csv(tmp_path / 'x.csv', [{'a': 1}, {'a': 2, 'b': 'ä'}])
  text = (tmp_path / 'x.csv').read_text(encoding='utf-8')
  assert text.split() == ['a,b', '1,', '2,ä']


def test_formulas_are_text_and_read_back(tmp_path):
  """Spreadsheets run cells that begin so; numbers stay numbers."""
  names = ['=1+1', '+1', '-1', '@x', "'quoted", 'plain', '\t=1']
  files.write_csv(tmp_path / 'x.csv', [{'id': n, 'v': -0.5} for n in names])
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
