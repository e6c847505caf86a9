"""DeLong: the paper's own data, brute force, scikit-learn, permutations."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax.metrics import bootstrap, delong, paired

# The 43 complete cases of DeLong et al. 1988, table 1: albumin, total protein,
# K-G score (low is good), outcome of the operation; as the SAS/STAT manual
# prints them (PROC LOGISTIC, "Comparing Receiver Operating Characteristic
# Curves").
OVARIAN = np.fromstring(
  """3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1
  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1
  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1
  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1
  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1
  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1
  3.7 6.9 5 1  3.6 6.6 5 1""",
  sep=' ',
).reshape(-1, 4)


def _sample(n=120, *, ties, seed=0):
  rng = np.random.default_rng(seed)
  truth = rng.random(n) < 0.4
  a = truth + rng.normal(size=n)
  b = 0.6 * a + 0.8 * truth + rng.normal(size=n)
  if ties:
    a, b = np.round(a), np.round(b)
  return truth, a, b


def _brute(truth, a, b):
  """DeLong et al. 1988, eqs. 3 to 5, with all pairs written out."""
  v10, v01 = [], []
  for score in (a, b):
    high, low = score[truth][:, None], score[~truth][None]
    kernel = (high > low) + 0.5 * (high == low)
    v10.append(kernel.mean(1))
    v01.append(kernel.mean(0))
  covariance = np.cov(v10) / truth.sum() + np.cov(v01) / (~truth).sum()
  error = np.sqrt(np.array([-1, 1]) @ covariance @ np.array([-1, 1]))
  return [v.mean() for v in v10], error


@pytest.mark.parametrize('ties', [False, True])
def test_agrees_with_all_pairs_and_scikit_learn(ties):
  truth, a, b = _sample(ties=ties)
  result = delong.delong(truth, a, b)
  areas, error = _brute(truth, a, b)
  np.testing.assert_allclose(result[:2], areas, rtol=1e-12)
  np.testing.assert_allclose(result.error, error, rtol=1e-10)
  theirs = [sklearn_metrics.roc_auc_score(truth, s) for s in (a, b)]
  np.testing.assert_allclose(result[:2], theirs, rtol=1e-12)
  assert result.difference == pytest.approx(areas[1] - areas[0])
  assert np.mean(result.interval) == pytest.approx(result.difference)


def test_the_data_of_the_paper():
  # The numbers are those of all pairs written out, rounded.
  truth = OVARIAN[:, 3] == 1
  albumin, protein, score = OVARIAN[:, 0], OVARIAN[:, 1], -OVARIAN[:, 2]
  first = delong.delong(truth, score, albumin)
  assert first.error == pytest.approx(_brute(truth, score, albumin)[1])
  np.testing.assert_allclose(first[:2], [0.7258, 0.7366], atol=5e-5)
  np.testing.assert_allclose(first.interval, [-0.1761, 0.1976], atol=5e-5)
  assert first.p == pytest.approx(0.9102, abs=5e-5)
  second = delong.delong(truth, score, protein)
  assert second.auroc_b == pytest.approx(0.6478, abs=5e-5)
  assert second.difference == pytest.approx(-0.0780, abs=5e-5)
  assert second.error == pytest.approx(0.1046, abs=5e-5)
  np.testing.assert_allclose(second.interval, [-0.2830, 0.1271], atol=5e-5)
  assert second.p == pytest.approx(0.4561, abs=5e-5)


def test_p_is_that_of_swapping_the_models_in_half_of_the_cases():
  # Ranks have one scale, so that a case's two scores may change places.
  truth, a, b = _sample(n=150, ties=False, seed=5)
  a, b = a.argsort().argsort(), b.argsort().argsort()
  result = delong.delong(truth, a, b)
  rng = np.random.default_rng(0)
  swaps = rng.random((1000, len(truth))) < 0.5
  differences = []
  for swap in swaps:
    x, y = np.where(swap, b, a), np.where(swap, a, b)
    areas = [delong.placements(truth, s)[0].mean() for s in (x, y)]
    differences.append(areas[1] - areas[0])
  p = np.mean(np.abs(differences) >= abs(result.difference) - 1e-12)
  assert 0.02 < p < 0.6
  assert result.p == pytest.approx(p, abs=0.05)


def test_the_interval_is_that_of_the_bootstrap():
  truth, a, b = _sample(n=300, ties=False)
  result = delong.delong(truth, a, b)
  columns, mean = paired.auroc_difference_intervals(
    truth[:, None], a[:, None], b[:, None], range(300), n_resamples=3000
  )
  np.testing.assert_array_equal(columns[0], mean)
  np.testing.assert_allclose(columns[0], result.interval, atol=0.01)


def test_swapping_the_models_changes_the_sign_only():
  truth, a, b = _sample(ties=True)
  one, other = delong.delong(truth, a, b), delong.delong(truth, b, a)
  assert one.difference == pytest.approx(-other.difference)
  assert one.p == pytest.approx(other.p)


def test_false_positives_are_as_many_as_promised():
  rng = np.random.default_rng(0)
  rejected = 0
  for _ in range(400):
    truth = rng.permutation(np.arange(80) < 30)
    common = truth + rng.normal(size=80)
    a, b = common + rng.normal(size=(2, 80))
    rejected += delong.delong(truth, a, b).p < 0.05
  assert 9 < rejected < 35


def test_what_a_sample_cannot_say_is_nan():
  truth = np.array([True, True, False, False])
  same = delong.delong(truth, np.arange(4.0), 2 * np.arange(4.0))
  assert same.p == 1
  assert same.interval == (0, 0)
  # 1 against 1/2, and not a case by which to judge the spread.
  sharp = delong.delong(truth, np.ones(4), truth.astype(float))
  assert sharp.difference == 0.5
  assert np.isnan([sharp.p, sharp.error, *sharp.interval]).all()
  one = delong.delong(truth[1:], np.arange(3.0), np.arange(3.0)[::-1].copy())
  assert one.auroc_b == 1
  assert np.isnan([one.p, one.error, *one.interval]).all()
  none = delong.delong(np.ones(3, bool), np.ones(3), np.ones(3))
  assert np.isnan(none.auroc_a)
  with pytest.raises(ValueError, match='1 of 4 scores are NaN'):
    delong.delong(truth, np.array([0, 1, np.nan, 0]), np.ones(4))


def test_bootstrap_of_many_columns_by_patient():
  truth, a, b = _sample(n=60, ties=False)
  two = np.stack([truth, ~truth], -1)
  scores = [np.stack([s, -s], -1) for s in (a, b)]
  groups = np.repeat(np.arange(20), 3)
  columns, mean = paired.auroc_difference_intervals(
    two, *scores, groups, n_resamples=60
  )
  np.testing.assert_allclose(columns[0], columns[1])
  np.testing.assert_allclose(mean, columns[0])
  weights = np.concatenate([*bootstrap.resamples(groups, n_resamples=60)])
  by_hand = []
  for w in weights:
    kept = np.repeat(np.arange(60), w.astype(int))
    areas = [
      sklearn_metrics.roc_auc_score(truth[kept], s[kept]) for s in (a, b)
    ]
    by_hand.append(areas[1] - areas[0])
  np.testing.assert_allclose(
    columns[0], np.quantile(by_hand, [0.025, 0.975]), rtol=1e-9
  )
