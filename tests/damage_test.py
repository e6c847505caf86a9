"""What a user can break about a run is a line, in time, and costs no result."""

import csv
import json
import shutil
import signal
import types

import attack_test
import numpy as np
import pytest
from PIL import Image

from medjax import announce, begin, experiment, public
from medjax import train as train_lib
from medjax.evaluate import evaluate
from medjax.predict import predict
from medjax.prediction import trained
from medjax.run.stop import Stopped
from medjax.train import train


@pytest.fixture(scope='module')
def target(tmp_path_factory):
  return attack_test.make_target(tmp_path_factory.mktemp('damage'))


@pytest.fixture
def config(target):
  return public.read_config(target.config)


@pytest.fixture
def run(target, tmp_path):
  """A copy of the trained workdir."""
  return shutil.copytree(target.workdir, tmp_path / 'run')


def changed(path, change):
  """Changes a JSON file as somebody with an editor would, seal and all."""
  tree = json.loads(path.read_text())
  tree.pop('sha256', None)
  change(tree)
  path.write_text(json.dumps(tree))


def test_a_damaged_image_costs_no_other_prediction(target, tmp_path, capsys):
  images = shutil.copytree(target.images, tmp_path / 'images')
  first, *_, last = sorted(images.iterdir())
  first.write_bytes(first.read_bytes()[:60])
  Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(last)
  with pytest.raises(ValueError, match=r'^2 of 20 images failed; the first: '):
    predict(target.workdir, [images], tmp_path / 'out')
  with (tmp_path / 'out/predictions.csv').open() as f:
    found = [row['file'] for row in csv.DictReader(f)]
  assert found == [str(p) for p in sorted(images.iterdir())[1:-1]]
  assert capsys.readouterr().out.count('failed: ') == 2


def test_what_is_predicted_is_kept_when_the_disk_is_full(
  target, tmp_path, monkeypatch
):
  real, seen = trained.Trained.predict_cases, []

  def stops(self, *arguments, **options):
    for pair in real(self, *arguments, **options):
      if len(seen) == 3:
        raise OSError('no room')
      seen.append(pair)
      yield pair

  monkeypatch.setattr(trained.Trained, 'predict_cases', stops)
  with pytest.raises(OSError, match='no room'):
    predict(target.workdir, [target.images], tmp_path / 'out')
  assert len(attack_test.table(tmp_path / 'out')) == 3


def test_a_changed_config_is_not_that_of_the_weights(target, run, tmp_path):
  path = run / 'config.json'
  path.write_text(
    path.read_text().replace('"batch_size": 8', '"batch_size": 4')
  )
  with pytest.raises(ValueError, match='is not as it was written'):
    predict(run, [target.images], tmp_path / 'out')
  changed(path, lambda tree: tree['model'].update(name='ResNet18', width=4))
  with pytest.raises(ValueError, match='weights of the checkpoint are not'):
    predict(run, [target.images], tmp_path / 'out')


@pytest.mark.parametrize(
  ('name', 'change', 'line'),
  [
    ('config.json', lambda t: t.update(model=3), 'is damaged'),
    ('config.json', lambda t: t['data'].pop('splits'), None),
    ('config.json', lambda t: t.update(data=[1]), 'is damaged'),
    ('facts.json', lambda t: t.pop('rank'), 'facts.json is damaged'),
    ('facts.json', lambda t: t.update(channels='1'), 'facts.json is damaged'),
    ('facts.json', lambda t: t.update(class_names=[1]), 'is damaged'),
    ('facts.json', lambda t: t.update(more=1), 'facts.json is damaged'),
    ('calibration.json', lambda t: t.update(temperature='x'), 'is damaged'),
    ('calibration.json', lambda t: t.update(temperature=-1), 'is damaged'),
    ('calibration.json', lambda t: t.update(thresholds=5), 'is damaged'),
  ],
)
def test_stored_files_that_are_none(run, name, change, line):
  changed(run / name, change)
  if line is None:  # the default
    trained.load(run)
    return
  with pytest.raises(ValueError, match=line):
    trained.load(run)


def test_a_damaged_table_is_not_reported(run):
  path = run / 'per_case.csv'
  path.write_text(path.read_text().replace('0', '1', 1))
  with pytest.raises(ValueError, match=r'per_case\.csv is damaged'):
    attack_test.write_report(run)


def test_a_damaged_test_file_is_found_before_training(
  target, config, tmp_path, monkeypatch
):
  data = shutil.copytree(target.home / 'data', tmp_path / 'data')
  config.data.path = str(data)
  made = experiment.make(config)
  path = made.cases('test').entries[-1].image
  path.write_bytes(path.read_bytes()[:60])
  monkeypatch.setattr(
    begin.engine, 'create_state', lambda *_, **__: pytest.fail('trains')
  )
  with pytest.raises((ValueError, OSError), match=path.name):
    train(made, tmp_path / 'run')


def test_a_workdir_among_the_data(config, target):
  with pytest.raises(ValueError, match=r'lies inside .*take another'):
    train(experiment.make(config), target.home / 'data' / 'run')


@pytest.mark.parametrize(
  ('model', 'line'),
  [
    (dict(name='UNet', features=(0, 4)), 'may be 0|cannot be made'),
    (dict(name='ResNet18', width=0), 'may be 0|cannot be made'),
  ],
)
def test_a_model_with_nothing_in_it(config, tmp_path, model, line):
  config.model = model
  with pytest.raises(ValueError, match=line):
    train(experiment.make(config), tmp_path / 'run')


@pytest.mark.parametrize(
  ('labels', 'unseen'),
  [
    (['dark', 'bright', 'odd'], []),
    (['dark', 'bright'], ['odd']),
    ([(1, 0, 1), (1, 0, 0)], ['bright']),
    ([None, None], []),
    ([], []),
  ],
)
def test_a_class_that_no_case_of_train_has(labels, unseen):
  cases = types.SimpleNamespace(
    entries=[types.SimpleNamespace(label=label) for label in labels]
  )
  names = ('dark', 'bright', 'odd')
  assert announce._never_seen(cases, names) == unseen


def test_ctrl_c_in_the_last_validation_is_heard(
  config, target, tmp_path, monkeypatch
):
  real, validated = train_lib._validate, []

  def interrupted(*arguments):
    real(*arguments)
    validated.append(1)
    if len(validated) == 3:
      signal.raise_signal(signal.SIGINT)

  monkeypatch.setattr(train_lib, '_validate', interrupted)
  made = experiment.make(config)
  with pytest.raises(Stopped) as stopped:
    train(made, tmp_path / 'run')
  assert stopped.value.code == 130
  train(made, tmp_path / 'run')  # finds all steps done
  evaluate(made, tmp_path / 'run')
  assert attack_test.results(tmp_path / 'run') == target.metrics
