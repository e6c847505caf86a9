import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.losses import survival
from medjax.metrics import cox


def sample(n=40, seed=0, places=12):
  """Risks, times with many ties, events of two causes, which cases count."""
  rng = np.random.default_rng(seed)
  return (
    rng.normal(size=n),
    rng.integers(1, places, n).astype(float),
    rng.integers(0, 3, n),
    rng.random(n) < 0.8,
  )


@pytest.fixture
def double():
  with jax.enable_x64(True):
    yield


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('ties', ['efron', 'breslow'])
def test_cox_is_the_partial_likelihood_of_the_valid(ties):
  risk, time, event, valid = sample()
  each = survival.cox(risk, time, event == 1, valid, ties=ties)
  expected = cox.log_likelihood(
    risk[valid], time[valid], event[valid] == 1, ties=ties
  )
  assert -each.sum() == pytest.approx(expected, abs=1e-9)
  assert not np.asarray(each)[~valid | (event != 1)].any()


@pytest.mark.usefixtures('double')
@pytest.mark.parametrize('ties', ['efron', 'breslow'])
def test_cox_against_r(ties, shared_data):
  home = shared_data('survival_conformance') / 'torchsurv'
  found = json.loads((home / 'benchmark_cox_with_ties.json').read_text())
  cox = jax.jit(functools.partial(survival.cox, ties=ties))
  for r in found:
    (risk,) = np.array(r[f'log_hazard_{ties}'])
    time, event = np.array(r['time'], float), np.array(r['status']) > 0
    each = cox(risk, time, event, np.ones(len(time), bool))
    # R's risks are written to 4 decimals.
    assert -each.sum() == pytest.approx(
      r[f'log_likelihood_{ties}'][0], abs=1.5e-3
    )


def test_cox_is_finite_for_large_risks():
  risk, time, event, valid = map(jnp.asarray, sample())
  loss = lambda r: survival.cox(
    r.astype(np.float32), time, event == 1, valid
  ).sum()
  value, slope = jax.jit(jax.value_and_grad(loss))(60 * risk)
  assert np.isfinite(value)
  assert np.isfinite(slope).all()


@pytest.mark.usefixtures('double')
def test_cox_has_its_own_gradient():
  risk, time, event, valid = sample(12)
  others = [jnp.asarray(x) for x in (time, event == 1, valid)]
  loss = jax.jit(lambda r: survival.cox(r, *others).sum())
  slope, step = jax.grad(loss)(risk), 1e-6
  for i in range(12):
    e = np.eye(12)[i] * step
    numeric = (loss(risk + e) - loss(risk - e)) / (2 * step)
    assert slope[i] == pytest.approx(float(numeric), abs=1e-7)


@pytest.mark.usefixtures('double')
def test_cox_time_of_constant_risks_is_breslow():
  risk, time, event, valid = sample()
  matrix = np.repeat(risk[:, None], len(risk), 1)
  found = survival.cox_time(matrix, time, event == 1, valid)
  expected = survival.cox(risk, time, event == 1, valid, ties='breslow')
  np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.usefixtures('double')
def test_cox_time_against_the_extended_cox_of_r(shared_data):
  home = shared_data('survival_conformance') / 'torchsurv'
  path = home / 'benchmark_extended_cox_without_ties.json'
  r = json.loads(path.read_text())
  time, event = np.array(r['time'], float), np.array(r['status']) > 0
  # R has case i at the time of j in its column j.
  risk, n = np.array(r['log_hazard']), len(time)
  place = (np.arange(n)[:, None] - np.arange(n)) % n
  np.testing.assert_array_equal(survival.earlier_times(time, n), time[place])
  found = survival.cox_time(
    np.take_along_axis(risk, place, 1), time, event, np.ones(n, bool)
  )
  assert -found.sum() == pytest.approx(r['log_likelihood'][0], abs=5e-5)


def test_cox_time_with_few_controls_is_of_those_that_follow():
  risk, time, event, valid = sample(9)
  matrix = np.repeat(risk[:, None], 3, 1).astype(np.float32)
  found = survival.cox_time(matrix, time.astype(np.float32), event == 1, valid)
  for i in np.flatnonzero((event == 1) & valid):
    after = [i] + [j % 9 for j in (i + 1, i + 2)]
    kept = [j for j in after if time[j] >= time[i] and valid[j]]
    expected = np.log(np.exp(risk[kept]).sum()) - risk[i]
    assert found[i] == pytest.approx(expected, abs=1e-5)


def test_one_interval_is_cross_entropy():
  rng = np.random.default_rng(0)
  logits, event = rng.normal(size=(9, 1)), rng.integers(0, 2, 9)
  survived = 1 - event  # who had no event outlived the interval
  found = survival.logistic_hazard(logits, survived, event > 0)
  expected = optax.sigmoid_binary_cross_entropy(logits[:, 0], event)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hazards_make_the_probability_of_what_happened():
  rng = np.random.default_rng(1)
  logits = rng.normal(size=(5, 6))
  survived = np.array([0, 2, 5, 6, 3])
  event = np.array([True, True, True, False, False])
  hazard = 1 / (1 + np.exp(-logits))
  for i, loss in enumerate(survival.logistic_hazard(logits, survived, event)):
    p = np.prod(1 - hazard[i, : survived[i]])
    p *= hazard[i, survived[i]] if event[i] else 1
    assert loss == pytest.approx(-np.log(p), rel=1e-5)


def test_deephit_is_likelihood_and_ranking():
  rng = np.random.default_rng(2)
  n, causes, t = 7, 2, 4
  logits = rng.normal(size=(n, causes * t + 1))
  survived, event = rng.integers(0, t, n), rng.integers(0, 3, n)
  valid = np.array([True] * 6 + [False])
  found = survival.deephit(
    logits, survived, event, valid, causes=2, alpha=0.3, sigma=0.2
  )
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  mass = p[:, :-1].reshape(n, causes, t)
  incidence = mass.cumsum(2)
  for i in range(6):
    if event[i]:
      k = event[i] - 1
      expected = -0.3 * np.log(mass[i, k, survived[i]])
      for j in range(6):
        if survived[j] > survived[i]:
          a, b = (incidence[m, k, survived[i]] for m in (i, j))
          expected += 0.7 * np.exp(-(a - b) / 0.2) / 6
    else:
      lived = mass[i, :, : survived[i]].sum()
      expected = -0.3 * np.log(1 - lived)
    assert found[i] == pytest.approx(expected, rel=1e-4)
  assert found[6] == 0
