"""The attack on membership finds what is memorised, and no more."""

import json
import sys
from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.stats

pytest.importorskip('dp_accounting')

from medjax import engine, experiment
from medjax.config import default_config
from medjax.dp import accounting
from medjax.dp.gradient import PrivateGradient
from medjax.privacy import __main__ as command
from medjax.privacy import membership, shadows
from medjax.train import train

HERE = __name__


def played(gain, *, runs=32, cases=400, spread=1.0, seed=0):
  """(confidences, inside): each case has a level, and gains by being there."""
  rng = np.random.default_rng(seed)
  inside = shadows.halves(cases, runs, seed)
  level = rng.normal(0, 4, cases)
  return level + gain * inside + rng.normal(0, spread, inside.shape), inside


def test_the_ratio_finds_what_two_normals_allow():
  found, inside = played(2.0)
  ratio = membership.caught(membership.likelihood_ratio(found, inside), inside)
  best = scipy.stats.norm.cdf(2 / np.sqrt(2))
  assert best - 0.03 < ratio['auroc'] < best + 0.01
  assert ratio['caught_at_0.01'] == pytest.approx(
    scipy.stats.norm.sf(scipy.stats.norm.isf(0.01) - 2), abs=0.08
  )
  # One threshold for all sees the levels before it sees who was there.
  plain = membership.caught(found, inside)
  assert plain['auroc'] < 0.7 < ratio['auroc'] - 0.15


def test_nothing_is_found_where_nothing_is():
  """Not even with few runs, of which the attacked one is no shadow."""
  for runs in (8, 32):
    found, inside = played(0.0, runs=runs, cases=2000)
    ratio = membership.likelihood_ratio(found, inside)
    scores = membership.judged(ratio, inside)
    low, high = scores['auroc']['interval']
    assert low < 0.5 < high
    assert high - low < 0.08
    assert scores['caught_at_0.01']['value'] < 0.02


def test_the_interval_is_that_of_new_runs_and_cases():
  drawn = []
  for seed in range(40):
    found, inside = played(1.0, runs=16, cases=60, seed=seed)
    scores = membership.likelihood_ratio(found, inside)
    drawn.append(membership.caught(scores, inside)['auroc'])
  found, inside = played(1.0, runs=16, cases=60)
  scores = membership.likelihood_ratio(found, inside)
  low, high = membership.judged(scores, inside)['auroc']['interval']
  assert 0.5 < (high - low) / (4 * np.std(drawn)) < 2.5


def test_rates_are_counted():
  inside = np.array([[True, True, False, False]])
  scores = np.array([[3.0, 1.0, 2.0, 0.0]])
  found = membership.caught(scores, inside)
  assert found == {
    'auroc': 0.75, 'caught_at_0.01': 0.5, 'caught_at_0.001': 0.5
  }  # fmt: skip


def test_confidence_is_the_logit_of_the_probability():
  p = np.array([0.9, 0.5, 1e-6])
  np.testing.assert_allclose(
    membership.confidence(-np.log(p)), np.log(p / (1 - p)), rtol=1e-9
  )
  ends = membership.confidence(np.array([0.0, 1e-12, 1e4, np.inf]))
  assert np.isfinite(ends).all()


def test_what_epsilon_allows():
  """At most what the best test of the Gaussian mechanism finds is allowed."""
  noise, delta = 1.3, 1e-4
  epsilon = accounting.epsilon(noise, 1.0, 1, delta)
  for rate in (1e-3, 1e-2, 0.2, 0.9):
    best = scipy.stats.norm.sf(scipy.stats.norm.isf(rate) - 1 / noise)
    assert best <= membership.allowed(epsilon, delta, rate) <= 1
  assert membership.allowed(0.0, 0.0, 0.01) == pytest.approx(0.01)
  assert membership.allowed(8.0, 1e-5, 0.01) > 0.99


def test_memorised_is_what_a_case_gains_by_being_there():
  inside = shadows.halves(3, 8, 0)
  losses = -np.log(np.where(inside, [0.9, 0.5, 0.2], [0.1, 0.5, 0.1]))
  np.testing.assert_allclose(
    membership.memorised(losses, inside), [0.8, 0.0, 0.1], atol=1e-9
  )


def test_each_case_is_of_half_the_runs():
  inside = shadows.halves(500, 16, 3)
  assert (inside.sum(0) == 8).all()
  assert (inside.sum(1) == 250).all()
  assert (inside[::2] == ~inside[1::2]).all()
  assert np.abs(np.corrcoef(inside[::2]) - np.eye(8)).max() < 0.25


def test_cases_are_drawn_from_those_of_the_run():
  n, lanes = 60, 4
  inside = np.arange(n) % 3 > 0
  gradient = PrivateGradient(1.0, 1.0, expected=9, lanes=lanes)
  way = shadows.Way(9, 5, gradient, room=32)
  draw = jax.jit(lambda key: shadows._private(key, inside, way))
  sizes, often = [], np.zeros(n)
  for k in range(400):
    order, padding = map(np.asarray, draw(jax.random.key(k)))
    chosen = order[~padding]
    assert inside[chosen].all()
    assert len({*chosen}) == len(chosen)
    often[chosen] += 1
    sizes.append(len(chosen))
    # The first places of each lane are filled first.
    columns = (~padding).reshape(lanes, -1)
    assert (np.diff(columns.astype(int), axis=1) <= 0).all()
    assert np.ptp(columns.sum(1)) <= 1
  rate = 9 / 30
  assert np.mean(sizes) == pytest.approx(40 * rate, rel=0.05)
  assert np.var(sizes) == pytest.approx(40 * rate * (1 - rate), rel=0.25)
  assert not often[~inside].any()
  plain, padding = shadows._plain(jax.random.key(0), inside, way)
  assert (inside[plain].all(), len({*plain.tolist()})) == (True, 9)
  assert not padding.any()


class Net(nn.Module):
  """Learns by heart."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.Dense(self.num_classes)(x.reshape(len(x), -1))


class Cases(list):
  class_names = ('a', 'b')


def make_cases(split):
  """Noise, in which there is nothing to be learnt but by heart."""
  rng, cases = np.random.default_rng(len(split)), Cases()
  for i in range(48):
    cases.append({
      'image': rng.integers(0, 255, (8, 8, 1)).astype(np.uint8),
      'id': f'{split}-{i}', 'patient': f'{split}-{i // 2 if i < 8 else i}',
      'affine': np.eye(3), 'spacing': np.ones(2), 'label': np.int32(i % 2),
    })  # fmt: skip
  return cases


def make_config(**privacy):
  config = default_config()
  config.data.update(name='synthetic', batch_size=16)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.model = dict(name=f'{HERE}:Net')
  config.task = dict(name='Classification')
  config.optimizer = dict(name='sgd', learning_rate=0.2)
  config.schedule.name = 'constant'
  config.train.update(steps=30, log_every=30, eval_every=30, ema_decay=0.0)
  config.privacy.update(delta=1e-3, clip_norm=1.0, microbatch=4, **privacy)
  return config


@pytest.fixture
def world(monkeypatch):
  monkeypatch.setattr(
    experiment, 'open_cases', lambda config, split: make_cases(split)
  )
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: mesh)
  noises = {1.0: 6.0, 30.0: 0.8}
  monkeypatch.setattr(
    accounting, 'noise_for', lambda target, *rest: noises[target]
  )


def run(monkeypatch, *argv):
  monkeypatch.setattr(sys, 'argv', ['privacy', *map(str, argv)])
  command.main()


def test_what_is_learnt_by_heart_is_given_away_and_privacy_hides_it(
  tmp_path, monkeypatch, world, capsys
):
  train(experiment.make(make_config(epsilon=30.0)), tmp_path)
  run(monkeypatch, 'attack', tmp_path, '--shadows=16', '--epsilon=1', '--trust')
  said = capsys.readouterr().out
  assert 'without privacy  likelihood ratio' in said
  found = json.loads((tmp_path / 'attack.json').read_text())
  # One case of each patient.
  assert (found['runs'], found['cases']) == (16, 44)
  arms = {arm['epsilon']: arm for arm in found['arms']}
  assert [*arms] == [None, 30.0, 1.0]
  area = {
    epsilon: arm['attacks']['likelihood_ratio']['auroc']['value']
    for epsilon, arm in arms.items()
  }
  assert area[None] > 0.9
  assert area[1.0] < 0.6
  assert area[1.0] < area[30.0] < area[None]
  # Half of the patients, and of the batch.
  assert [arm['batch'] for arm in arms.values()] == [8, 8, 8]
  assert arms[1.0]['noise'] == 6.0
  assert arms[1.0]['allowed']['caught_at_0.01'] < 0.03
  right = arms[None]['right']
  assert right['trained_on'] > 0.95 > 0.7 > right['others']
  assert arms[None]['memorised']['cases'] > 30 > arms[1.0]['memorised']['cases']
  lines = (tmp_path / 'attack.csv').read_text().splitlines()
  assert len(lines) == 45
  assert lines[1].startswith('train-0,')
  page = (tmp_path / 'report.html').read_text()
  assert 'Whom the model gives away' in page
  assert 'ε = 30' in page


@pytest.mark.parametrize(
  ('change', 'options', 'message'),
  [
    ({}, dict(runs=7), r'--shadows=7: give 8 or more, an even number'),
    ({}, dict(cases=6), '6 patients say nothing of false alarms'),
    ({'data.batch_size': 1}, {}, 'a batch of 1 of 44 patients is none of 22'),
    ({'members': 2}, {}, 'holds several runs: attack one'),
    ({'data.patch_size': (4, 4)}, {}, 'an attack needs whole cases'),
    ({'inference.ood': ('energy',)}, {'epsilons': (8,)}, r'inference\.ood'),
  ],
)  # fmt: skip
def test_what_cannot_be_attacked(change, options, message, tmp_path, world):
  config = make_config()
  with config.unlocked():
    config.update_from_flattened_dict(change)
  experiment.make(config).store(tmp_path)
  with pytest.raises(ValueError, match=message):
    membership.attack(tmp_path, trust=True, **options)


def test_a_loss_over_the_batch(world):
  made = experiment.make(make_config())
  task = SimpleNamespace(over_batch=True)
  with pytest.raises(ValueError, match='one over the whole batch: no case'):
    shadows.data_of(SimpleNamespace(task=task, data=made.data), 0, 0)
