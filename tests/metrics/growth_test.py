import numpy as np
import pytest

from medjax.metrics import growth


def simulated(seed, patients=40, rate=0.5, spread=0.2, noise=0.1):
  rng = np.random.default_rng(seed)
  own = rate + spread * rng.normal(size=patients)
  who = np.repeat(np.arange(patients), rng.integers(2, 6, patients))
  time = rng.uniform(0, 3, len(who))
  level = rng.normal(7, 1, patients)
  log = level[who] + own[who] * time + noise * rng.normal(size=len(who))
  return np.exp(log), time, who, own


def test_simulated_growth_is_found_and_its_interval_holds_it():
  inside, own_inside, own_all, means = 0, 0, 0, []
  for seed in range(200):
    volume, time, who, own = simulated(seed)
    found = growth.fit(volume, time, who)
    means.append((found.rate, found.spread, found.noise))
    low, high = (found.rate + s * 1.96 * found.error for s in (-1, 1))
    inside += low < 0.5 < high
    truth = own[list(found.patients)]
    own_inside += (np.abs(found.rates - truth) < 1.96 * found.errors).sum()
    own_all += len(truth)
  np.testing.assert_allclose(np.mean(means, 0), (0.5, 0.2, 0.1), atol=0.01)
  assert 0.90 < inside / 200 < 0.99
  assert 0.92 < own_inside / own_all < 0.97


def visited(seed, visits, third):
  """30 patients of so many visits, some of one more; rates hardly differ."""
  rng = np.random.default_rng(seed)
  own = rng.normal(0.3, 0.05, 30)
  who = np.repeat(np.arange(30), visits + (np.arange(30) < third))
  time = np.concatenate([np.arange((who == k).sum()) for k in range(30)])
  log = rng.normal(5, 1, 30)[who] + own[who] * time
  return np.exp(log + 0.2 * rng.normal(size=len(who))), time, who, own


@pytest.mark.parametrize(('visits', 'third'), [(4, 0), (2, 3), (2, 1)])
def test_intervals_of_patients_know_that_variances_are_guesses(visits, third):
  held = []
  for seed in range(50):
    volume, time, who, own = visited(seed, visits, third)
    found = growth.fit(volume, time, who)
    each = [
      growth.doubling_time(r, e, found.freedom)
      for r, e in zip(found.rates, found.errors, strict=True)
    ]
    # The interval of the rate: high is its lower end, low its upper.
    low, high = (np.log(2) / np.array([getattr(d, k) for d in each])
                 for k in ('high', 'low'))  # fmt: skip
    held.append((low < own) & (own < high))
  assert np.mean(held) > 0.9


def test_two_volumes_of_each_cannot_tell_noise_from_growth():
  volume, time, who, _ = visited(0, 2, 0)
  with pytest.raises(ValueError, match='cannot be told apart; add a third'):
    growth.fit(volume, time, who)


def test_without_spread_it_is_least_squares_within_patients():
  volume, time, who, _ = simulated(3)
  found = growth.fit(volume, time, who)
  # Without spread between patients it is least squares within them.
  same, t, w, _ = simulated(4, spread=0.0)
  flat = growth.fit(same, t, w)
  log = np.log(same)
  tc, yc = t.copy(), log.copy()
  for k in np.unique(w):
    tc[w == k] -= t[w == k].mean()
    yc[w == k] -= log[w == k].mean()
  assert flat.rate == pytest.approx((tc * yc).sum() / (tc**2).sum(), abs=2e-3)
  assert found.spread > 5 * flat.spread


def test_volumes_exactly_on_lines():
  time, who = np.tile([0, 1, 2], 3), np.repeat([0, 1, 2], 3)
  found = growth.fit(np.exp(time * (who + 1.0)), time, who)
  np.testing.assert_allclose(found.rates, [1, 2, 3], rtol=1e-6)
  assert found.errors.max() < 1e-6


def test_doubling_time():
  found = growth.doubling_time(np.log(2) / 100, np.log(2) / 1000)
  assert found.value == pytest.approx(100)
  assert found.low == pytest.approx(100 / 1.196, rel=1e-3)
  assert found.high == pytest.approx(100 / 0.804, rel=1e-3)
  unsure = growth.doubling_time(0.001, 0.002)
  assert unsure.high < 0 < unsure.low  # it may shrink


def test_what_cannot_grow_is_refused():
  with pytest.raises(ValueError, match='volumes are above 0'):
    growth.fit([1.0, 0.0], [0, 1], [0, 0])
  with pytest.raises(ValueError, match='two patients'):
    growth.fit([1.0, 2.0, 3.0], [0, 1, 0], [0, 0, 1])
