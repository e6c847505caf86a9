import numpy as np
import pytest

from medjax.metrics import survival_curves as curves

# Six patients; at 3 an event and a censoring, which come in that order.
TIME = np.array([1.0, 2.0, 3.0, 3.0, 5.0, 6.0])
EVENT = np.array([1, 0, 1, 0, 2, 0])


def test_kaplan_meier_by_hand():
  curve = curves.kaplan_meier(TIME, EVENT)
  # 1 of 6, 1 of 4, 1 of 2.
  values = np.cumprod([5 / 6, 1, 3 / 4, 1 / 2, 1])
  np.testing.assert_allclose(curve.values, values)
  np.testing.assert_array_equal(curve.at_risk, [6, 5, 4, 2, 1])
  assert curve.at(0.5) == 1
  assert curve.at(3) == curve.at(4.9) == pytest.approx(0.625)
  assert curves.median(curve) == 5
  assert np.isnan(curves.median(curves.kaplan_meier(TIME, EVENT == 9)))
  # Greenwood, on the log-minus-log scale, after the first event.
  error = np.sqrt(1 / (6 * 5)) / np.abs(np.log(5 / 6))
  low = (5 / 6) ** np.exp(1.959964 * error)
  assert curve.low[0] == pytest.approx(low, rel=1e-6)


def test_censoring_sees_events_gone():
  g = curves.censoring(TIME, EVENT)
  # 1 of 5 at 2; at 3 one of the 3 that are left.
  np.testing.assert_allclose(g.at([1, 2, 3]), [1, 4 / 5, 4 / 5 * 2 / 3])
  plain = curves.censoring(TIME, EVENT, events_first=False)
  assert plain.at(3) == pytest.approx(4 / 5 * 3 / 4)
  left = curves.censoring(TIME, EVENT, left=True)
  assert left.at(3) == pytest.approx(4 / 5)


def test_nelson_aalen_by_hand():
  curve = curves.nelson_aalen(TIME, EVENT)
  np.testing.assert_allclose(
    curve.at([1, 3, 5]), np.cumsum([1 / 6, 1 / 4, 0.5])
  )
  own = curves.nelson_aalen(TIME, EVENT, cause=2)
  np.testing.assert_allclose(own.at([1, 3, 5]), [0, 0, 0.5])


def test_incidences_and_survival_make_one():
  rng = np.random.default_rng(0)
  time, event = rng.integers(1, 20, 200), rng.integers(0, 3, 200)
  time = time.astype(float)
  grid = np.arange(1, 21)
  each = [curves.aalen_johansen(time, event, cause=k).at(grid) for k in (1, 2)]
  free = curves.kaplan_meier(time, event).at(grid)
  np.testing.assert_allclose(each[0] + each[1] + free, 1, atol=1e-12)
  naive = 1 - curves.kaplan_meier(time, event == 1).at(grid)
  assert (naive >= each[0] - 1e-12).all()
  assert naive[-1] > each[0][-1] + 0.1


def test_of_one_cause_incidence_has_the_interval_of_greenwood():
  rng = np.random.default_rng(1)
  time, event = rng.exponential(size=300) + 0.1, rng.integers(0, 2, 300)
  km, aj = (
    curves.kaplan_meier(time, event),
    curves.aalen_johansen(time, event, cause=1),
  )
  np.testing.assert_allclose(aj.values, 1 - km.values, atol=1e-12)
  # Aalen's variance, and a log-minus-log of the other side: close, not equal.
  middle = slice(40, 200)
  np.testing.assert_allclose(aj.low[middle], 1 - km.high[middle], atol=0.02)


def test_weights_are_copies():
  rng = np.random.default_rng(2)
  time, event = rng.integers(1, 9, 30).astype(float), rng.integers(0, 3, 30)
  times = rng.integers(1, 4, 30)
  copied = np.repeat(time, times), np.repeat(event, times)
  np.testing.assert_allclose(
    curves.aalen_johansen(time, event, cause=2, weights=times).values,
    curves.aalen_johansen(*copied, cause=2).values,
  )


def test_restricted_mean_is_the_area():
  curve = curves.kaplan_meier(TIME, EVENT)
  expected = 1 + 2 * 5 / 6 + 1 * 0.625
  assert curves.restricted_mean(curve, 4.0) == pytest.approx(expected)


def test_log_rank_without_groups_or_events_is_undefined():
  found = curves.log_rank(TIME, EVENT, np.zeros(6))
  assert np.isnan(found.p)
  assert np.isnan(curves.log_rank(TIME, 0 * EVENT, TIME > 2).p)


def test_log_rank_of_equal_groups():
  ps = []
  for seed in range(300):
    rng = np.random.default_rng(seed)
    time, event = rng.exponential(size=60) + 0.01, rng.integers(0, 2, 60)
    ps.append(curves.log_rank(time, event, np.arange(60) % 3).p)
  assert 0.02 < np.mean(np.array(ps) < 0.05) < 0.09


@pytest.mark.parametrize(
  ('time', 'event', 'says'),
  [
    ([0.0], [1], 'time of case 0 is 0.0: times are finite and above 0'),
    ([1.0, -2.0], [1, 0], 'time of case 1'),
    ([np.nan], [1], 'time of case 0'),
    ([1.0], [0.5], 'event of case 0 is 0.5'),
    ([1.0], [-1], 'event of case 0 is -1'),
    ([], [], 'not one number per case'),
    ([1.0, 2.0], [1], 'not one number per case'),
  ],
)
def test_refused(time, event, says):
  with pytest.raises(ValueError, match=says):
    curves.kaplan_meier(np.array(time), np.array(event))


def test_figures_of_lifelines():
  datasets = pytest.importorskip('lifelines.datasets')
  lung = datasets.load_lung()
  time, event = lung['time'].to_numpy(float), lung['status'].to_numpy(int)
  event = event - event.min()
  curve = curves.kaplan_meier(time, event)
  assert curves.median(curve) == 310
  assert curve.at(365) == pytest.approx(0.40924, abs=5e-6)
  found = curves.log_rank(time, event, lung['sex'].to_numpy())
  assert found.statistic == pytest.approx(10.326742, abs=5e-7)
