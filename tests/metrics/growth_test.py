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
