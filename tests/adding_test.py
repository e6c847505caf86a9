"""The recipes of docs/adding.md and experiments.md, as they are written."""

import importlib
import json
import pathlib
import re
import sys
import types

import numpy as np
import pytest
from PIL import Image

from medjax import experiment, prepare
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.train import train

ROOT = pathlib.Path(__file__).resolve().parents[1]


def recipe(page, heading):
  """The code blocks below a heading of a page."""
  text = (ROOT / 'docs' / page).read_text()
  part = re.split(r'^## ', text, flags=re.M)
  (below,) = (p for p in part if p.startswith(heading))
  return '\n\n'.join(re.findall(r'```python\n(.*?)```', below, re.S))


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """Makes a module `mine` of recipes, gone after the test."""
  monkeypatch.syspath_prepend(tmp_path)

  def make(*recipes):
    (tmp_path / 'mine.py').write_text('\n\n'.join(recipes))
    importlib.invalidate_caches()

  yield make
  sys.modules.pop('mine', None)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  """Discs of two brightnesses with their masks, and a class for each."""
  root = tmp_path_factory.mktemp('pictures')
  rng = np.random.default_rng(0)
  rows = ['path,mask,label']
  for i in range(24):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2 : 5 + i % 3] = 1
    image = rng.normal(80 + 40 * (i % 2) + 60 * mask, 20).clip(0, 255)
    Image.fromarray(image.astype(np.uint8)).save(root / f'{i}.png')
    Image.fromarray(mask).save(root / f'{i}_m.png')
    rows.append(f'{i}.png,{i}_m.png,{"ab"[i % 2]}')
  (root / 'table.csv').write_text('\n'.join(rows))
  return root


def config_of(pictures, **task):
  config = default_config()
  config.data.update(name='folder', path=str(pictures), table='table.csv')
  config.data.update(batch_size=8, fractions=(0.4, 0.3, 0.3))
  config.data.preprocess = (dict(name='zscore'),)
  config.model = dict(name='mine:Foo')
  config.task = dict(name='Classification', risk=0, **task)
  config.train.update(steps=2, log_every=1, eval_every=2)
  return config


def run(config, workdir):
  made = experiment.make(config)
  train(made, workdir)
  evaluate(made, workdir)
  return json.loads((workdir / 'metrics.json').read_text())


# Of the metric, on resamples of one class.
@pytest.mark.filterwarnings('ignore:A single label', 'ignore:.*is undefined')
def test_a_model_a_loss_a_metric_and_a_writer(
  mine, pictures, tmp_path, monkeypatch
):
  logged = []
  mlflow = types.SimpleNamespace(
    start_run=lambda run_name: logged.append(run_name),
    log_dict=lambda config, name: logged.append(name),
    log_metrics=lambda values, step: logged.append((step, *values)),
    end_run=lambda: logged.append('end'),
  )
  monkeypatch.setitem(sys.modules, 'mlflow', mlflow)
  mine(
    recipe('adding.md', 'A model'),
    recipe('adding.md', 'A loss'),
    recipe('adding.md', 'A metric'),
    recipe('experiments.md', 'Tracking'),
  )
  config = config_of(
    pictures,
    loss=('cross_entropy', {'name': 'mine:brier', 'weight': 0.5}),
    more_measures=('mine:kappa',),
    monitor='kappa',
  )
  config.train.writer = 'mine:Writer'
  found = run(config, tmp_path / 'run')
  kappa, (low, high) = (
    found['test'][part]['kappa'] for part in ('scores', 'intervals')
  )
  # Of so few cases it may be the same in every resample.
  assert (low, high) == (None, None) or low <= kappa <= high
  assert found['measures']['kappa']['title'] == "Cohen's kappa"
  assert found['run']['monitor'] == 'kappa'
  assert logged[:2] == ['run', 'config.json']
  assert logged[-1] == 'end'
  assert any('train/loss' in entry for entry in logged)


def test_a_metric_of_masks(mine, pictures, tmp_path):
  dense = 'x = nn.Dense(self.num_classes)(x)\n    return x'
  model = recipe('adding.md', 'A model')
  pooled = re.search(r'return nn\.Dense.*', model)[0]
  mine(model.replace(pooled, dense), recipe('adding.md', 'A metric'))
  config = config_of(pictures)
  config.task = dict(
    name='Segmentation', num_classes=2, more_measures=('mine:lesion_size',)
  )
  found = run(config, tmp_path / 'run')
  assert found['measures']['lesion_size']['unit'] == 'mm³'
  assert found['test']['scores']['lesion_size'] is not None


def test_a_data_set_is_prepared_anew_when_its_file_is_edited(tmp_path, capsys):
  builder, home = tmp_path / 'blobs.py', tmp_path / 'data'
  text = recipe('adding.md', 'A data set')
  builder.write_text(text)
  config = default_config()
  config.data.update(name=str(builder), data_dir=str(home))
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification')
  made = experiment.make(config)
  assert [len(made.cases(s)) for s in experiment.SPLITS] == [16, 8, 8]
  assert made.task.class_names == ('dark', 'bright')
  capsys.readouterr()
  prepare.prepare(str(builder), home)
  assert capsys.readouterr().out == ''
  builder.write_text(text.replace('range(24, 32)', 'range(24, 30)'))
  prepare.prepare(str(builder), home)
  assert 'was edited' in capsys.readouterr().out
  made = experiment.make(config)
  assert [len(made.cases(s)) for s in experiment.SPLITS] == [16, 8, 6]
