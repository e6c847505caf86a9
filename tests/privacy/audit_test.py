"""The attack on the mechanism: it finds nothing where nothing is wrong."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

pytest.importorskip('dp_accounting')

from medjax.dp import budget
from medjax.dp.gradient import PrivateGradient
from medjax.privacy import __main__ as command
from medjax.privacy import audit


def made_budget(**settings):
  about = dict(epsilon=2.0, delta=1e-3, clip_norm=0.7, noise=None) | settings
  return budget.calibrated(
    SimpleNamespace(**about), patients=200, batch=50, steps=12
  )


MADE = made_budget()


def gradient(made, **change):
  about = dict(
    clip_norm=made.clip_norm, noise=made.noise, expected=made.batch, lanes=8
  )
  return PrivateGradient(**about | change)


def test_the_bound_is_that_of_two_rates():
  rng = np.random.default_rng(0)
  inside = rng.random(4000) < 0.5
  scores = rng.normal(size=4000) + 2.0 * inside
  found = audit.lower_bound(scores, inside, 1e-5)
  # Of two normals the bound of any threshold is known; no more is shown.
  rates = [scipy.stats.norm.sf([t - 2, t]) for t in np.linspace(-2, 5, 200)]
  most = max(np.log(a / b) for a, b in rates if b > 1e-3)
  assert 2.0 < found < most
  assert audit.lower_bound(rng.normal(size=4000), inside, 1e-5) < 0.3


@pytest.mark.slow
def test_epsilon_holds_in_twenty_of_twenty_games():
  lower = [
    audit.play(MADE, canaries=1000, seed=s, gradient=gradient(MADE)).lower
    for s in range(20)
  ]
  assert max(lower) <= MADE.epsilon
  assert np.mean(lower) > 0.2  # a thousand canaries show that much


def test_what_is_said_of_a_right_mechanism():
  found = audit.play(MADE, canaries=1200, gradient=gradient(MADE))
  assert found.holds
  assert 0.2 < found.lower <= MADE.epsilon
  assert found.recomputed <= MADE.epsilon
  assert found.measured == pytest.approx(MADE.noise, rel=0.05)


def test_noise_that_epsilon_does_not_show_yet_is_measured():
  found = audit.play(
    MADE, canaries=1200, gradient=gradient(MADE, noise=0.85 * MADE.noise)
  )
  assert found.lower < MADE.epsilon
  assert not found.holds


@pytest.mark.parametrize(
  'wrong',
  [
    dict(noise=MADE.noise / 2),
    dict(noise=0.0),
    # Noise for the sum put on the mean.
    dict(noise=MADE.noise / MADE.batch),
    dict(clip_norm=MADE.clip_norm * 1e3, noise=MADE.noise / 1e3),
  ],
)
def test_a_wrong_mechanism_is_seen(wrong):
  found = audit.play(MADE, canaries=1200, gradient=gradient(MADE, **wrong))
  assert found.lower > MADE.epsilon
  assert not found.holds


def run_command(monkeypatch, *argv):
  monkeypatch.setattr(sys, 'argv', ['privacy', *map(str, argv)])
  command.main()


def test_the_commands(tmp_path, monkeypatch, capsys):
  budget.write(tmp_path, MADE, digest='', not_covered=())
  run_command(monkeypatch, 'audit', tmp_path, '--canaries=400')
  assert 'the best attack shows at least' in capsys.readouterr().out
  told = json.loads((tmp_path / 'audit.json').read_text())
  assert told['holds'] is True
  assert told['canaries'] == 400
  # A file that says less than its noise can do.
  lying = dataclasses.replace(MADE, epsilon=MADE.epsilon / 2)
  budget.write(tmp_path, lying, digest='', not_covered=())
  with pytest.raises(SystemExit) as ended:
    run_command(monkeypatch, 'audit', tmp_path, '--canaries=400')
  assert 'epsilon is more than it says' in str(ended.value) + str(
    capsys.readouterr()
  )
  with pytest.raises(SystemExit):
    run_command(monkeypatch, 'audit', tmp_path / 'none')
  assert 'is no run with a budget' in str(capsys.readouterr())
  run_command(
    monkeypatch, 'spend', '--n=60000', '--batch=256', '--sigma=1.1',
    '--steps=14062',
  )  # fmt: skip
  assert 'epsilon 2.38' in capsys.readouterr().out
  with pytest.raises(SystemExit):
    run_command(
      monkeypatch, 'spend', '--n=10', '--batch=2', '--sigma=1', '--steps=3',
      '--delta=0.2',
    )  # fmt: skip
