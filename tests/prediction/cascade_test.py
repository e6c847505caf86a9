"""A run of coarser voxels tells the next one what it found."""

import json
import types

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

from medjax import experiment
from medjax.config import default_config
from medjax.data import transforms
from medjax.evaluate import evaluate
from medjax.prediction import cascade, trained
from medjax.train import train


class Net(nn.Module):
  """A convolution and a layer of features."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.relu(nn.Conv(4, (3, 3), name='first')(x))
    return nn.Dense(self.num_classes)(x)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  root, rng = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
  for i in range(12):
    mask = np.zeros((16, 16), np.uint8)
    mask[4 + i % 4 : 12, 3:9] = 1
    image = rng.normal(60 + 90 * mask, 15).clip(0, 255).astype(np.uint8)
    for folder, array in (('images', image), ('masks', mask)):
      (root / folder).mkdir(exist_ok=True)
      Image.fromarray(array).save(root / folder / f'{i:02}.png')
  return root


def run(pictures, workdir, *preprocess):
  config = default_config()
  config.data.update(
    name='folder', path=str(pictures), batch_size=8, folds=2, held_out=0.3
  )
  config.folds = 2
  config.data.preprocess = preprocess
  config.model = dict(name=f'{__name__}:Net')
  config.task = dict(name='Segmentation', num_classes=2)
  config.optimizer.learning_rate = 3e-2
  config.train.update(steps=20, log_every=10, eval_every=20)
  made = experiment.make(config)
  train(made, workdir)
  evaluate(made, workdir)
  return made


def test_the_second_run_is_told_by_folds_that_did_not_learn_from_a_case(
  pictures, tmp_path, monkeypatch
):
  low, full = tmp_path / 'low', tmp_path / 'full'
  coarse = dict(name='resample', spacing=(2.0, 2.0))
  made = run(pictures, low, coarse, dict(name='zscore'))
  load = trained.load  # the tests' network is no code of medjax
  of_tests = lambda run: load(run, trust=True)
  monkeypatch.setattr(cascade, '_load', of_tests)
  known = lambda run: experiment.restore(run, trust=True)
  own = types.SimpleNamespace(restore=known)
  monkeypatch.setattr(cascade, 'experiment', own)
  cascade._tested.cache_clear()
  name = 'medjax.prediction.cascade'
  told = run(
    pictures,
    full,
    dict(name=f'{name}:find', run=str(low)),
    dict(name='zscore'),
    dict(name=f'{name}:append'),
  )
  assert json.loads((full / 'metrics.json').read_text())['test']['n'] == 12
  saved = of_tests(full).variables[0]['params']['first']['kernel']
  assert saved.shape[-2] == 2  # grey, and what was found
  for fold, each in made.members:
    alone = of_tests(low / fold)
    for case in each.cases('test'):
      found = told.preprocess(case)['image'][..., 1]
      np.testing.assert_array_equal(found, alone.predict_case(case).labels)


def test_what_was_found_follows_the_voxels(monkeypatch):
  rng = np.random.default_rng(0)
  labels = np.zeros((8, 10, 6), np.uint8)
  labels[2:6, 4:8, 1:5] = 2
  teller = types.SimpleNamespace(
    predict_case=lambda case: types.SimpleNamespace(labels=labels),
    task=types.SimpleNamespace(num_classes=3),
  )
  monkeypatch.setattr(cascade, '_tested', lambda run: {'a': 'fold3'})
  loaded = []
  monkeypatch.setattr(cascade, '_load', lambda r: loaded.append(r) or teller)
  case = {
    'id': 'a',
    'image': rng.normal(size=(8, 10, 6, 1)),
    'mask': labels,
    'affine': np.diag([1.0, 2.0, 1.0, 1.0]),
    'spacing': np.array([1.0, 2.0, 1.0]),
  }
  sample = cascade.find(case, run='low')
  cascade.find({**case, 'id': 'new'}, run='low')
  assert loaded == ['low/fold3', 'low']
  sample = transforms.reorient(sample, codes='LPS')
  sample = transforms.resample(sample, spacing=(1.0, 1.0, 2.0))
  sample = cascade.append(sample)
  image, mask = sample['image'], sample['mask']
  assert image.shape[-1] == 3
  assert 'found' not in sample
  assert not image[..., 1].any()
  np.testing.assert_array_equal(image[..., 2], mask == 2)
