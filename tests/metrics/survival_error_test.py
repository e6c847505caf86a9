import numpy as np
import pytest

from medjax.metrics import survival_calibration as calibration
from medjax.metrics import survival_curves as curves
from medjax.metrics import survival_error as errors


def test_brier_without_censoring_is_a_squared_error():
  time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4, int)
  risk = np.array([[0.9], [0.4], [0.3], [0.1]])
  found = errors.brier(time, event, risk, [2.5])
  expected = np.mean((np.array([1, 1, 0, 0]) - risk[:, 0]) ** 2)
  assert found.values == pytest.approx(expected)


def test_times_beyond_follow_up_are_left_out_and_counted():
  time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 0, 0])
  times = np.array([1.5, 2.5, 4.0, 50.0])
  found = errors.brier(time, event, np.full((4, 4), 0.5), times)
  np.testing.assert_array_equal(found.times, [1.5, 2.5])
  assert found.about['n_dropped'] == 2
  areas = errors.auc(time, event, np.arange(4.0), times)
  assert len(areas.values) == 2
  alone = errors.integrated_brier(time, event, np.full((4, 1), 0.5), [9.0])
  assert np.isnan(alone.value)


def test_the_truth_has_the_lowest_brier_score():
  """Weighted by G it is unbiased: censoring does not move it."""
  rng = np.random.default_rng(0)
  rate = np.exp(rng.normal(size=4000))
  dies, lost = rng.exponential(1 / rate), rng.exponential(1.5, 4000)
  time, event = np.minimum(dies, lost), (dies <= lost).astype(int)
  risk = lambda t: (1 - np.exp(-rate * t))[:, None]
  full = errors.brier(dies, np.ones(4000, int), risk(0.5), [0.5]).values[0]
  seen = errors.brier(time, event, risk(0.5), [0.5]).values[0]
  assert seen == pytest.approx(full, abs=0.01)
  for shift in (0.7, 1.4):
    worse = errors.brier(time, event, risk(0.5 * shift), [0.5]).values[0]
    assert worse > seen


def test_competing_events_are_controls():
  time, event = np.array([1.0, 1.5, 2.0, 9.0]), np.array([1, 2, 1, 0])
  found = errors.auc(time, event, np.array([4.0, 3.0, 2.0, 1.0]), [3.0])
  # Cases 1 and 3 against 2 and 4: of four pairs three are right.
  assert found.values == pytest.approx(3 / 4)
  risk = np.array([[0.5], [0.5], [0.5], [0.5]])
  assert errors.brier(time, event, risk, [3.0]).values == pytest.approx(0.25)


def test_calibrated_curves_are_d_calibrated():
  ps = []
  for seed in range(200):
    rng = np.random.default_rng(seed)
    dies, lost = rng.exponential(size=150), rng.exponential(1.5, 150)
    time, event = np.minimum(dies, lost), (dies <= lost).astype(int)
    ps.append(calibration.d_calibration(time, event, np.exp(-time)).p)
  # Who is censored is spread evenly, so the test is a cautious one.
  assert np.mean(np.array(ps) < 0.05) < 0.06
  wrong = calibration.d_calibration(time, event, np.exp(-3 * time))
  assert wrong.p < 1e-6
  assert wrong.bins.sum() == pytest.approx(150)


def test_calibration_at_a_horizon():
  rng = np.random.default_rng(1)
  rate = np.exp(rng.normal(size=5000))
  dies, other = rng.exponential(1 / rate), rng.exponential(2, 5000)
  time = np.minimum(dies, other)
  event = np.where(dies <= other, 1, 2)
  both = rate + 0.5
  risk = rate / both * (1 - np.exp(-both))
  found = calibration.at_horizon(time, event, risk, 1.0)
  np.testing.assert_allclose(found.predicted, found.observed, atol=0.04)
  assert found.ratio == pytest.approx(1, abs=0.04)
  assert found.ratio_low < 1 < found.ratio_high
  # 1 − Kaplan–Meier would call it far too low.
  naive = 1 - curves.kaplan_meier(time, event == 1).at(1.0)
  assert naive / risk.mean() > 1.1
  assert calibration.at_horizon(time, event, risk, 1e3) is None


def test_groups_of_risk_do_not_hang_on_the_order_of_rows():
  rng = np.random.default_rng(0)
  risk = rng.integers(0, 4, 90).astype(float)
  group = calibration.risk_groups(risk, 3)
  for value in range(4):
    assert len(set(group[risk == value])) == 1
  order = rng.permutation(90)
  again = calibration.risk_groups(risk[order], 3)
  np.testing.assert_array_equal(again, group[order])
  assert (np.diff(group[np.argsort(risk)]) >= 0).all()
  apart = calibration.risk_groups(rng.normal(size=91), 3)
  assert sorted(np.bincount(apart)) == [30, 30, 31]
  assert set(calibration.risk_groups(np.ones(9), 3)) == {1}


def test_what_nobody_is_followed_for_is_unknown():
  time = np.r_[np.full(20, 0.5), np.linspace(1, 3, 20)]
  event = np.r_[np.zeros(20, int), np.tile([0, 1], 10)]
  risk = np.r_[np.zeros(20), np.ones(20)]
  found = calibration.at_horizon(time, event, risk, 2.0, groups=2)
  assert np.isnan([found.observed[0], found.low[0], found.high[0]]).all()
  assert found.low[1] < found.observed[1] < found.high[1]
  # None by then: 0, of which no interval is known.
  found = calibration.at_horizon(time, event * 0, risk, 2.0, groups=2)
  assert found.observed[1] == found.ratio == 0
  assert np.isnan([found.low[1], found.high[1], found.ratio_low]).all()
