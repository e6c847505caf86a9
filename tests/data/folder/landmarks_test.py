"""Landmarks see the visits so far, and nothing that comes later."""

import numpy as np
import pytest

from medjax.data import folder

HEADER = 'patient,year,time,event,age,bili,drug'
VISITS = (
  'a,0,6,1,50,1.0,x', 'a,1.5,6,1,50,2.0,x', 'a,4,6,1,50,9.0,x',
  'b,0,2,0,60,3.0,y', 'b,0.5,2,0,60,,y', 'b,1.9,2,0,60,5.0,y',
  'c,0,9,2,70,4.0,x', 'c,3,9,2,70,6.0,x',
)  # fmt: skip


def opened(tmp_path, lines=VISITS, landmark=(0, 1, 3), **options):
  path = tmp_path / 'visits.csv'
  path.write_text('\n'.join([HEADER, *lines]) + '\n')
  fields = {'visit': 'year', 'covariates': 'age, bili, bili_change, landmark'}
  splits = folder.open_splits(
    path, images=False, landmark=landmark, fields=fields,
    fractions=(0, 0, 1), **options,
  )  # fmt: skip
  return {case['id']: case for part in splits.values() for case in part}


def test_who_is_a_case_and_what_is_known(tmp_path):
  cases = opened(tmp_path)
  assert {*cases} == {'a@0', 'a@1', 'a@3', 'b@0', 'b@1', 'c@0', 'c@1', 'c@3'}
  np.testing.assert_allclose(cases['a@3']['covariates'], [50, 2, 1, 3])
  np.testing.assert_allclose(cases['a@1']['covariates'], [50, 1, 0, 1])
  # The visit at 0.5 has no value: the last known one stays.
  np.testing.assert_allclose(cases['b@1']['covariates'], [60, 3, 0, 1])
  np.testing.assert_allclose(cases['c@3']['covariates'], [70, 6, 2, 3])
  assert cases['a@3']['time'] == 3
  assert cases['c@1']['event'] == 2
  assert cases['a@3']['patient'] == cases['a@0']['patient'] == 'a'
  assert cases['b@1']['landmark'] == 1


def test_what_comes_later_cannot_be_seen(tmp_path):
  """The outcome, planted in every later visit, changes no case before it."""
  before = opened(tmp_path)
  planted = []
  for line in VISITS:
    cells = line.split(',')
    if float(cells[1]) > 1:
      cells[4:6] = '999', '999'
    planted.append(','.join(cells))
  after = opened(tmp_path, planted)
  for name, case in before.items():
    if not name.endswith('@3'):
      np.testing.assert_array_equal(
        case['covariates'], after[name]['covariates']
      )
  assert (after['a@3']['covariates'] > 900).any()


def test_without_outcomes_a_patient_is_a_case_at_each_visit_reached(tmp_path):
  path = tmp_path / 'visits.csv'
  path.write_text('patient,year,age\na,0,50\na,2,52\nb,0,60\nb,7,67\n')
  splits = folder.open_splits(
    path, images=False, landmark=(0, 1, 3), unlabelled=True,
    fields={'visit': 'year'}, fractions=(0, 0, 1),
    covariates=('age', 'landmark'),
  )  # fmt: skip
  cases = {c['id']: c['covariates'].tolist() for c in splits['test']}
  assert cases == {
    'a@0': [50, 0], 'a@1': [50, 1], 'a@2': [52, 2],
    'b@0': [60, 0], 'b@1': [60, 1], 'b@3': [60, 3],
  }  # fmt: skip


def test_outcomes_that_are_not_read_decide_nothing(tmp_path):
  told = dict(unlabelled=True, unread=True)
  empty = [','.join([*line.split(',')[:2], '', '', *line.split(',')[4:]])
           for line in VISITS]  # fmt: skip
  with_, without = (opened(tmp_path, v, **told) for v in (VISITS, empty))
  assert {*with_} == {*without} >= {'b@1.9', 'c@3'}
  for name, case in with_.items():
    assert not {'time', 'event'} & {*case}
    np.testing.assert_array_equal(
      case['covariates'], without[name]['covariates']
    )


def test_only_the_first_visits(tmp_path):
  cases = opened(tmp_path, where='year=0')
  assert {*cases} == {*opened(tmp_path)}
  np.testing.assert_allclose(cases['a@3']['covariates'], [50, 1, 0, 3])


@pytest.mark.parametrize(('there', 'lacks'), [(2, 'event'), (3, 'time')])
def test_half_an_outcome_is_refused(tmp_path, there, lacks):
  path, other = tmp_path / 'visits.csv', {2: 3, 3: 2}[there]
  lines = [line.split(',') for line in (HEADER, *VISITS)]
  kept = [','.join(c for i, c in enumerate(c) if i != other) for c in lines]
  path.write_text('\n'.join(kept))
  with pytest.raises(ValueError, match=f'without one of the {lacks}: say data'):
    folder.open_splits(
      path, images=False, landmark=(0, 1), fields={'visit': 'year'}
    )


@pytest.mark.parametrize(
  ('lines', 'landmark', 'says'),
  [
    (VISITS, (20,), 'no patient is still followed at a landmark of 20'),
    (VISITS, (-1,), 'data.landmark: -1.0 is not a time from 0'),
    (('a,0,6,1,50,1,x', 'a,1,7,1,50,1,x'), (0,), 'time differs from that of'),
    (('a,soon,6,1,50,1,x',), (0,), "year is 'soon', not a number"),
    ((',0,6,1,50,1,x',), (0,), 'has no patient'),
  ],
)
def test_refused(tmp_path, lines, landmark, says):
  with pytest.raises(ValueError, match=says):
    opened(tmp_path, lines, landmark)
