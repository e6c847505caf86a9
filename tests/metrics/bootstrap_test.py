"""Bootstrap: seeded, by patient, independent of blocks, right coverage."""

import numpy as np
import pytest
from scipy import stats

from medjax.metrics import bootstrap, classification


def _mean(values):
  return lambda w: {'mean': bootstrap.weighted_mean(values, w)}


def test_a_resample_draws_whole_patients():
  groups = ['a', 'b', 'a', 'c', 'b', 'a']
  (weights,) = bootstrap.resamples(groups, n_resamples=50)
  assert weights.shape == (50, 6)
  np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
  np.testing.assert_array_equal(weights[:, 0], weights[:, 5])
  np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
  np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(1), 3)


def test_rows_depend_on_the_seed_only(monkeypatch):
  whole = np.concatenate(list(bootstrap.resamples(range(7), n_resamples=11)))
  monkeypatch.setattr(bootstrap, '_BLOCK', 15)
  blocks = list(bootstrap.resamples(range(7), n_resamples=11))
  assert len(blocks) == 6
  np.testing.assert_array_equal(whole, np.concatenate(blocks))
  other = next(bootstrap.resamples(range(7), n_resamples=2, seed=1))
  assert (other != whole[:2]).any()


def test_interval_of_a_mean_is_scipys():
  values = np.random.default_rng(0).normal(size=80)
  ours = bootstrap.intervals(_mean(values), range(80), n_resamples=4000)
  theirs = stats.bootstrap(
    (values,), np.mean, n_resamples=4000, method='percentile', rng=0
  ).confidence_interval
  np.testing.assert_allclose(ours['mean'], theirs, atol=0.02)


def test_correlated_cases_of_a_patient_widen_the_interval():
  patients = np.repeat(np.arange(20), 10)
  values = np.random.default_rng(0).normal(size=20)[patients]
  by_patient = bootstrap.intervals(_mean(values), patients)['mean']
  by_case = bootstrap.intervals(_mean(values), range(200))['mean']
  assert np.diff(by_patient) > 2.5 * np.diff(by_case)


def test_nan_values_are_left_out():
  values = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
  mean = bootstrap.weighted_mean(values, np.ones(3))
  np.testing.assert_array_equal(mean, [2, np.nan])
  bounds = bootstrap.intervals(_mean(values), range(3))['mean']
  assert bounds.shape == (2, 2)
  np.testing.assert_array_equal(bounds, [[1, 3], [np.nan, np.nan]])


def test_weighted_mean_shapes():
  values = np.random.default_rng(0).normal(size=(5, 2, 3))
  assert bootstrap.weighted_mean(values, np.ones(5)).shape == (2, 3)
  assert bootstrap.weighted_mean(values, np.ones((7, 5))).shape == (7, 2, 3)
  assert bootstrap.weighted_mean(values[:, 0, 0], np.ones(5)).shape == ()


@pytest.mark.parametrize('groups', [['a'], ['a', 'a', 'a']])
def test_one_patient_says_nothing_of_the_spread(groups):
  bounds = bootstrap.intervals(_mean(np.ones(len(groups))), groups)
  assert np.isnan(bounds['mean']).all()
  two = bootstrap.intervals(_mean(np.array([1.0, 3.0])), ['a', 'b'])
  np.testing.assert_array_equal(two['mean'], [1, 3])


def test_no_resamples_gives_nan_of_the_right_shape():
  values = np.ones((4, 3))
  bounds = bootstrap.intervals(_mean(values), range(4), n_resamples=0)
  assert bounds['mean'].shape == (3, 2)
  assert np.isnan(bounds['mean']).all()


def test_auroc_interval_is_that_of_repeated_cases():
  rng = np.random.default_rng(0)
  truth = rng.random((30, 1)) < 0.4
  score = np.round(rng.random((30, 1)) + 0.5 * truth, 1)
  statistic = lambda w: {'auroc': classification.auroc(truth, score, weights=w)}
  (weights,) = bootstrap.resamples(range(30), n_resamples=40)
  expected = []
  for row in weights.astype(int):
    t, s = np.repeat(truth, row, axis=0), np.repeat(score, row, axis=0)
    expected.append(classification.auroc(t, s)[0])
  bounds = bootstrap.intervals(statistic, range(30), n_resamples=40)['auroc']
  np.testing.assert_allclose(
    bounds[0], np.quantile(expected, [0.025, 0.975]), rtol=1e-12
  )


def test_coverage_is_near_95_percent():
  rng = np.random.default_rng(0)
  hits = 0
  for seed in range(100):
    values = rng.normal(size=60)
    low, high = bootstrap.intervals(
      _mean(values), range(60), n_resamples=300, seed=seed
    )['mean']
    hits += low <= 0 <= high
  assert 88 <= hits <= 99


def test_expanded_percentiles_lie_where_hesterberg_puts_them():
  """Φ(-2.262 √(10 / 9)), with t of 9 degrees of freedom, is 0.86 %."""
  values = np.random.default_rng(0).normal(size=10)
  f = lambda w: {'mean': bootstrap.weighted_mean(values, w)}
  options = {'n_resamples': 2000, 'seed': 3}
  expanded = bootstrap.intervals(f, np.arange(10), method='expanded', **options)
  means = np.concatenate(
    [f(w)['mean'] for w in bootstrap.resamples(np.arange(10), **options)]
  )
  share = np.mean(means[:, None] < expanded['mean'], 0)
  np.testing.assert_allclose(share, [0.0086, 0.9914], atol=6e-4)
  plain = bootstrap.intervals(f, np.arange(10), **options)
  assert expanded['mean'][0] < plain['mean'][0]
  assert expanded['mean'][1] > plain['mean'][1]


def test_expanded_is_percentile_of_many_and_undefined_of_one():
  values = np.random.default_rng(0).normal(size=4000)
  f = lambda w: {'mean': bootstrap.weighted_mean(values, w)}
  options = {'n_resamples': 200}
  a, b = (
    bootstrap.intervals(f, np.arange(4000), method=method, **options)['mean']
    for method in ('percentile', 'expanded')
  )
  np.testing.assert_allclose(a, b, atol=1e-4)
  one = bootstrap.intervals(f, np.zeros(4000), method='expanded', **options)
  assert np.isnan(one['mean']).all()
  with pytest.raises(ValueError, match='percentile'):
    bootstrap.intervals(f, np.arange(4000), method='bca')


def test_few_patients_are_said():
  assert bootstrap.caution(np.arange(30)) is None
  assert bootstrap.caution(np.repeat(np.arange(29), 9)).startswith(
    '29 patients'
  )
  assert bootstrap.caution(['a', 'b', 'a']).startswith('2 patients')


def test_where_all_resamples_agree_nothing_is_known_of_the_spread():
  every, one = np.ones(20), np.full(20, np.nan)
  one[3] = 0.8  # a class that a single patient has
  values = np.stack([every, one, np.arange(20.0)], -1)
  bounds = bootstrap.intervals(_mean(values), range(20))['mean']
  assert np.isnan(bounds[:2]).all()
  assert bounds[2, 0] < 9.5 < bounds[2, 1]
