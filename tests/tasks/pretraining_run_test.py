"""A whole training without labels: what it says, keeps, and gives."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import medjax
from medjax import engine, experiment
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.report import write_report
from medjax.run.writer import Writer
from medjax.train import train


class Cases(list):
  class_names = ('dark', 'bright')


def make_cases(seed, *, labelled, n=24):
  rng, cases = np.random.default_rng(seed), Cases()
  for i in range(n):
    image = rng.integers(0, 60, (8, 8, 1)).astype(np.uint8)
    image[2:6, 2:6] += np.uint8(120 * (i % 2))
    case = {'image': image, 'id': f'{seed}-{i}', 'patient': f'{seed}-{i}',
            'affine': np.eye(3), 'spacing': np.ones(2)}  # fmt: skip
    cases.append(case | ({'label': np.int32(i % 2)} if labelled else {}))
  return cases


@pytest.fixture
def made(monkeypatch, request):
  seeds = {'train': 0, 'validation': 1, 'test': 2}
  monkeypatch.setattr(
    experiment,
    'open_cases',
    lambda config, split: make_cases(seeds[split], labelled=request.param),
  )
  one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: one)
  config = default_config()
  config.data.update(name='synthetic', batch_size=8)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.augment = (dict(name='views', augment=(dict(name='gaussian_noise'),)),)
  backbone = dict(name='ResNet', stage_sizes=(1,), width=4, stem='small')
  config.model = dict(name='Projected', backbone=backbone, hidden=8)
  config.task = dict(name='MoCo', dim=4, queue=20)
  config.train.update(steps=4, log_every=1, eval_every=2, ema_decay=0.9)
  return experiment.make(config)


def state_of(workdir):
  with ocp.PyTreeCheckpointer() as checkpointer:
    return checkpointer.restore(workdir / 'checkpoints/4/state')


@pytest.mark.parametrize('made', [True], indirect=True)
def test_a_run_says_what_its_embeddings_know(
  made, tmp_path, capsys, monkeypatch
):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  train(made, whole)
  (line,) = [
    x for x in capsys.readouterr().out.splitlines() if x.startswith('step 4')
  ][-1:]
  for name in ('probe_auroc', 'knn_auroc', 'spread'):
    assert f' · val {name} ' in line
  assert 'newest' not in line
  # The queue goes on where it was.
  scalars = Writer.scalars

  def fail(self, step, values):
    scalars(self, step, values)
    if step == 3:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Writer, 'scalars', fail)
    with pytest.raises(KeyboardInterrupt):
      train(made, killed)
  train(made, killed)
  states = state_of(whole), state_of(killed)
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert int(states[0]['variables']['moco']['filled']) == 20

  results = evaluate(made, whole)
  assert results['run']['best_step'] == 4  # the newest
  found = results['test']
  # Light and dark are told apart by any network.
  assert found['scores']['probe_auroc'] > 0.95
  low, _ = found['intervals']['knn_auroc']
  assert low is None or low <= found['scores']['knn_auroc']
  assert 'newest' not in found['scores']
  stored = json.loads((whole / 'metrics.json').read_text())
  assert stored['measures']['probe_auroc']['title'] == 'Linear probe: AUROC'
  assert write_report(whole).stat().st_size > 1000
  run = medjax.load(whole)
  image = make_cases(2, labelled=False)[0]['image']
  values = run.predict(image).values
  assert [*values] == [f'embedding_{i}' for i in range(4)]
  pooled = run.features(image)['pooled']
  np.testing.assert_allclose([*values.values()], pooled, atol=1e-5)


@pytest.mark.parametrize('made', [False], indirect=True)
def test_without_labels_it_is_said(made, tmp_path, capsys):
  train(made, tmp_path)
  out = capsys.readouterr().out
  assert 'val without probe_auroc · val without knn_auroc · val spread' in out
  scores = evaluate(made, tmp_path)['test']['scores']
  assert scores['probe_auroc'] is None
  assert scores['spread'] > 0


@pytest.mark.parametrize('made', [True], indirect=True)
def test_a_collapse_stops_the_run(made, tmp_path, monkeypatch):
  task = type(made.task)(dim=4, queue=20, least_spread=10.0)
  object.__setattr__(made, 'task', task)
  with pytest.raises(ValueError, match='the training has collapsed'):
    train(made, tmp_path)
  assert not [*(tmp_path / 'checkpoints').glob('[0-9]*')]  # nothing of it
