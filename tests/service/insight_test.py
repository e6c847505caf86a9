"""What is said beside an answer: like cases, a map, what is new, rules."""

import gzip
import shutil

import hospital
import nibabel
import numpy as np
import pytest
import sqlalchemy as sa

from medjax.prediction import trained
from medjax.service import analyse, insight, models, tables


def model_of(store, workdir, **options):
  models.install(store, workdir, when='Modality=DX', **options)
  with store.read() as c:
    (row,) = c.execute(sa.select(tables.models)).all()
  return analyse.Model.load(row)


@pytest.fixture
def pictures(shared_data):
  path = shared_data('pneumoniamnist') / 'pneumoniamnist.npz'
  return np.load(path)['train_images']


def test_a_film_comes_with_like_cases_and_a_map(
  store, seen, pictures, tmp_path
):
  model = model_of(store, seen)
  file = hospital.x_ray(pictures[0], tmp_path / 'x.dcm')
  found = analyse.analyse(model, [file], ['1'])
  assert found.outcome['summary'] != 'abstained', found.outcome['reasons']
  near = found.outcome['nearest']
  assert len(near) == insight.NEAREST
  assert {n['label'] for n in near} <= {'normal', 'pneumonia'}
  cosines = [n['cosine'] for n in near]
  assert cosines == sorted(cosines, reverse=True)
  (tmp_path / 'map.nii').write_bytes(
    gzip.decompress(found.views['explanation'])
  )
  (tmp_path / 'image.nii').write_bytes(gzip.decompress(found.views['image']))
  shown, image = (nibabel.load(tmp_path / f'{n}.nii') for n in ('map', 'image'))
  assert shown.shape == image.shape
  np.testing.assert_allclose(shown.affine, image.affine)
  assert 200 < shown.get_fdata().max() <= 255
  assert any('Grad-CAM' in note for note in found.outcome['notes'])
  assert analyse.analyse(model, [file], ['1']) == found


def test_a_case_of_the_training_is_nearest_to_itself(seen):
  run = trained.load(seen)
  beside = insight.Insight.of(run, seen, {})
  case = run.experiment.cases('train')[3]
  found = run.predict_case(case, probabilities=True, features=True)
  (first, *_) = beside.nearest(found)
  assert first['case'] == case['id']
  assert first['cosine'] == pytest.approx(1, abs=1e-4)


def test_what_was_never_seen_is_abstained_from(store, seen, tmp_path):
  model = model_of(store, seen)
  squares = (255 * (np.indices((28, 28)).sum(0) % 2)).astype(np.uint8)
  file = hospital.x_ray(squares, tmp_path / 'x.dcm')
  found = analyse.analyse(model, [file], ['1'])
  assert found.outcome['summary'] == 'abstained'
  assert found.outcome['kind'] == 'out of distribution'
  assert 'unlike the training cases' in found.outcome['reasons'][0]
  assert not found.outcome['findings']
  assert 'explanation' not in found.views


def test_what_novelty_is_told_by_is_a_part_of_the_model(seen, tmp_path):
  other = tmp_path / 'run'
  shutil.copytree(seen, other)
  assert models.digest(other) == models.digest(seen)
  (other / 'novelty.npz').unlink()
  assert models.digest(other) != models.digest(seen)


def test_novelty_of_other_weights_is_not_installed(store, seen, tmp_path):
  other = tmp_path / 'run'
  shutil.copytree(seen, other)
  with np.load(other / 'novelty.npz') as held:
    arrays = {**held, 'steps': held['steps'] + 1}
  np.savez(other / 'novelty.npz', **arrays)
  with pytest.raises(ValueError, match='step'):
    models.install(store, other, when='Modality=DX')


def ellipsoid(*radii, shape=(40, 40, 40)):
  at = (np.indices(shape).T - 20.0) / radii
  return ((at**2).sum(-1) <= 1).astype(np.int32).T


class Labels:
  def __init__(self, labels):
    self.labels = labels


@pytest.mark.parametrize('age', [None, 30, 60])
def test_rules_are_told_the_size_and_say_what_they_lack(age):
  rules = {'nodule': ('fleischner', 'lung_t')}
  beside = insight.Insight(None, None, None, rules)
  case = {'affine': np.eye(4), 'spacing': np.ones(3)}
  finding = {'name': 'nodule', 'segment': 1, 'present': True}
  labels = Labels(ellipsoid(13, 7, 5))
  fleischner, lung = beside.by_rule(case, labels, [finding], age)
  assert fleischner['size'] == pytest.approx(21, abs=1.5)  # the mean
  assert lung['size'] == pytest.approx(27, abs=1.5)  # the longest
  if age == 30:  # it is of adults of 35 years or more
    assert '35' in fleischner['says']
  else:
    assert fleischner['says'].startswith('Open: ')
    assert 'attenuation of the nodule' in fleischner['missing']
    assert (
      'Consider CT at 3 months, PET/CT, or tissue sampling.'
      in (fleischner['possible'])
    )
  assert ('age of the patient' in fleischner['missing']) == (age is None)
  assert lung['says'].startswith('T1c by size')
  (large, _) = beside.by_rule(
    case, Labels(ellipsoid(18, 18, 18)), [finding], 60
  )
  assert 'size' in large['says']  # a mass is no nodule
  absent = {**finding, 'present': False}
  assert not beside.by_rule(case, labels, [absent], age)


@pytest.mark.parametrize(
  ('text', 'volumes', 'message'),
  [
    ('tumour=lung_t', True, "no class 'tumour'; there are nodule"),
    ('nodule=recist', True, 'none of fleischner, lung_rads, lung_t'),
    ('nodule=lung_t', False, 'rules are for segmentations of volumes'),
  ],
)
def test_rules_that_cannot_be_told_a_size(text, volumes, message):
  with pytest.raises(ValueError, match=message):
    insight.rules_of(text, ['nodule'], volumes=volumes)
  assert insight.rules_of(
    'nodule=lung_t+fleischner', ['nodule'], volumes=True
  ) == {'nodule': ['lung_t', 'fleischner']}
