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
