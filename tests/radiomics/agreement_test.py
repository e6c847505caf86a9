"""ICC beside a published example, and two tables side by side."""

import numpy as np
import pytest

from medjax import files
from medjax.radiomics import agreement

# Shrout and Fleiss 1979, table 2: six targets, four judges.
JUDGES = [
  [9, 2, 5, 8],
  [6, 1, 3, 2],
  [8, 4, 6, 8],
  [7, 1, 2, 6],
  [10, 5, 6, 9],
  [6, 2, 4, 7],
]


def test_icc_of_the_paper():
  icc, low, high = agreement.one_way(JUDGES)
  assert icc == pytest.approx(0.17, abs=0.005)
  assert low < icc < high
  assert agreement.absolute(JUDGES) == pytest.approx(0.29, abs=0.005)


def test_undefined():
  assert np.isnan(agreement.one_way([[1, 2]])[0])
  assert agreement.one_way([[1, 1], [2, 2]]) == (1, 1, 1)


def table(path, values):
  files.write_csv(
    path,
    [
      {'id': f'c{i}', 'roi': '1', 'original_glcm_A': a, 'original_glcm_B': b}
      for i, (a, b) in enumerate(values)
    ],
  )
  return path


def test_compare(tmp_path):
  first = table(tmp_path / 'a.csv', [(1, 2), (2, 3), (3, '')])
  second = table(tmp_path / 'b.csv', [(1, 2), (2, 4), (3, 5)])
  a, b = agreement.compare(first, second)
  assert (a['differ'], a['icc']) == (0, 1)
  assert (b['differ'], b['n'], b['difference']) == (2, 2, 1)
  text = agreement.text([a, b], 1e-6)
  assert text.startswith('1 of 2 features differ')
  assert 'original_glcm_B' in text
  assert 'original_glcm_A' not in text


def test_regions_are_matched_by_case_and_name(tmp_path):
  """An id has the region only where a case has several."""

  def written(name, *regions):
    rows = [
      {'id': i, 'case': c, 'roi': r, 'original_glcm_A': a}
      for i, c, r, a in regions
    ]
    files.write_csv(tmp_path / name, rows)
    return tmp_path / name

  first = written('a.csv', ('x:1', 'x', '1', 5), ('x:2', 'x', '2', 7))
  second = written('b.csv', ('x', 'x', '1', 5), ('y', 'y', '2', 9))
  (found,) = agreement.compare(first, second)
  assert (found['n'], found['differ']) == (1, 0)
  assert agreement.unmatched(first, second) == [['x, 2'], ['y, 2']]


def test_refused(tmp_path):
  first = table(tmp_path / 'a.csv', [(1, 2)])
  other = tmp_path / 'b.csv'
  files.write_csv(other, [{'id': 'x', 'original_glcm_A': 1}])
  with pytest.raises(ValueError, match='no region in common'):
    agreement.compare(first, other)
  files.write_csv(other, [{'name': 'x'}])
  with pytest.raises(ValueError, match='has no column id'):
    agreement.compare(first, other)
