"""Risk control and selective answers: by simulation, and by hand."""

import numpy as np
import pytest
from scipy import stats

from medjax.metrics import risk_control, selective


def test_p_value_of_no_failure_is_that_of_binomial():
  found = risk_control.p_value(0.0, 30, bound=0.1)
  np.testing.assert_allclose(found, 0.9**30)
  assert risk_control.fewest(0.1, 0.9) == 22
  assert risk_control.p_value(0.0, 22, bound=0.1) <= 0.1
  assert risk_control.p_value(0.0, 21, bound=0.1) > 0.1


def test_missed_counts_the_reference_below_each_threshold():
  p = np.array([[0.2], [0.6], [0.99], [0.5]])
  reference = np.array([[True], [True], [False], [False]])
  found = risk_control.missed(p, reference)[0]
  at = risk_control.THRESHOLDS
  wanted = [((p[:2, 0] < t).mean()) for t in at]
  np.testing.assert_array_equal(found, wanted)
  assert np.isnan(risk_control.missed(p, ~reference & False)).all()


def lesions(rng, n):
  """(n, t) shares missed of lesions of which a few are hard."""
  hard = rng.beta(0.4, 3, n)
  noise = rng.normal(0, 1.5, (n, 40)) - 6 * hard[:, None] + 2
  p = 1 / (1 + np.exp(-noise))
  return (p[:, :, None] < risk_control.THRESHOLDS).mean(1)


def test_risk_is_kept_with_the_stated_confidence():
  rng = np.random.default_rng(0)
  truth, kept, chosen = lesions(rng, 20_000).mean(0), 0, []
  for _ in range(200):
    i = risk_control.largest(lesions(rng, 60).mean(0), 60, bound=0.1)
    kept += i is None or truth[i] <= 0.1
    chosen += [] if i is None else [risk_control.THRESHOLDS[i]]
  assert kept >= stats.binom.ppf(0.02, 200, 0.9)
  assert len(chosen) == 200
  assert truth[np.median(chosen) >= risk_control.THRESHOLDS][-1] > 0.02


def test_too_few_cases_show_nothing():
  risk = np.zeros(76)
  assert risk_control.largest(risk, 21, bound=0.1) is None
  assert risk_control.largest(risk, 22, bound=0.1) == 75


def test_curve_and_area_by_hand():
  error = np.array([0, 1, 0, 0.0])
  confidence = np.array([0.9, 0.6, 0.6, 0.2])
  found = selective.curve(error, confidence)
  np.testing.assert_allclose(found.coverage, [0.25, 0.75, 1])
  np.testing.assert_allclose(found.risk, [0, 1 / 3, 1 / 4])
  np.testing.assert_allclose(selective.area(found), 0.5 / 3 + 0.25 / 4)
  with pytest.raises(ValueError, match='is NaN'):
    selective.curve(error, confidence * np.nan)


def test_risk_of_patients_is_the_mean_of_each():
  rng = np.random.default_rng(0)
  error, who = rng.integers(0, 2, 60).astype(float), rng.integers(0, 9, 60)
  confidence = rng.integers(0, 20, 60) / 20
  found = selective.curve(error, confidence, who)
  for c, risk, count in zip(
    found.confidence, found.risk, found.count, strict=True
  ):
    answered = confidence >= c
    each = [error[answered & (who == k)].mean() for k in set(who[answered])]
    assert count == len(each)
    np.testing.assert_allclose(risk, np.mean(each), atol=1e-12)


def test_alike_cases_of_a_patient_are_no_trials_of_their_own():
  # A tenth and more of what is answered is wrong, of all cases of a patient.
  rng, wrong = np.random.default_rng(0), 0
  for _ in range(100):
    bad = rng.uniform(size=15) < 0.12
    error, who = np.repeat(bad, 20).astype(float), np.repeat(np.arange(15), 20)
    confidence = rng.uniform(0.5, 1, 300)
    wrong += selective.point(error, confidence, who, risk=0.1) is not None
  assert wrong <= 10


def test_operating_point_keeps_the_error():
  rng = np.random.default_rng(0)

  def draw(n):
    p = rng.uniform(0.5, 1, n)
    return (rng.uniform(size=n) > p).astype(float), p

  kept = []
  for _ in range(200):
    point = selective.point(*draw(500), risk=0.1)
    if point is None:
      kept.append(True)
      continue
    error, confidence = draw(5000)
    kept.append(error[confidence >= point.confidence].mean() <= 0.1)
  assert np.mean(kept) >= 0.86
  assert selective.point(np.ones(50), np.linspace(0, 1, 50), risk=0.1) is None
