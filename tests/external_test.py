"""A run evaluated on data that it was not made with."""

import csv
import dataclasses
import functools
import json
import shutil

import flax.linen as nn
import numpy as np
import PIL.Image
import pytest

from medjax import cases, experiment, external, files, run_facts
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.report import write_report
from medjax.reports import text
from medjax.run import divided
from medjax.train import train


class Net(nn.Module):
  """Quick to compile; a map, or numbers of the image."""

  num_classes: int
  dense: bool = True

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.Conv(self.num_classes, (1, 1))(x)
    return x if self.dense else x.mean((1, 2))


def write_classes(root, n=12, first=0, patient='p'):
  """Dark and bright pictures in a folder per class."""
  rng = np.random.default_rng(first)
  for i in range(first, first + n):
    name = ('dark', 'bright')[i % 2]
    array = rng.normal(60 + 90 * (i % 2), 30, (6, 6)).clip(0, 255)
    (root / name / f'{patient}{i}').mkdir(parents=True, exist_ok=True)
    path = root / name / f'{patient}{i}' / f'{i}.png'
    PIL.Image.fromarray(array.astype(np.uint8)).save(path)
  return root


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(workdir, its data) of a run of few steps, evaluated; not to be changed."""
  root = tmp_path_factory.mktemp('external')
  config = default_config()
  config.data.update(name='folder', batch_size=8)
  config.data.path = str(write_classes(root / 'own', 20))
  config.data.preprocess = (dict(name='zscore'),)
  config.model = dict(name=f'{__name__}:Net', dense=False)
  config.task = dict(name='Classification')
  config.train.update(steps=2, log_every=1, eval_every=2)
  made = experiment.make(config)
  train(made, root / 'run')
  evaluate(made, root / 'run')
  return root / 'run', root / 'own'


def evaluate_on(run, data, **options):
  made = experiment.restore(run, trust=True)
  return external.evaluate_on(made, run, str(data), **options)


def test_other_data_get_a_folder_of_their_own(run, tmp_path):
  workdir, _ = run
  before = {
    p: p.read_bytes()
    for p in workdir.iterdir()
    if p.suffix in ('.json', '.csv')
  }
  other = write_classes(tmp_path / 'clinic', 8, first=100, patient='q')
  results, out = evaluate_on(workdir, other)
  assert out == workdir / 'evaluations/clinic'
  calibration = json.loads((workdir / 'calibration.json').read_text())
  found = json.loads((out / 'metrics.json').read_text())
  assert found['test']['n'] == results['test']['n'] == 8
  assert found['test']['applied_temperature'] == calibration['temperature']
  assert found['test']['applied_thresholds'] == calibration['thresholds']
  with (out / 'per_case.csv').open(newline='') as f:
    assert len(list(csv.DictReader(f))) == 8
  assert write_report(out).is_file()
  assert before == {p: p.read_bytes() for p in before}
  namesake = write_classes(tmp_path / 'b/clinic', 4, first=200, patient='r')
  with pytest.raises(ValueError, match=r'of other data: give another --out'):
    evaluate_on(workdir, namesake)
  _, out = evaluate_on(workdir, namesake, out=tmp_path / 'out')
  assert (out / 'metrics.json').is_file()


def test_cases_of_the_training_are_refused(run, tmp_path):
  workdir, own = run
  with pytest.raises(ValueError, match=r'case .* that the run was trained'):
    evaluate_on(workdir, own)
  results, _ = evaluate_on(workdir, own, split='test')
  assert results['test']['n'] == 3 or results['test']['n'] == 4
  # One of its patients, whose picture is another.
  mixed = write_classes(tmp_path / 'mixed', 8, first=100, patient='q')
  trained = experiment.restore(workdir, trust=True).cases('train').entries
  seen = next(e for e in trained if e.label == 'dark')
  again = mixed / seen.label / seen.patient / 'new.png'
  again.parent.mkdir()
  PIL.Image.fromarray(np.full((6, 6), 9, np.uint8)).save(again)
  with pytest.raises(ValueError, match='is of a patient that the run') as e:
    evaluate_on(workdir, mixed)
  assert '\n' not in str(e.value)
  evaluate_on(workdir, mixed, same_names=True)
  # The very file, under another name.
  shutil.copy(seen.image, again)
  with pytest.raises(ValueError, match='is an image that the run was trained'):
    evaluate_on(workdir, mixed, same_names=True)


def test_cases_that_chose_the_checkpoint_are_refused(run):
  workdir, own = run
  with pytest.raises(ValueError, match='that the run chose its checkpoint on'):
    evaluate_on(workdir, own, split='validation')
  made = experiment.restore(workdir, trust=True)
  made = dataclasses.replace(
    made, config={**made.config, 'data': {**made.config['data'], 'name': 'set'}}
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(external.experiment_lib, 'restore', lambda *_, **__: made)
    check = functools.partial(external._check_apart, workdir, 'set', [])
    with pytest.raises(ValueError, match=r"'validation' of validation"):
      check('validation', same_names=True)
    check('test', same_names=True)


@pytest.fixture
def changed(run, tmp_path):
  """A copy of the workdir, whose training had one that is now of test."""
  workdir = tmp_path / 'run'
  shutil.copytree(run[0], workdir)
  known = divided.read(workdir)
  name = next(iter(known['test']))
  known['train'][name] = known['test'].pop(name)
  files.write_json(workdir / divided.FILE, known, sealed=True)
  return workdir


def test_a_run_is_not_tested_on_cases_that_it_was_trained_on(run, changed):
  before = (changed / 'metrics.json').read_bytes()
  made = experiment.restore(changed, trust=True)
  for act in (evaluate, train):
    with pytest.raises(ValueError, match='1 case of train is now in test'):
      act(made, changed)
  assert (changed / 'metrics.json').read_bytes() == before
  with pytest.raises(ValueError, match=r'case .* that the run was trained on'):
    evaluate_on(changed, run[1], split='test')


def test_an_evaluation_with_other_settings_says_so(run, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(run[0], workdir)
  config = experiment.config_lib.load(workdir)
  config.inference.flips = True
  results = evaluate(experiment.restore(workdir, config=config), workdir)
  assert results['run']['changed'] == {'inference.flips': True}
  assert 'inference.flips=True, which config.json' in text.spoken(results)
  report = write_report(workdir).read_text()
  assert 'evaluated with inference.flips=True' in report
  results = evaluate(experiment.restore(workdir, trust=True), workdir)
  assert 'changed' not in results['run']
  assert 'inference.flips' not in text.spoken(results)


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('task.positive', 'dark'), ('data.mask_values', ((255, 1),)),
    ('data.ignore', 3), ('task.class_names', ('dark', 'bright')),
  ],
)  # fmt: skip
def test_what_scores_are_of_stays_as_it_was(run, field, value):
  """Others read the threshold beside config.json."""
  workdir, _ = run
  config = experiment.config_lib.load(workdir)
  group, name = field.split('.')
  config[group][name] = value
  made = experiment.restore(workdir, config=config)
  with pytest.raises(ValueError, match=rf'another config.*{field}'):
    evaluate(made, workdir)


def test_a_set_that_was_prepared_of_the_training_is_refused(run):
  workdir, _ = run
  trained = experiment.restore(workdir, trust=True).cases('train').entries[0]
  case = {'id': trained.id, 'patient': 'x'}
  check = functools.partial(external._check_apart, workdir, 'set', split='all')
  with pytest.raises(ValueError, match='say --same_names if they only'):
    check([case], same_names=False)
  check([case], same_names=True)
  check([{'id': 'other', 'patient': 'x'}], same_names=False)


def test_tables_are_those_that_lie_with_the_other_data(tmp_path, monkeypatch):
  here, there = tmp_path / 'here', tmp_path / 'there'
  for folder in (here, there):
    folder.mkdir()
    (folder / 'features.csv').write_text('id\n')
  monkeypatch.chdir(here)  # where the run's own table lies
  told = {'table': 'features.csv', 'join': {'table': 'x/more.csv', 'on': 'id'}}
  with pytest.raises(FileNotFoundError, match=r'more\.csv: no such file'):
    cases._tables_of(there, told)
  (there / 'more.csv').write_text('id\n')
  found = cases._tables_of(there, told)
  assert found['table'] == str(there / 'features.csv')
  assert found['join'] == {'table': str(there / 'more.csv'), 'on': 'id'}
  found = cases._tables_of(there / 'features.csv', told)
  assert found['table'] == ''
  assert found['join']['table'] == str(there / 'more.csv')


def test_a_run_is_not_evaluated_on_what_lies_where_it_is_called(run, tmp_path):
  workdir, _ = run
  made = experiment.restore(workdir, trust=True)
  external.check_own(made, workdir)
  config = experiment.config_lib.load(workdir)
  config.data.path = str(
    write_classes(tmp_path / 'clinic', 20, first=100, patient='q')
  )
  other = experiment.make(config, facts=run_facts.read(workdir))
  with pytest.raises(ValueError, match='holds none of the test cases of'):
    external.check_own(other, workdir)
  external.check_own(other, tmp_path)  # never evaluated


def test_labels_that_mean_something_else_are_refused(run, tmp_path):
  other = write_classes(tmp_path / 'other', 8, first=100, patient='q')
  (other / 'dark').rename(other / 'black')
  with pytest.raises(ValueError, match='black'):
    evaluate_on(run[0], other)


def test_the_run_itself_is_evaluated_on_its_own_data_only(run, tmp_path):
  workdir, _ = run
  config = experiment.config_lib.load(workdir)
  config.data.path = str(
    write_classes(tmp_path / 'x', 12, first=100, patient='q')
  )
  made = experiment.restore(workdir, config=config)
  with pytest.raises(ValueError, match=r'data\.path.*--data=FOLDER_OR_SET'):
    evaluate(made, workdir)


def test_the_folder_of_files_at_hand_is_that_of_the_own_set(tmp_path):
  """Another set that is prepared was made from files of its own."""
  own = {'name': 'a', 'data_dir': str(tmp_path), 'manual_dir': 'hand'}
  assert external._manual_dir('a', own) == 'hand'
  assert external._manual_dir('b', own) == 'hand'  # may be in it
  (tmp_path / 'b/1.0.0').mkdir(parents=True)
  (tmp_path / 'b/1.0.0/dataset_info.json').write_text('{}')
  assert external._manual_dir('b', own) is None


@pytest.mark.parametrize(
  ('field', 'value'), [('group', 'duplicates'), ('uncertain', 'one')]
)
def test_a_folder_is_not_divided_anew_for_an_evaluation(run, field, value):
  """Cases of the training would be among those tested."""
  workdir, _ = run
  before = (workdir / 'metrics.json').read_bytes()
  config = experiment.config_lib.load(workdir)
  config.data[field] = value
  made = experiment.restore(workdir, config=config)
  with pytest.raises(ValueError, match=rf'another config.*data\.{field}'):
    evaluate(made, workdir)
  assert (workdir / 'metrics.json').read_bytes() == before
