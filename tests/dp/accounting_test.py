"""Epsilons against published ones, and against what the law of draws says."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

pytest.importorskip('dp_accounting')

from medjax.dp import accounting, budget

# MNIST, 60,000 images, delta 1e-5: noise, epochs, batch, and the epsilon that
# TF Privacy's and Opacus' tutorials print.
PUBLISHED = [
  (1.3, 15, 256, 1.19), (1.1, 60, 256, 3.01), (0.7, 45, 256, 7.10),
  (1.3, 15, 240, 1.16), (1.1, 60, 240, 2.91), (0.7, 45, 240, 6.86),
]  # fmt: skip
# What today's RDP and PLD say of the same.
TODAY = [
  (0.954, 0.865), (2.597, 2.382), (6.319, 5.639),
  (0.922, 0.834), (2.503, 2.296), (6.094, 5.431),
]  # fmt: skip


def tutorial(noise, epochs, batch):
  return dict(noise=noise, rate=batch / 60000, steps=epochs * 60000 // batch)


def old_epsilon(noise, rate, steps, delta):
  """Mironov's conversion of 2017, which those tutorials used."""
  from dp_accounting import rdp

  made = rdp.RdpAccountant()
  made.compose(accounting._event(noise, rate, steps))
  orders, spent = made._orders, made._rdp
  return min(spent + math.log(1 / delta) / (np.asarray(orders) - 1))


@pytest.mark.parametrize(
  ('row', 'today'), list(zip(PUBLISHED, TODAY, strict=True))
)
def test_published_epsilons(row, today):
  *about, published = row
  run = tutorial(*about)
  assert old_epsilon(**run, delta=1e-5) == pytest.approx(published, abs=6e-3)
  found = accounting.both(**run, delta=1e-5)
  assert [found['rdp'], found['pld']] == pytest.approx(today, rel=2e-3)
  assert found['pld'] <= found['rdp']


def test_the_constants_of_opacus_tests():
  run = dict(noise=1.5, rate=0.04, steps=2250, delta=1e-5)
  assert accounting.epsilon(**run, accountant='rdp') == pytest.approx(
    7.32911, rel=1e-3
  )
  # PRV, another numerical accountant.
  assert accounting.epsilon(**run) == pytest.approx(6.77740, rel=2e-3)
  found = accounting.noise_for(8.0, 0.04, 2000, 1e-5)
  assert found == pytest.approx(1.2915, rel=3e-3)
  assert accounting.epsilon(found, 0.04, 2000, 1e-5) <= 8.0


def test_one_full_batch_is_the_gaussian_mechanism():
  """Balle & Wang 2018, theorem 8: in closed form."""
  noise, delta = 1.7, 1e-4
  epsilon = accounting.epsilon(noise, 1.0, 1, delta)
  a, b = 1 / (2 * noise), epsilon * noise
  cdf = scipy.stats.norm.cdf
  assert cdf(a - b) - math.exp(epsilon) * cdf(-a - b) == pytest.approx(
    delta, rel=1e-2
  )


def test_given_noise_lasts_for_as_many_steps_as_it_may():
  run = (0.8, 2.0, 0.05)  # few steps, much noise: an accountant's work is less
  steps = accounting.steps_within(*run, 64, 1e-5)
  spent = lambda n: accounting.epsilon(2.0, 0.05, n, 1e-5)
  assert 0 < steps < 64
  assert spent(steps) <= 0.8 < spent(steps + 1)
  assert accounting.steps_within(*run, steps - 1, 1e-5) == steps - 1


def test_room_is_paid_for_by_what_accountants_are_not_asked_for():
  batch, steps, target, delta = 256, 400, 8.0, 1e-5
  room = accounting.room(batch, steps, target, delta)
  spare = delta - accounting.kept(delta)
  for n in (257, 300, 1000, 4708, 10**6):
    too_large = steps * scipy.stats.binom.sf(room, n, batch / n)
    assert (1 + math.exp(target)) * too_large <= spare * (1 + 1e-9)
  assert batch < room < 2 * batch
  # As small as it may be for many patients.
  too_large = steps * scipy.stats.binom.sf(room - 2, n, batch / n)
  assert (1 + math.exp(target)) * too_large > spare


SETTINGS = dict(epsilon=1.0, delta=1e-5, clip_norm=1.0, noise=None)


def test_a_budget_says_what_it_says():
  made = budget.calibrated(
    SimpleNamespace(**SETTINGS), patients=1000, batch=50, steps=100, lanes=8
  )
  assert (made.steps, made.rate, made.room % 8) == (100, 0.05, 0)
  spent = made.spent(100)
  assert 0.98 < spent['pld'] <= 1.0 < spent['rdp']
  assert made.spent(0) == {'steps': 0, 'pld': 0.0, 'rdp': 0.0}


def test_a_budget_that_does_not_last_for_a_step():
  settings = SimpleNamespace(**SETTINGS | dict(epsilon=0.1, noise=1.0))
  with pytest.raises(ValueError, match=r'in the first step: give more noise'):
    budget.calibrated(settings, patients=100, batch=50, steps=10)
  with pytest.raises(ValueError, match=r'epsilon=1e-09 cannot be reached in'):
    accounting.noise_for(1e-9, 0.5, 10**6, 1e-9)
