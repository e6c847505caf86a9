"""Which columns of numbers are taken for ids, and which are not."""

import numpy as np
import pytest

from medjax.data.folder import cells, tables
from medjax.data.folder.ids import looks_like_id

SPREAD = [37.0 * i % 1009 for i in range(60)]  # whole, all different
IDS = {
  'MRN': SPREAD,
  'PatientID': SPREAD,
  'patient_id': [*SPREAD, np.nan],
  'case': SPREAD,
  'Case No': SPREAD,
  'pid2': [4711.0, 4712.0],
  'Unnamed: 0': [float(i) for i in range(60)],  # as pandas writes an index
  'Fall': [700000.0 + i for i in reversed(range(60))],
}
MEASURED = {
  'age': [40.0 + i for i in range(29)],  # all different by chance
  'age_days': SPREAD,
  'platelet_number': SPREAD,
  'number': [x % 7 for x in SPREAD],
  'mid_diameter': SPREAD,
  'MRN': [x + 0.5 for x in SPREAD],
  'id': [np.nan, np.nan],
  'number of nodes': SPREAD,
}


@pytest.mark.parametrize('name', IDS)
def test_what_is_an_id(name):
  assert looks_like_id(name, IDS[name])


@pytest.mark.parametrize('name', MEASURED)
def test_what_may_be_measured(name):
  assert not looks_like_id(name, MEASURED[name])


def test_an_id_is_no_covariate_unless_it_is_named(tmp_path):
  path = tmp_path / 'cases.csv'
  lines = [f'{700000 + i},{50 + i % 9},d{i % 25},{i % 3}' for i in range(60)]
  path.write_text('\n'.join(['MRN,age,diagnosis,grade', *lines]) + '\n')
  table = tables.read(path)
  kept, notes = cells.usable(table, table.columns)
  assert kept == ('age', 'grade')
  assert notes == (
    'covariates, as none are named: age, grade',
    'no covariates, as they look like ids: MRN; what is measured after all is '
    'named in data.fields.covariates',
    'no covariates, as neither numbers nor up to 20 kinds: diagnosis',
  )
  _, names, _ = cells.covariates(table, cells.columns_of(table, 'MRN, age'))
  assert names == ('MRN', 'age')
