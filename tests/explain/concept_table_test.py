"""The values of concepts that a user's table tells, by the cases' ids."""

import numpy as np
import pytest

from medjax.explain import concept_table

CASES = [{'id': name} for name in ('a.nii.gz', 'b', 'c')]


def _table(folder, text):
  path = folder / 'concepts.csv'
  path.write_text(text)
  return str(path)


@pytest.mark.parametrize(
  'text',
  [
    'name,size,note\nb,2.5,x\na,40.5,y\nother,1,z\n',
    'name;size;note\nb;2,5;x\na;40,5;y\nother;1;z\n',  # as Excel
  ],
)
def test_values_are_of_the_case_with_the_id(text, tmp_path):
  table = _table(tmp_path, text)
  concept_table.check(['size'], CASES[0], table=table)
  found = concept_table.concept_values(CASES, ['size'], table=table)
  np.testing.assert_array_equal(found['size'], [40.5, 2.5, np.nan])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('name,size\na,1\na,2\n', "line 3: name 'a' is there twice"),
    ('name,size\nx,1\ny,2\n', 'no column has the ids of the cases'),
    ('name,kind\na,1\n', "has no column 'size'; there are kind, name"),
    ('name,size\na,large\n', 'size holds no number'),
  ],
)
def test_tables_that_tell_nothing(text, message, tmp_path):
  table = _table(tmp_path, text)
  with pytest.raises(ValueError, match=message):
    concept_table.concept_values(CASES, ['size'], table=table)


def test_rows_of_other_cases_may_be_there_twice(tmp_path):
  table = _table(tmp_path, 'name,size\na,1\nx,2\nx,3\n')
  found = concept_table.concept_values(CASES[:1], ['size'], table=table)
  assert found['size'] == [1]
