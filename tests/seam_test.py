"""The seam holds: four kinds of task that the library does not have.

None of them touches engine, train or pipeline. Each trains alike on one device
and on eight, goes on bit by bit after a kill, is evaluated, predicts and
reports.
"""

import dataclasses
import json
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

import medjax
from medjax import engine, experiment
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.predict import predict
from medjax.report import write_report
from medjax.run.writer import Writer
from medjax.tasks import Classification
from medjax.tasks.task import Calibration, Measure
from medjax.train import train

SHAPE = (8, 8, 1)


class Encoder(nn.Module):
  """Statistics of a batch, dropout, and a vector of numbers."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.Conv(4, (3, 3), use_bias=False)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
    return nn.Dense(self.num_classes)(x.mean((1, 2)))


class TwoInputs(nn.Module):
  """An image and covariates, of which some are missing."""

  num_classes: int

  @nn.compact
  def __call__(self, image, covariates, *, train=False):
    missing = jnp.isnan(covariates)
    known = jnp.where(missing, 0, covariates)
    both = jnp.concatenate([known, missing.astype(known.dtype)], -1)
    table = nn.relu(nn.Dense(4)(both))
    seen = Encoder(4)(image, train=train)
    return nn.Dense(self.num_classes)(jnp.concatenate([seen, table], -1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vector:
  """What tasks of one vector of a case have in common."""

  inputs: ClassVar = ('image',)
  unlabelled: ClassVar = True
  over_batch: ClassVar = True
  exclusive: ClassVar = True

  def predict(self, outputs):
    return outputs

  def decode(self, rows):
    return rows

  def check(self, case):
    pass

  def calibrate(self, rows):
    return Calibration()

  def calibrated(self, prediction, calibration):
    return prediction

  def columns(self, prediction):
    return dict(zip(self.names, map(float, prediction), strict=True))

  def shown(self, case, prediction, row):
    return float(prediction[0]), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cox(Vector):
  """The hazard of a case, by the partial likelihood of its batch."""

  fields: ClassVar = ('time', 'event')
  unlabelled: ClassVar = False  # every case has a time
  measures: ClassVar = {'concordance': Measure(None, 'Concordance')}
  names: ClassVar = ('log hazard',)
  num_outputs: ClassVar = 1
  monitor: str = 'concordance'

  def loss(self, forward, batch):
    risk = forward(batch['image'])[:, 0]
    later = batch['time'][None] >= batch['time'][:, None]
    at_risk = jax.nn.logsumexp(jnp.where(later, risk[None], -jnp.inf), 1)
    return batch['event'] * (at_risk - risk)

  def metrics(self, prediction, case):
    return {
      'risk': prediction[0],
      'time': case['time'],
      'event': case['event'],
    }

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    risk, time, event = (
      np.array([row[k] for row in rows]) for k in ('risk', 'time', 'event')
    )
    comparable = (time[:, None] < time) & event[:, None].astype(bool)
    right = (risk[:, None] > risk)[comparable]
    return {
      'n': len(rows),
      'patients': len(rows),
      'scores': {'concordance': float(right.mean()) if right.size else None},
      'intervals': {},
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrastive(Vector):
  """Views of one image are alike, others are not (SimCLR)."""

  fields: ClassVar = ()
  measures: ClassVar = {'spread': Measure(None, 'Spread')}
  names: ClassVar = ('a', 'b', 'c')
  num_outputs: ClassVar = 3
  monitor: str = 'spread'

  def loss(self, forward, batch):
    a, b = (nn.standardize(forward(batch['image'][:, view])) for view in (0, 1))
    return -jnp.diag(jax.nn.log_softmax(a @ b.T))

  def metrics(self, prediction, case):
    return {'embedding': prediction}

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    spread = np.stack([row['embedding'] for row in rows]).std(0).mean()
    scores = {'spread': float(spread)}
    n = len(rows)
    return {'n': n, 'patients': n, 'scores': scores, 'intervals': {}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanTeacher(Classification):
  """The averaged model teaches what has no label (Tarvainen 2017)."""

  unlabelled: ClassVar = True

  def check(self, case):
    if 'label' in case:
      super().check(case)

  def loss(self, forward, batch):
    logits = forward(batch['image'])
    taught = jax.nn.softmax(forward.ema(batch['image']))
    consistency = ((jax.nn.softmax(logits) - taught) ** 2).sum(-1)
    own = super().loss(lambda image: logits, batch)
    return jnp.where(batch['valid']['label'], own, 0.0) + consistency


KINDS = {
  'Cox': dict(task={}, model='Encoder'),
  'Contrastive': dict(
    task={},
    model='Encoder',
    augment=(
      dict(
        name='views', augment=(dict(name='flip'), dict(name='gaussian_noise'))
      ),
    ),
  ),
  'MeanTeacher': dict(task=dict(num_classes=2), model='Encoder'),
  'Classification': dict(
    task=dict(num_classes=2, inputs=('image', 'covariates')),
    model='TwoInputs',
  ),
}


class Cases(list):
  """Raw cases as a data set gives them."""

  class_names = ()
  covariate_names = ('age', 'sex', 'stage', 'marker', 'dose')


def make_cases(kind, n=16, seed=0):
  rng, cases = np.random.default_rng(seed), Cases()
  for i in range(n):
    image = rng.integers(0, 200, SHAPE).astype(np.uint8)
    image[2:5, 2:5] += np.uint8(50 * (i % 2))
    covariates = rng.normal(size=5).astype(np.float32)
    covariates[rng.random(5) < 0.3] = np.nan
    case = {
      'image': image,
      'id': f'{seed}-{i}',
      'patient': f'{seed}-{i}',
      'affine': np.eye(3),
      'spacing': np.ones(2),
      'label': np.int32(i % 2),
      'covariates': covariates,
      'time': np.float32(rng.exponential() + 1 - i % 2),
      'event': np.float32(rng.random() < 0.7),
    }
    if kind == 'MeanTeacher' and i % 4 >= 2:
      del case['label']
    if kind == 'Contrastive':
      for field in ('label', 'time', 'event'):
        del case[field]
    cases.append(case)
  return cases


def make_config(kind):
  about, config = KINDS[kind], default_config()
  home = '' if kind == 'Classification' else f'{__name__}:'
  config.data.update(name='synthetic', batch_size=8)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.augment = about.get('augment', (dict(name='flip'),))
  config.model = dict(name=f'{__name__}:{about["model"]}')
  config.task = dict(name=home + kind, **about['task'])
  config.optimizer.learning_rate = 1e-2
  config.train.update(steps=6, log_every=2, eval_every=3, ema_decay=0.5)
  config.inference.batch_size = 8
  return config


@pytest.fixture(params=[*KINDS])
def kind(request, monkeypatch):
  seeds = {'train': 0, 'validation': 1, 'test': 2}
  monkeypatch.setattr(
    experiment,
    'open_cases',
    lambda config, split: make_cases(request.param, seed=seeds[split]),
  )
  return request.param


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line).get('train/loss') for line in lines]


def devices(monkeypatch, count):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: mesh)


def read_state(workdir):
  with ocp.PyTreeCheckpointer() as checkpointer:
    return checkpointer.restore(workdir / 'checkpoints/6/state')


def test_a_task_of_another_kind(kind, tmp_path, monkeypatch):
  devices(monkeypatch, 8)
  made = experiment.make(make_config(kind))
  train(made, tmp_path / 'eight')
  devices(monkeypatch, 1)
  train(made, tmp_path / 'one')
  one, eight = (
    [x for x in losses(tmp_path / k) if x is not None] for k in ('one', 'eight')
  )
  assert len(one) == 3
  np.testing.assert_allclose(one, eight, atol=1e-5)

  # Killed while it logged, it goes on where it was.
  scalars = Writer.scalars

  def fail(self, step, values):
    scalars(self, step, values)
    if step == 4:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Writer, 'scalars', fail)
    with pytest.raises(KeyboardInterrupt):
      train(made, tmp_path / 'killed')
  train(made, tmp_path / 'killed')
  states = read_state(tmp_path / 'one'), read_state(tmp_path / 'killed')
  jax.tree.map(np.testing.assert_array_equal, *states)

  results = evaluate(made, tmp_path / 'one')
  assert results['test']['n'] == (8 if kind == 'MeanTeacher' else 16)
  assert results['test']['scores'][made.task.monitor] is not None
  assert write_report(tmp_path / 'one').stat().st_size > 1000

  # As a user has it: from the workdir, on arrays and on files.
  with pytest.raises(ValueError, match='names code outside of medjax'):
    medjax.load(tmp_path / 'one')
  run = medjax.load(tmp_path / 'one', trust=True)
  (case, *_) = make_cases(kind, seed=2)
  covariates = {k: case[k] for k in made.task.inputs[1:]}
  found = run.predict(case['image'], **covariates)
  assert len(found.values) == made.task.num_outputs
  table = (tmp_path / 'one/per_case.csv').read_text().splitlines()
  assert any(f'{case["id"]},' in line for line in table)
  if covariates:
    with pytest.raises(ValueError, match='has no covariates, which the model'):
      run.predict(case['image'])
    return
  Image.fromarray(case['image'][..., 0]).save(tmp_path / 'case.png')
  files = [tmp_path / 'case.png']
  predict(tmp_path / 'one', files, tmp_path / 'out', trust=True)
  _, line = (tmp_path / 'out/predictions.csv').read_text().splitlines()
  values = [float(x) for x in line.split(',')[1:]]
  np.testing.assert_allclose(values, [*found.values.values()], atol=1e-5)


def test_a_loss_over_the_batch_is_not_split(monkeypatch, tmp_path):
  monkeypatch.setattr(
    experiment, 'open_cases', lambda config, split: make_cases('Cox')
  )
  devices(monkeypatch, 1)
  config = make_config('Cox')
  config.train.microbatches = 2
  with pytest.raises(ValueError, match='one over the whole batch, which'):
    train(experiment.make(config), tmp_path)


def test_a_teacher_needs_the_average(monkeypatch, tmp_path):
  # What is learnt from without a reference may not be what is judged by.
  monkeypatch.setattr(
    experiment,
    'open_cases',
    lambda config, split: make_cases('MeanTeacher', seed=len(split)),
  )
  devices(monkeypatch, 1)
  config = make_config('MeanTeacher')
  config.train.ema_decay = 0.0
  with pytest.raises(ValueError, match=r'set train\.ema_decay above 0'):
    train(experiment.make(config), tmp_path)
