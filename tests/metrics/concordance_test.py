import numpy as np
import pytest

from medjax.metrics import bootstrap, concordance
from medjax.metrics.survival_curves import censoring


def sample(n=40, seed=0, causes=1):
  rng = np.random.default_rng(seed)
  time = rng.integers(1, 15, n).astype(float)
  return time, rng.integers(0, causes + 1, n), rng.integers(0, 9, n) / 4


def test_harrell_by_pairs():
  time, event, risk = sample()
  right = pairs = 0
  for i in range(40):
    for j in range(40):
      earlier = time[i] < time[j] or (time[i] == time[j] and not event[j])
      if i != j and event[i] and earlier:
        pairs += 1
        right += (risk[i] > risk[j]) + (risk[i] == risk[j]) / 2
  found = concordance.harrell(time, event, risk)
  assert found.value == pytest.approx(right / pairs)
  assert found.about['n_pairs'] == pairs
  assert found.about['n_dropped'] == 40 * 39 // 2 - pairs


def test_nobody_with_an_event_is_undefined():
  time, event, risk = sample()
  for found in (
    concordance.harrell(time, 0 * event, risk),
    concordance.uno(time, 0 * event, risk),
  ):
    assert np.isnan(found.value)
    assert found.about['n_pairs'] == 0


def test_an_event_where_g_is_0_is_dropped_and_counted():
  time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 1, 1])
  train = censoring(np.array([1.0, 2.5]), np.array([1, 0]))  # G(2.5) = 0
  risk = -time
  found = concordance.uno(time, event, risk, censored=train)
  assert found.value == 1
  assert found.about['n_pairs'] == 5  # 3 pairs of the first, 2 of the second
  assert found.about['n_dropped'] == 1


def test_without_censoring_uno_is_harrell():
  time, _, risk = sample()
  event = np.ones(40, int)
  assert concordance.uno(time, event, risk).value == pytest.approx(
    concordance.harrell(time, event, risk).value, abs=1e-6
  )


def test_of_proportional_hazards_antolini_is_harrell():
  time, event, risk = sample()
  grid = np.linspace(0.5, 15, 40)
  curves = np.exp(-0.05 * grid * np.exp(risk)[:, None])
  assert concordance.antolini(time, event, curves, grid).value == pytest.approx(
    concordance.harrell(time, event, risk).value
  )


def test_crossing_curves_are_compared_at_the_event():
  time, event = np.array([1.0, 3.0, 4.0]), np.array([1, 1, 0])
  grid = np.array([1.0, 2.0, 3.0, 4.0])
  early = [0.5, 0.5, 0.5, 0.5]
  late = [0.9, 0.7, 0.2, 0.1]
  curves = np.array([early, late, [0.95, 0.9, 0.8, 0.8]])
  assert concordance.antolini(time, event, curves, grid).value == 1
  assert concordance.antolini(
    time[[1, 0, 2]], event, curves, grid
  ).value == pytest.approx(2 / 3)


def test_another_cause_never_has_this_one():
  time = np.array([1.0, 2.0, 3.0])
  event = np.array([2, 1, 0])
  found = concordance.comparable(time, event)
  # The second is compared with the first, who left before by another cause.
  np.testing.assert_array_equal(np.argwhere(found), [[1, 0], [1, 2]])


def test_weights_are_copies():
  time, event, risk = sample(20, causes=2)
  pairs = concordance.harrell_pairs(time, event, risk)
  for weights in bootstrap.resamples(np.arange(20), n_resamples=3):
    found = pairs.mean(weights)
    for w, value in zip(weights, found, strict=True):
      kept = np.repeat(np.arange(20), w.astype(int))
      each = np.isin(kept, kept)
      # Copies of one case are not compared with each other.
      full = concordance.comparable(time[kept], event[kept])
      full &= kept[:, None] != kept[None]
      better = concordance.harrell_pairs(
        time[kept], event[kept], risk[kept]
      ).better
      assert each.all()
      assert value == pytest.approx((full * better).sum() / full.sum())


def test_censoring_cancels_out_where_causes_compete():
  """Wolbers 2014: who had the other cause is weighed only up to then."""
  found = {'all': [], 'seen': []}
  for seed in range(8):
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=900)
    times = rng.exponential(np.exp(-risk), size=(2, 900))
    time, event = times.min(0), 1 + times.argmin(0)
    found['all'].append(concordance.uno(time, event, risk, tau=1.5).value)
    lost = rng.exponential(1.0, size=900)
    event = np.where(lost < time, 0, event)
    time = np.minimum(time, lost)
    found['seen'].append(concordance.uno(time, event, risk, tau=1.5).value)
  seen, every = np.mean(found['seen']), np.mean(found['all'])
  assert seen == pytest.approx(every, abs=0.012)
