"""The validation loss is that of evaluation, on fixed examples."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest
from PIL import Image

from medjax import engine, experiment
from medjax import train as train_lib
from medjax.config import default_config
from medjax.prediction.samples import samples
from medjax.run.validation_loss import (
  ValidationLoss,
  _Evaluated,
  _of_one_head,
)
from medjax.tasks import Segmentation

CASES = 11  # of validation: a last batch that is not full


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """Noise of two widths; 11 cases validate."""
  root, rng = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
  split = ['train'] * 8 + ['validation'] * CASES + ['test'] * 4
  rows = ['path,label,split']
  for i, part in enumerate(split):
    noise = np.clip(rng.normal(90, 30 + 8 * (i % 2), (8, 8)), 0, 255)
    Image.fromarray(noise.astype(np.uint8)).save(root / f'{i:02}.png')
    rows.append(f'{i:02}.png,{"ab"[i % 2]},{part}')
  (root / 'cases.csv').write_text('\n'.join(rows))
  config = default_config()
  config.data.update(name='folder', path=str(root), batch_size=8)
  config.data.preprocess = (dict(name='zscore'),)
  config.augment = (dict(name='gaussian_noise', p=1.0),)
  config.model = dict(name='small_net:Net', dropout=0.5)
  config.task = dict(name='Classification')
  # Evaluations so far apart are worth the two batches of 11 cases.
  config.train.update(steps=4, eval_every=20, log_every=2, ema_decay=0.9)
  return experiment.make(config)


def state_on(made, mesh):
  tx, _ = made.optimizer([])
  inputs = [jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)]
  key = jax.random.key(0)
  return engine.create_state(made.model, tx, inputs, key, mesh, ema=True)


@pytest.mark.parametrize('devices', [1, 8])
def test_is_the_mean_over_all_cases_in_evaluation(made, devices):
  mesh = engine.make_mesh(jax.devices()[:devices])
  state, cases = state_on(made, mesh), samples(made, 'validation')
  loss = ValidationLoss(made, mesh)
  images = np.stack([cases[i]['image'] for i in range(CASES)])
  labels = np.stack([cases[i]['label'] for i in range(CASES)])
  variables = jax.device_get(state.eval_variables)
  batch = {'image': images, 'label': labels}
  each = made.task.loss(_Evaluated(made.model, variables), batch)
  assert len(each) == CASES
  for _ in range(2):  # the same each time
    assert loss(state, cases) == pytest.approx(float(each.mean()), rel=1e-6)


def test_stands_beside_the_training_loss(made, tmp_path):
  train_lib.train(made, tmp_path)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  logged = [json.loads(line) for line in lines]
  assert [e['step'] for e in logged if 'validation/loss' in e] == [4]
  assert all(e.get('validation/loss', 1) > 0 for e in logged)


def test_a_task_of_views_has_none(made):
  other = dataclasses.replace(made, task=types.SimpleNamespace(views=True))
  mesh = engine.make_mesh(jax.devices()[:1])
  assert ValidationLoss(other, mesh)(None, [1]) is None


def test_a_loss_that_wants_what_training_has_is_left_out(made, capsys):
  class Odd:
    def __getattr__(self, name):
      return getattr(made.task, name)

    def loss(self, forward, batch):
      return forward(batch['image']).sum(-1) + batch['mixed']

  mesh = engine.make_mesh(jax.devices()[:1])
  other = dataclasses.replace(made, task=Odd())
  state, cases = state_on(made, mesh), samples(made, 'validation')
  loss = ValidationLoss(other, mesh)
  assert loss(state, cases) is None
  assert loss(state, cases) is None
  said = capsys.readouterr().out
  assert said.count('no validation loss') == 1
  assert 'mixed' in said


def test_of_deep_supervision_it_is_the_finest_output():
  images = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
  batch = {'image': images.astype(np.float32), 'mask': images[..., 0] > 0}
  forward = lambda x: jax.numpy.concatenate([x, -x], -1)
  plain = Segmentation(num_classes=2).loss(forward, batch)
  deep = Segmentation(num_classes=2, level_weights=(2.0, 1.0))
  np.testing.assert_array_equal(_of_one_head(deep).loss(forward, batch), plain)
  with pytest.raises(ValueError, match='1 outputs'):  # training stays strict
    deep.loss(forward, batch)


def test_a_device_that_fails_is_no_task_without_a_loss(made):
  mesh = engine.make_mesh(jax.devices()[:1])
  state, cases = state_on(made, mesh), samples(made, 'validation')
  loss = ValidationLoss(made, mesh)

  def full(*_):
    raise RuntimeError('RESOURCE_EXHAUSTED')

  loss._program = full
  with pytest.raises(RuntimeError, match='EXHAUSTED'):
    loss(state, cases)
