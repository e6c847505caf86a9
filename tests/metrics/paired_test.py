"""Paired tests: published examples, enumeration, scipy, scikit-learn."""

import itertools

import numpy as np
import pytest
from scipy import stats

from medjax.metrics import bootstrap, paired

# Heights of cross- less self-fertilised maize, 1/8 inch: Darwin 1876, as
# tested by Fisher 1935 and in scipy's manual.
MAIZE = np.array(
  [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75], float
)


def _signs(difference):
  """Exact p by all 2^n signs of the ranks."""
  difference = difference[difference != 0]
  ranks = stats.rankdata(np.abs(difference))
  signs = np.array([*itertools.product([0, 1], repeat=len(ranks))])
  sums = signs @ ranks
  seen = ranks[difference > 0].sum()
  tails = (sums >= seen - 1e-9).mean(), (sums <= seen + 1e-9).mean()
  return min(1.0, 2 * min(tails))


def test_wilcoxon_of_darwins_maize():
  assert paired.wilcoxon(MAIZE) == pytest.approx(0.041259765625)
  assert paired.wilcoxon(-MAIZE) == pytest.approx(0.041259765625)


@pytest.mark.parametrize('seed', range(5))
def test_wilcoxon_is_exact_for_few(seed):
  rng = np.random.default_rng(seed)
  for difference in (
    rng.normal(0.5, size=10),
    rng.integers(-3, 6, size=10).astype(float),  # ties and zeros
  ):
    assert paired.wilcoxon(difference) == pytest.approx(_signs(difference))


def test_wilcoxon_of_many_with_ties_and_zeros_is_scipys():
  difference = np.random.default_rng(0).integers(-4, 6, size=200) / 10
  theirs = stats.wilcoxon(difference[difference != 0], method='asymptotic')
  assert paired.wilcoxon(difference) == pytest.approx(theirs.pvalue)


def test_wilcoxon_sees_ties_through_rounding():
  a = np.array([0.8, 0.7, 0.1, 0.5, 0.3, 0.2])
  b = a + np.array([0.1, 0.1, 0.1, -0.1, 0.2, 0.1])
  assert len(np.unique(b - a)) > 3
  assert paired.wilcoxon(b - a) == pytest.approx(
    _signs(np.round(b - a, 10)), rel=1e-12
  )


def test_wilcoxon_of_little():
  assert paired.wilcoxon(np.zeros(5)) == 1
  assert paired.wilcoxon(np.array([0.3, np.nan])) == 1
  assert np.isnan(paired.wilcoxon(np.full(3, np.nan)))
  assert np.isnan(paired.wilcoxon(np.zeros(0)))
  with_nan = np.append(MAIZE, [np.nan, np.nan])
  assert paired.wilcoxon(with_nan) == paired.wilcoxon(MAIZE)


def test_mcnemar_is_twice_the_smaller_binomial_tail():
  # Agresti's 1600 who judged the president twice (Categorical Data Analysis).
  cells = {(1, 1): 794, (1, 0): 150, (0, 1): 86, (0, 0): 570}
  pairs = np.repeat([*cells], [*cells.values()], axis=0) > 0
  p = paired.mcnemar(pairs[:, 0], pairs[:, 1])
  assert p == pytest.approx(2 * stats.binom.cdf(86, 236, 0.5))
  # The test of large samples, z² = (150 - 86)² / 236, comes close.
  assert p == pytest.approx(stats.chi2.sf(64**2 / 236, 1), rel=0.25)
  assert paired.mcnemar(pairs[:, 0], pairs[:, 0]) == 1
  one = np.array([True, False])
  assert paired.mcnemar(one, ~one) == 1


def test_benjamini_hochbergs_own_example():
  # Benjamini & Hochberg 1995, in scipy's manual too: 4 of 15 at 5 %.
  p = np.array(
    [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240,
     .4262, .5719, .6528, .7590, 1.0]
  )  # fmt: skip
  adjusted = paired.benjamini_hochberg(p)
  assert (adjusted <= 0.05).sum() == 4
  assert adjusted[3] == pytest.approx(0.0095 * 15 / 4)
  order = np.random.default_rng(0).permutation(15)
  mixed = np.append(p[order], np.nan)
  np.testing.assert_allclose(
    paired.benjamini_hochberg(mixed), [*adjusted[order], np.nan]
  )
  assert np.isnan(paired.benjamini_hochberg(np.full(2, np.nan))).all()


def test_mean_difference_is_bootstrapped_by_pair_and_patient():
  rng = np.random.default_rng(0)
  case = rng.normal(size=(100, 1))  # hard and easy cases, for both
  a, b = case + 0.1 * rng.normal(size=(2, 100, 3))
  a[:10, 1] = np.nan
  b[-10:, 2] = np.nan
  bounds = paired.mean_difference_intervals(a, b, range(100))
  assert bounds.shape == (3, 2)
  assert (np.diff(bounds) < 0.1).all()
  theirs = stats.bootstrap(
    (a[:, 0], b[:, 0]),
    lambda x, y, axis: (y - x).mean(axis),
    paired=True,
    n_resamples=4000,
    method='percentile',
    rng=0,
  ).confidence_interval
  np.testing.assert_allclose(bounds[0], theirs, atol=0.003)
  again = bootstrap.intervals(
    lambda w: {'x': bootstrap.weighted_mean((b - a)[10:, 1], w)},
    range(90),
    n_resamples=2000,
  )['x']
  np.testing.assert_allclose(bounds[1], again, atol=0.005)
  patients = np.repeat(np.arange(10), 10)
  shift = rng.normal(size=10)[patients][:, None]
  by_patient = paired.mean_difference_intervals(a, a + shift, patients)
  by_case = paired.mean_difference_intervals(a, a + shift, range(100))
  assert (np.diff(by_patient) > 2 * np.diff(by_case)).all()


def test_group_mean():
  values = np.array([1, np.nan, 3, 5, np.nan])
  mean = paired.group_mean(values, ['p', 'p', 'p', 'q', 'r'])
  np.testing.assert_array_equal(mean, [2, 5])
  assert paired.group_mean(np.full(2, np.nan), ['p', 'q']).shape == (0,)


def test_a_resample_without_a_class_says_nothing_of_the_mean():
  """b is worse in a class of two cases, which every seventh resample misses."""
  rng = np.random.default_rng(0)
  label = np.r_[np.zeros(20, int), np.ones(20, int), 2, 2]
  truth = np.eye(3, dtype=bool)[label]
  a = truth + 0.3 * rng.normal(size=(42, 3))
  b = a.copy()
  b[-2:, 2] = -0.2, -0.3
  columns, mean = paired.auroc_difference_intervals(truth, a, b, range(42))
  assert columns[2, 1] < -0.5
  assert mean[1] < -0.2
