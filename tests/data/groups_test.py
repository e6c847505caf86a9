"""Groups of cases: what a table or a header says, made few."""

import numpy as np
import pydicom
import pytest

from medjax.data import groups
from medjax.data.formats.dicom import patient


@pytest.mark.parametrize(
  ('name', 'value', 'wanted'),
  [
    ('sex', 'M ', 'male'),
    ('sex', 'f', 'female'),
    ('sex', 'O', 'other'),
    ('sex', '', 'unknown'),
    ('sex', 'x', 'unknown'),
    ('age', '045Y', '40–49'),
    ('age', '3W', '0–9'),
    ('age', '18M', '0–9'),
    ('age', 45.0, '40–49'),
    ('age', -4, 'unknown'),
    ('age', float('nan'), 'unknown'),
    ('age', '93', '90+'),
    ('age', '400', 'unknown'),
    ('site', ' Basel ', 'Basel'),
    ('site', None, 'unknown'),
    ('grade', 2.0, '2'),
  ],
)
def test_values_become_groups(name, value, wanted):
  assert groups.group_of({name: value}, [name]) == {name: wanted}


def test_attributes_of_no_case_or_of_many_values_are_refused():
  with pytest.raises(ValueError, match="no case says 'sex'"):
    groups.groups_of([{'id': 'a'}], ('sex',))
  many = [{'site': f's{i}'} for i in range(41)]
  with pytest.raises(ValueError, match="'site' has 41 values"):
    groups.groups_of(many, ('site',))


class Records(list):
  """Cases of a prepared set, whose covariates are columns of a table."""

  covariate_names = ('age', 'sex=f', 'sex=m', 'x=1')


def test_columns_that_became_covariates():
  nan = float('nan')
  cases = Records(
    {'covariates': np.array(row, np.float32)}
    for row in ([61, 1, 0, 2], [45, 0, 1, 3], [nan, nan, nan, 3])
  )
  found = groups.groups_of(cases, ('sex', 'age', 'x=1'))
  assert [tuple(g.values()) for g in found] == [
    ('female', '60–69', '2'), ('male', '40–49', '3'),
    ('unknown', 'unknown', '3'),
  ]  # fmt: skip


def test_dicom_says_who_it_is_of(shared_data):
  file = next(
    p
    for p in sorted(shared_data('dicom_sts025').rglob('*.dcm'))
    if 'PatientSex' in pydicom.dcmread(p, stop_before_pixels=True)
    and 'PixelData' in pydicom.dcmread(p)
  )
  header = pydicom.dcmread(file, stop_before_pixels=True)
  found = patient.about(file)
  assert found['sex'] == header.PatientSex
  assert header.Manufacturer in found['scanner']
  one = groups.group_of({}, ('sex', 'scanner'), file)
  assert one['sex'] in ('male', 'female')


def test_birth_and_study_give_an_age(tmp_path, shared_data):
  file = next(iter(sorted(shared_data('dicom_sts025').rglob('*.dcm'))))
  dataset = pydicom.dcmread(file)
  dataset.PatientBirthDate, dataset.StudyDate = '19500630', '20000629'
  if 'PatientAge' in dataset:
    del dataset.PatientAge
  dataset.save_as(tmp_path / 'x.dcm')
  assert patient.about(tmp_path / 'x.dcm')['age'] == '49'
  assert not np.any([k in patient.about(file) for k in ('name', 'id')])
