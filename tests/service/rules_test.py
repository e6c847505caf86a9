import pydicom
import pytest

from medjax.service import rules


def dataset(**fields):
  d = pydicom.Dataset()
  for key, value in fields.items():
    setattr(d, key, value)
  return d


MR = dataset(
  Modality='MR',
  SeriesDescription='AX HCrop, T1',
  SliceThickness='1.5',
  ImageType=['ORIGINAL', 'PRIMARY', 'M'],
  PatientName='Test^Phantom',
  OperatorsName=['A', 'B^C'],
)


@pytest.mark.parametrize(
  ('rule', 'holds'),
  [
    ('Modality=MR', True),
    ('Modality=mr', True),
    ('Modality=M', False),
    ('Modality!=CT', True),
    ('Modality!=MR', False),
    ('SeriesDescription~hcrop', True),
    ('SeriesDescription~^HCrop', False),
    ('SliceThickness<2', True),
    ('SliceThickness<=1.5, SliceThickness>=1.5', True),
    ('SliceThickness>1.5', False),
    ('ImageType=PRIMARY', True),
    ('ImageType!=PRIMARY', False),
    ('BodyPartExamined=BRAIN', False),
    ('BodyPartExamined!=BRAIN', True),
    ('Modality<2', False),
    ('Modality=MR, SeriesDescription~HCrop, SliceThickness<1', False),
    ('PatientName~phantom', True),
    ('PatientName=test^phantom', True),
    ('PatientName!=Test^Phantom', False),
    ('OperatorsName=B^C', True),
    ('OperatorsName!=A', False),
    ('', True),
  ],
)
def test_rules(rule, holds):
  assert rules.matches(rule, MR) is holds


@pytest.mark.parametrize(
  ('rule', 'line'),
  [
    ('Modalty=MR', "did you mean 'Modality'"),
    ('Modality', 'is no condition'),
    ('SliceThickness<thin', 'no value for <'),
    ('SeriesDescription~(', 'no value for ~'),
  ],
)
def test_bad_rules_are_refused(rule, line):
  with pytest.raises(ValueError, match=line):
    rules.parse(rule)
