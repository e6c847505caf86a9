"""What an evaluation decides about doubt, and what predict says of files."""

import csv
import json

import numpy as np
import pytest
from drawn_runs import (
  CLASSES,
  MASKS,
  RESNET,
  SCALE,
  UNET,
  config_of,
  make_run_in,
)
from PIL import Image
from trust.small_run import make_cases, make_config

import medjax
from medjax import experiment, files
from medjax.data.facts import DataFacts
from medjax.predict import predict
from medjax.prediction import judge, novelty, trained
from medjax.report import write_report
from medjax.tasks import Classification
from medjax.tasks.task import Calibration
from medjax.train import train


def metrics(workdir):
  return json.loads((workdir / 'metrics.json').read_text())


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pictures')
  for i, case in enumerate(make_cases(6, seed=5)):
    Image.fromarray(case['image'][..., 0]).save(folder / f'{i}.png')
  noise = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
  Image.fromarray(noise).save(folder / 'noise.png')
  Image.fromarray(np.full((16, 16), 90, np.uint8)).save(folder / 'flat.png')
  return folder


def predicted(workdir, pictures, out, **options):
  predict(workdir, [pictures], out, trust=True, **options)
  with (out / 'predictions.csv').open() as f:
    return {row['file'].rpartition('/')[2]: row for row in csv.DictReader(f)}


def test_the_evaluation_says_what_sets_novelty_and_groups_are_worth(workdir):
  found = metrics(workdir)
  lac, by_class = found['test']['sets']
  assert lac['level'] == 0.9
  assert lac['coverage'] > 0.8
  assert set(lac['classes']) == {'dark', 'bright'}
  assert by_class['by_class']
  assert found['novelty']['scores'] == ['mahalanobis', 'residual']
  assert found['novelty']['abstained']['p'] < 0.2
  groups = found['test']['subgroups']['groups']
  assert [(g['name'], g['n']) for g in groups] == [('female', 30), ('male', 30)]
  assert set(groups[0]['scores']) >= {'auroc', 'recall', 'specificity'}
  assert 'conformal' not in found['calibration']
  table = list(csv.DictReader((workdir / 'per_case.csv').open()))
  test = [row for row in table if row['split'] == 'test']
  assert {row['group_sex'] for row in test} == {'male', 'female'}
  assert all(float(row['ood_p']) > 0 for row in test)
  assert not any('signature' in name for name in table[0])


def test_the_report_shows_them(workdir):
  text = write_report(workdir).read_text()
  for words in (
    'Doubt',
    'LAC, by class, 0.900',
    'Unlike the training',
    'Subgroups',
    'Operating point',
    'by the share that is answered',
  ):
    assert words in text


def test_files_have_a_set_a_p_and_a_reason(workdir, pictures, tmp_path):
  rows = predicted(workdir, pictures, tmp_path, conformal=0.9, ood=True)
  usual = rows['1.png']
  assert usual['set'] in ('bright', 'dark | bright')
  assert float(usual['ood_p']) > 0.05
  odd = rows['noise.png']
  assert float(odd['ood_p']) < 0.05
  assert odd['abstain'] == '1'
  assert 'unlike the training cases' in odd['reason']
  assert rows['flat.png']['abstain'] == '1'
  assert {row['abstain'] for row in rows.values()} == {'0', '1'}


def test_a_test_split_without_references_tells_no_coverage(tmp_path):
  task = Classification(num_classes=2, class_names=('dark', 'bright'))
  told = judge.Judge(task, Calibration(), level=0.9, method='lac')
  line = 'coverage at 0.9 was not measured: the run has no table of test cases'
  assert told.said(tmp_path) == [line]
  row = {'id': 'a', 'patient': 'a', 'probability/dark': 0.3}
  row |= {'probability/bright': 0.7, 'label': 1}
  table = tmp_path / 'per_case.csv'
  files.write_csv(table, [{'split': 'validation', **row}])
  assert told.said(tmp_path) == [line]
  files.write_csv(table, [row])
  with pytest.raises(ValueError, match=r'per_case\.csv is damaged: it has no'):
    told.said(tmp_path)


def test_a_set_is_printed_with_its_coverage(
  workdir, pictures, tmp_path, capsys
):
  predicted(workdir, pictures, tmp_path, conformal=0.8, by_class=True)
  said = capsys.readouterr().out
  assert 'at 0.8 (lac, by class), of 60 test patients: ' in said
  assert 'dark 0.' in said or 'dark 1.' in said


@pytest.mark.parametrize(
  ('options', 'line'),
  [
    (dict(conformal=0.999), 'too few for sets at 0.999'),
    (dict(conformal=90.0), 'between 0 and 1'),
    (dict(conformal=0.9, sets='top'), 'none of lac, aps, raps'),
    (dict(conformal=0.9, calibrated=True), 'leave --calibrated'),
  ],
)
def test_what_predict_cannot_say_is_refused(
  workdir, pictures, tmp_path, options, line
):
  with pytest.raises(ValueError, match=line):
    predicted(workdir, pictures, tmp_path / 'out', **options)
  assert not list((tmp_path / 'out').glob('*.csv'))


def test_a_run_without_novelty_says_how_to_fit_it(
  workdir, pictures, tmp_path, monkeypatch
):
  monkeypatch.setattr(novelty, 'FILE', 'none.npz')
  with pytest.raises(FileNotFoundError, match='--mode=evaluate'):
    predicted(workdir, pictures, tmp_path, ood=True)


def test_damaged_novelty_is_one_line(workdir, tmp_path):
  (tmp_path / novelty.FILE).write_bytes(b'PK\x03\x04 no archive')
  with pytest.raises(ValueError, match='is damaged'):
    novelty.load(tmp_path, (1,))


def seen(n=80, seed=0, ids='a'):
  rng = np.random.default_rng(seed)
  names = tuple(f'{ids}{i}' for i in range(n))
  return novelty.Seen(rng.normal(size=(n, 5)), None, None, names)


def test_training_cases_do_not_calibrate():
  with pytest.raises(ValueError, match='what was trained on cannot calibrate'):
    novelty.Novelty.of(seen(), seen(), ('mahalanobis', 'knn'))


@pytest.mark.parametrize(
  'names', [('knn',), ('knn', 'knn'), ('msp', 'energy'), ('knn', 'odin')]
)
def test_two_scores_and_one_of_features_are_needed(names):
  with pytest.raises(ValueError, match=r'inference\.ood'):
    novelty.Novelty.of(seen(), seen(seed=1, ids='b'), names)


def test_what_novelty_cannot_be_told_by_is_said_before_the_training(
  data, tmp_path
):
  config = make_config()
  config.inference.ood = ('mahalanobis',)
  with pytest.raises(ValueError, match='name two or more of'):
    train(experiment.make(config), tmp_path)
  config.inference.ood = ('mahalanobis', 'knn')
  config.model.name = 'trust.small_run:Blind'
  with pytest.raises(ValueError, match='Blind gives no features'):
    train(experiment.make(config), tmp_path)
  assert not any(tmp_path.glob('checkpoints/*'))


def test_novelty_is_what_was_saved(tmp_path):
  names = ('mahalanobis', 'knn', 'residual')
  made = novelty.Novelty.of(seen(), seen(seed=1, ids='b'), names)
  made.save(tmp_path, (60,))
  again = novelty.load(tmp_path, (60,))
  with pytest.raises(ValueError, match='of step 60, these are of 90: evaluate'):
    novelty.load(tmp_path, (90,))
  x = seen(seed=2).signature
  for name, p in made.p_values(x).items():
    np.testing.assert_allclose(again.p_values(x)[name], p, atol=0.03)


def test_features_come_with_predictions(workdir, data):
  run = medjax.load(workdir, trust=True)
  case = make_cases(1, 9)[0]
  found = run.predict_case(case, features=True)
  assert found.embedding.shape == (4,)
  assert found.signature.shape == (16 * 4 + 4 + 4,)
  named = run.features(case['image'])
  np.testing.assert_allclose(found.embedding, named['pooled'], rtol=1e-5)
  np.testing.assert_allclose(found.logits, named['logits'], rtol=1e-5)
  assert run.predict_case(case).embedding is None


@pytest.mark.parametrize(
  'part',
  [{'conformal': {'lac': 'x'}}, {'conformal': [1]}, {'answering': 3},
   {'conformal': {'lac': [[0.1, 'x']]}}],
)  # fmt: skip
def test_a_damaged_calibration_is_refused(part):
  with pytest.raises(ValueError, match='no calibration'):
    Calibration.of(part)


def test_calibration_is_kept_in_its_file(workdir):
  stored = files.read_json(workdir / 'calibration.json', mend='')
  assert sum(map(len, stored['conformal']['lac'])) == 60
  assert stored['answering']['risk'] == 0.2
  assert stored['steps'] == [metrics(workdir)['run']['best_step']]


def test_a_case_that_cannot_be_judged_loses_no_other(
  workdir, pictures, tmp_path, monkeypatch
):
  judge = novelty.Novelty.judge

  def damaged(self, prediction):
    if prediction.id == 'flat':
      raise ValueError('a feature is NaN or infinite')
    return judge(self, prediction)

  monkeypatch.setattr(novelty.Novelty, 'judge', damaged)
  with pytest.raises(ValueError, match=r'1 of 8 images failed.*flat\.png'):
    predicted(workdir, pictures, tmp_path, ood=True)
  with (tmp_path / 'predictions.csv').open() as f:
    assert len(list(csv.DictReader(f))) == 7


CONCEPTS = dict(name='Concepts', num_classes=2, concepts=('a', 'b'))
BOTTLENECK = dict(name='ConceptBottleneck', backbone=RESNET, num_concepts=2)
TABLE = dict(name='Classification', num_classes=2, inputs=('covariates',))


@pytest.mark.parametrize(
  ('model', 'task', 'names', 'line'),
  [
    (UNET, MASKS, ('vim', 'energy'), 'vim is of the logits of a case'),
    (UNET, MASKS, ('mahalanobis', 'energy'), 'energy is of the logits'),
    (BOTTLENECK, CONCEPTS, ('knn', 'vim'), 'Concepts predicts by more than'),
    (dict(name='MLP'), TABLE, ('knn', 'vim'), 'MLP of covariates gives no'),
  ],
)
def test_a_task_that_novelty_cannot_be_told_by(model, task, names, line):
  config = config_of(model, task, ())
  config.inference.ood = names
  facts = DataFacts(channels=1, rank=2, covariate_names=('a', 'b'))
  made = experiment.make(config, facts=facts)
  with pytest.raises(ValueError, match=line):
    novelty.check(made)
  config = config_of(RESNET, CLASSES, ())
  config.inference.ood = ('knn', 'vim')
  novelty.check(experiment.make(config, facts=facts))


def test_novelty_of_a_cross_validation_is_that_of_a_fold(tmp_path):
  (tmp_path / 'fold0').mkdir()
  (tmp_path / 'fold0' / novelty.FILE).write_bytes(b'')
  with pytest.raises(FileNotFoundError, match='each fold has its own'):
    novelty.load(tmp_path, (1,))


def test_concepts_have_probabilities_to_judge_by(tmp_path):
  run = trained.load(
    make_run_in(
      tmp_path, BOTTLENECK, CONCEPTS, SCALE, (8, 8, 1),
      covariate_names=('a', 'b'),
    )
  )  # fmt: skip
  p = run.probabilities(np.zeros((8, 8)))
  assert p.shape == (2,)
  assert p.sum() == pytest.approx(1)
  label = np.arange(80) % 2
  rows = [
    {'id': str(i), 'patient': str(i), 'label': k, 'probability': np.eye(2)[k]}
    for i, k in enumerate(label)
  ]
  decided = run.task.calibrate(rows)
  told = judge.Judge(run.task, decided, level=0.9)
  found = told(run.predict(np.zeros((8, 8))))
  assert {'set', 'abstain', 'reason'} == {*found.judgement}
