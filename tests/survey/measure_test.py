import json

import numpy as np
import pytest

from medjax.survey import measure
from medjax.survey.fingerprint import fingerprint
from medjax.survey.source import Source


class Cases(list):
  """Cases of a split; an exception in their place is raised."""

  def __getitem__(self, i):
    case = super().__getitem__(i)
    if isinstance(case, Exception):
      raise case
    return case


def make_case(i, shape=(6, 8, 5), spacing=(1.0, 1.0, 2.0), **fields):
  rng = np.random.default_rng(i)
  affine = np.diag([*spacing, 1.0])
  return {
    'id': f'case {i}',
    'patient': f'patient {i}',
    'image': rng.integers(0, 1000, (*shape, 1)).astype(np.int16),
    'affine': affine,
    'spacing': np.array(spacing),
    **fields,
  }


def surveyed(splits, **fields):
  splits = {name: Cases(cases) for name, cases in splits.items()}
  return measure.survey(Source(name='set', splits=splits, **fields))


def with_masks(n, shapes):
  rng = np.random.default_rng(7)
  cases = []
  for i in range(n):
    shape = shapes[i % len(shapes)]
    mask = rng.integers(0, 3, shape).astype(np.uint8)
    cases.append(make_case(i, shape, mask=mask))
  return cases


def test_the_fingerprint_is_that_of_numpy():
  cases = with_masks(9, [(6, 8, 5), (7, 8, 4), (5, 9, 6)])
  about = fingerprint(surveyed({'train': cases[:6], 'test': cases[6:]}))
  json.dumps(about)
  assert about['cases'] == 6  # planning does not see the test split
  assert about['splits'] == {'train': 6, 'test': 3}
  shapes = np.array([c['image'].shape[:3] for c in cases[:6]])
  np.testing.assert_allclose(about['shape']['median'], np.median(shapes, 0))
  assert about['spacing']['median'] == [1, 1, 2]
  assert sum(g['cases'] for g in about['geometries']) == 6
  inside = [c['image'][c['mask'] > 0][:, 0].astype(float) for c in cases[:6]]
  # Every case has the same weight.
  mean = np.mean([v.mean() for v in inside])
  square = np.mean([(v**2).mean() for v in inside])
  (seen,) = about['intensity']
  assert seen['mean'] == pytest.approx(mean)
  assert seen['std'] == pytest.approx(np.sqrt(square - mean**2))
  pooled = np.concatenate(
    [np.quantile(v, np.linspace(0, 1, 999)) for v in inside]
  )
  low, high = np.percentile(pooled, (0.5, 99.5))
  assert seen['percentile_00_5'] == pytest.approx(low, abs=10)
  assert seen['percentile_99_5'] == pytest.approx(high, abs=10)
  counts = sum(np.bincount(c['mask'].ravel(), minlength=3) for c in cases[:6])
  assert about['class_voxels'] == counts.tolist()
  assert about['classes'] == ['background', 'label 1', 'label 2']


@pytest.mark.parametrize('ignore', [2, 255])
def test_a_label_to_ignore_is_no_class(ignore):
  cases = with_masks(3, [(6, 8, 5)])
  for case in cases:
    case['mask'] = np.where(case['mask'] == 2, ignore, case['mask'])
  splits = {'train': Cases(cases)}
  splits['train'].ignore = ignore
  found = measure.survey(Source(name='set', splits=splits))
  about = fingerprint(found)
  assert about['classes'] == ['background', 'label 1']
  masks = [c['mask'] for c in cases]
  counts = [sum(int((m == k).sum()) for m in masks) for k in range(2)]
  assert about['class_voxels'] == counts
  values = [c['image'][c['mask'] == 1].mean() for c in cases]
  assert about['intensity'][0]['mean'] == pytest.approx(np.mean(values))


def test_the_box_of_what_is_above_zero():
  image = np.zeros((10, 12, 8, 2), np.float32)
  image[2:5, 3:9, 1:2, 1] = 4.0
  case = make_case(0, image=image, mask=(image[..., 1] > 0).astype(np.uint8))
  about = fingerprint(surveyed({'train': [case]}))
  assert about['geometries'][0]['box'] == (3, 6, 1)
  assert about['zero_background']
  assert about['box_share'] == pytest.approx(18 / 960)
  assert [c['mean'] for c in about['intensity']] == [0.0, 4.0]


def test_axes_of_volumes_are_in_the_order_of_ras():
  turned = make_case(1, (5, 6, 8))
  turned['affine'] = np.array(
    [[0, -1, 0, 0], [0, 0, 1, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]]
  )
  turned['spacing'] = np.array([2.0, 1.0, 1.0])
  alone = fingerprint(surveyed({'train': [turned]}))
  assert alone['reoriented']
  assert alone['shape']['median'] == [6, 8, 5]
  both = fingerprint(surveyed({'train': [make_case(0), turned]}))
  assert both['reoriented']
  assert both['shape']['minimum'] == both['shape']['maximum'] == [6, 8, 5]
  assert both['spacing']['maximum'] == [1, 1, 2]


def test_modality():
  air = np.full((6, 8, 5, 1), -1000, np.int16)
  about = fingerprint(surveyed({'train': [make_case(0, image=air)]}))
  assert (about['modality'], about['modality_guessed']) == (['CT'], True)
  cases = {'train': [make_case(0)]}
  about = fingerprint(surveyed(cases))
  assert (about['modality'], about['modality_guessed']) == ([''], False)
  about = fingerprint(surveyed(cases, modalities=('MRI',)))
  assert about['modality'] == ['MRI']
  with pytest.raises(ValueError, match=r'2 modalities \(CT, PT\) for 1'):
    fingerprint(surveyed(cases, modalities=('CT', 'PT')))


def test_cases_that_cannot_be_read():
  bad = ValueError('x.png: 3 of 4 voxels are NaN')
  found = surveyed({'train': [make_case(0), bad, make_case(2)]})
  assert [c.problem for c in found.cases] == ['', str(bad), '']
  assert [c.id for c in found.read] == ['case 0', 'case 2']
  with pytest.raises(ValueError, match=r'none of 1 cases can be read.*NaN'):
    surveyed({'train': [bad]})
