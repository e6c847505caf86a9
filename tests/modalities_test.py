"""A fusion of images, a table and a text, from the folder to the report."""

import csv
import dataclasses
import json
import shutil
import types

import numpy as np
import PIL.Image
import pytest
from sklearn import linear_model, metrics

import medjax
from medjax import modalities, predict, report, tabular
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.experiment import make, restore
from medjax.prediction.trained import load
from medjax.train import train

N = 360
INPUTS = ('image', 'covariates', 'text')


def write(folder):
  """Label: brightness of the picture plus a marker, above 0; words of noise."""
  rng = np.random.default_rng(0)
  folder.mkdir()
  rows = []
  for i in range(N):
    bright, marker = rng.normal(size=2)
    image = np.clip(120 + 30 * bright + 5 * rng.normal(size=(8, 8)), 0, 255)
    PIL.Image.fromarray(image.astype(np.uint8)).save(folder / f'{i}.png')
    label = 'ill' if bright + marker > 0 else 'well'
    site = 'ABC'[rng.integers(3)]
    words = ' '.join(rng.choice(['clear', 'opaque', 'large', 'small'], 4))
    rows.append([f'{i}.png', label, f'{marker:.4f}', site, words])
    if i % 9 == 0:
      rows[-1][4] = ''  # without a text
    if i % 10 == 0:
      rows[-1][3] = ''
  with (folder / 'cases.csv').open('w', newline='') as f:
    csv.writer(f).writerows(
      [['path', 'label', 'marker', 'site', 'words'], *rows]
    )
  return folder


def config_of(data, **model):
  config = default_config()
  config.data.update(name='folder', path=str(data), batch_size=40)
  config.data.fields.update(covariates='marker, site', text='words')
  config.data.preprocess = (
    dict(name='scale', mean=120.0, std=30.0),
    dict(name='standardise'),
    dict(name='hash_text', size=16),
  )
  backbone = dict(name='ResNet18', width=4, stem='small', stage_sizes=(1,),
                  norm='group')  # fmt: skip
  config.model = dict(name='Fusion', backbone=backbone, hidden=8, **model)
  config.task = dict(name='Classification', inputs=INPUTS)
  config.optimizer.learning_rate = 2e-2
  config.train.update(steps=120, log_every=60, eval_every=120)
  return config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(folder of the run, its data, what evaluate gave)."""
  home = tmp_path_factory.mktemp('fusion')
  config = config_of(write(home / 'data'))
  made = make(config)
  train(made, home / 'run')
  beside = tabular.rows(config, made, home / 'run', training=True)
  return home / 'run', home / 'data', evaluate(made, home / 'run',
                                               beside=beside)  # fmt: skip


def lines(results):
  found = results['test']['modalities']
  assert found['score'] == 'auroc'
  return {(x['way'], x['input']): x for x in found['lines']}


def test_each_input_is_worth_what_was_put_into_it(run):
  _, _, results = run
  found = {k: x['score']['value'] for k, x in lines(results).items()}
  whole = found['fusion', '']
  assert whole > 0.95
  one_of_two = 0.75  # E[AUC] of one of two equal summands
  for name in ('image', 'covariates'):
    assert abs(found['without', name] - one_of_two) < 0.2
    # Rows of others are no better than none, and worse than their own.
    assert found['permuted', name] < found['without', name] + 0.05
    assert found['only', name] < whole - 0.02
    gain = lines(results)['permuted', name]['difference']
    assert gain['interval'][0] > 0.05
  assert abs(found['permuted', 'text'] - whole) < 0.03
  assert abs(found['only', 'text'] - 0.5) < 0.25
  assert lines(results)['permuted', 'text']['difference']['interval'][0] <= 0


def test_the_baseline_is_logistic_regression_on_the_same_cases(run):
  folder, _, results = run
  made = restore(folder)
  x, y = {}, {}
  for split in ('train', 'test'):
    cases = made.cases(split)
    x[split] = np.nan_to_num([made.prepare(c)['covariates'] for c in cases])
    y[split] = np.array([int(c['label']) for c in cases])
  model = linear_model.LogisticRegression().fit(x['train'], y['train'])
  expected = metrics.roc_auc_score(
    y['test'], model.predict_proba(x['test'])[:, 1]
  )
  line = lines(results)['baseline', '']
  assert abs(line['score']['value'] - expected) < 0.02
  whole = lines(results)['fusion', '']['score']['value']
  difference = line['difference']
  np.testing.assert_allclose(
    difference['value'], whole - line['score']['value'], atol=1e-9
  )
  ids = [
    {row['id'] for row in csv.DictReader((p / 'per_case.csv').open())}
    for p in (folder, folder / 'tabular')
  ]
  assert ids[0] == ids[1]
  assert json.loads((folder / 'tabular/config.json').read_text())['model'] == {
    'name': 'MLP', 'hidden': [],
  }  # fmt: skip


def test_the_report_says_it(run, tmp_path):
  folder, *_ = run
  text = report.write_report(folder).read_text()
  assert 'What the inputs are worth' in text
  assert 'a linear model of the table alone' in text
  assert 'image of another case' in text
  assert 'text: with the rows of another case the score is no worse' in text
  stored = json.loads((folder / 'metrics.json').read_text())
  del stored['sha256']  # it is changed
  kept = stored['test']['modalities']['lines']
  stored['test']['modalities']['lines'] = [
    line for line in kept if line['way'] != 'baseline'
  ]
  other = tmp_path / 'run'
  other.mkdir()
  for name in ('config.json', 'metrics.jsonl'):
    (other / name).write_text((folder / name).read_text())
  (other / 'metrics.json').write_text(json.dumps(stored))
  assert (
    'No tabular baseline stands beside'
    in report.write_report(other).read_text()
  )


def test_predicts_on_a_table_of_other_cases_and_with_what_is_there(
  run, tmp_path
):
  folder, data, _ = run
  table = tmp_path / 'new.csv'
  for name in 'abc':
    shutil.copyfile(data / '0.png', tmp_path / f'{name}.png')
  table.write_text(
    'path,marker,site,words\n'
    'a.png,2,A,clear\n'
    'b.png,2,elsewhere,\n'  # a site that training had not
    'c.png,-2,,\n'
  )
  predict.predict(folder, [str(table)], tmp_path / 'out')
  with (tmp_path / 'out/predictions.csv').open() as f:
    ill = {row['id']: float(row['ill']) for row in csv.DictReader(f)}
  assert ill['a'] > ill['c']
  assert abs(ill['a'] - ill['b']) < 0.3
  predict.predict(folder, [str(data / '0.png')], tmp_path / 'images')
  trained = load(folder)
  marker = np.array([2.0, np.nan, np.nan, np.nan], np.float32)
  alone = trained.predict(covariates=marker).values['ill']
  assert alone > trained.predict(covariates=-marker).values['ill']
  with pytest.raises(ValueError, match='spatial axes'):
    trained.predict()


def test_an_order_in_which_nothing_is_at_its_place():
  for n in range(2, 9):
    samples = [{'image': np.float32(i), 'text': np.float32(-i)}
               for i in range(n)]  # fmt: skip
    changed = modalities.Changed(samples, INPUTS[::2], 'permuted', 'text', n)
    found = [(int(s['image']), int(-s['text'])) for s in changed]
    assert sorted(b for _, b in found) == list(range(n))
    assert all(a != b for a, b in found)
  only = modalities.Changed(samples, ('image', 'text'), 'only', 'image')[3]
  assert only['image'] == 3
  assert np.isnan(only['text'])


def test_other_cases_beside_are_refused():
  class Task:
    monitor = 'auroc'

    def monitored(self, rows, calibration):
      return lambda w: np.ones(len(w))

  rows = [{'id': str(i), 'patient': str(i)} for i in range(4)]
  with pytest.raises(ValueError, match='has other cases than the run'):
    modalities.summarize(Task(), rows, {}, rows[:3])


def test_the_baseline_of_survival_is_cox():
  config = default_config()
  config.model = dict(name='Fusion', backbone=dict(name='ResNet18'))
  config.task = dict(name='Survival', model='deephit', inputs=INPUTS[:2])
  config.augment = (dict(name='flip', p=0.5),)
  assert tabular.config_of(config).task.model == 'cox'
  found = tabular.config_of(config, causes=2)
  assert found.task.model == 'competing'
  assert not found.augment
  assert found.task.inputs == ('covariates',)
  config.task.inputs = ('image', 'text')
  assert tabular.config_of(config) is None


def test_a_baseline_spends_no_privacy_and_costs_no_evaluation(
  tmp_path, monkeypatch, capsys
):
  config = default_config()
  config.model = dict(name='Fusion', backbone=dict(name='ResNet18'))
  config.task = dict(name='Classification', inputs=INPUTS[:2])
  made = types.SimpleNamespace(
    optional=True,
    folds=False,
    task=types.SimpleNamespace(inputs=INPUTS[:2]),
    facts=types.SimpleNamespace(causes=1),
  )

  def fails(*_, **__):
    raise FloatingPointError('loss is not finite')

  monkeypatch.setattr(tabular.experiment_lib, 'make', fails)
  assert tabular.rows(config, made, tmp_path, training=True) is None
  said = capsys.readouterr().err
  assert 'there is no tabular baseline: loss is not finite' in said
  config.privacy.epsilon = 3.0
  assert tabular.config_of(config) is None


def test_a_run_of_one_input_has_nothing_of_it(run):
  folder, *_ = run
  made = dataclasses.replace(
    restore(folder), task=restore(folder / 'tabular').task
  )
  assert tabular.rows(None, made, folder, training=True) is None
  assert medjax.load(folder / 'tabular').task.inputs == ('covariates',)
