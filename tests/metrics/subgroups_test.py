"""Gaps between groups: what is planted is found, and nothing else."""

import numpy as np
import pytest
from scipy import stats

from medjax.metrics import subgroups

TESTED = {'recall': True, 'specificity': True, 'share': False}
HIGHER = {'recall': True, 'specificity': True, 'share': None}


def simulated(rng, gap, n=400, recall=0.95):
  """Decisions on n positives and n negatives of two groups alike in size."""
  truth = np.arange(2 * n) < n
  group = np.arange(2 * n) % 2 > 0
  p = np.where(truth, recall - gap * group, 0.1)
  return truth, group, rng.uniform(size=2 * n) < p


def statistic(truth, decided):
  @np.errstate(invalid='ignore')  # a score of no cases is none
  def of(weights):
    return {
      'recall': weights @ (truth & decided) / (weights @ truth),
      'specificity': weights @ (~truth & ~decided) / (weights @ ~truth),
      'share': weights @ truth / weights.sum(-1),
    }

  return of


def found(gap, seed, n_resamples=100):
  rng = np.random.default_rng(seed)
  truth, group, decided = simulated(rng, gap)
  groups = {('sex', 'a'): ~group, ('sex', 'b'): group}
  return subgroups.compare(
    statistic(truth, decided),
    groups,
    [str(i) for i in range(len(truth))],
    tested=TESTED,
    higher=HIGHER,
    positive=truth,
    n_resamples=n_resamples,
    seed=seed,
  )


def test_planted_gaps_are_found_and_no_others():
  power = np.mean([found(0.1, i)[1].verdict == 'lower' for i in range(200)])
  assert power >= 0.8
  equal = [found(0.0, 1000 + i) for i in range(200)]
  none = [g.verdict == 'no difference shown' for pair in equal for g in pair]
  assert np.mean(np.reshape(none, (200, 2)).all(1)) >= 0.95


def test_smallest_gap_is_what_four_of_five_would_show():
  one = found(0.1, 0, n_resamples=400)[1].scores['recall']
  error = (0.95 * 0.05 / 200 + 0.85 * 0.15 / 200) ** 0.5
  np.testing.assert_allclose(one.smallest, 2.8 * error, rtol=0.2)
  assert one.gap_interval[0] < one.gap < one.gap_interval[1]
  assert np.isnan(found(0.1, 0)[0].scores['share'].adjusted)


def of_shares(inside, outside):
  """The group of a split whose decisions are right for these: (right, of)."""
  sizes = [inside[1], outside[1]]
  right = np.concatenate([np.arange(n) < k for k, n in (inside, outside)])
  n = sum(sizes)
  truth = np.arange(2 * n) < n  # as many negatives, all of them right
  group = np.arange(n) < sizes[0]
  (one,) = subgroups.compare(
    statistic(truth, np.append(right, np.zeros(n, bool))),
    {('site', 'a'): np.tile(group, 2)},
    [str(i) for i in range(2 * n)],
    tested=TESTED,
    higher=HIGHER,
    positive=truth,
  )
  return one


@pytest.mark.parametrize('n', [5, 20])
def test_the_largest_gap_there_can_be_is_found(n):
  """All of a group are missed, and of the rest none: no resample differs."""
  one = of_shares((0, n), (80, 80))
  assert one.verdict == 'lower'
  recall = one.scores['recall']
  assert recall.gap == -1
  assert recall.gap_interval[0] == -1 < recall.gap_interval[1] < -0.4
  # Clopper and Pearson's of 0 of n.
  low, high = stats.binomtest(0, n).proportion_ci(method='exact')
  np.testing.assert_allclose(recall.interval, (low, high))
  assert recall.smallest > 0


def test_a_few_all_right_are_not_better_than_nine_tenths():
  # Of five, all are right in .59 of such groups.
  one = of_shares((5, 5), (360, 400))
  assert one.verdict == 'no difference shown'
  assert one.scores['recall'].p > 0.3


def test_two_perfect_groups_do_not_show_all_gaps():
  one = of_shares((20, 20), (80, 80))
  assert one.verdict == 'no difference shown'
  recall, specificity = (one.scores[k] for k in ('recall', 'specificity'))
  assert recall.p == 1
  np.testing.assert_allclose(recall.smallest, specificity.smallest)
  np.testing.assert_allclose(recall.smallest, 0.24, atol=0.01)


def test_a_better_group_is_no_lower_one():
  better, worse = found(0.2, 3)
  assert (better.verdict, worse.verdict) == ('higher', 'lower')


@pytest.mark.parametrize(('size', 'positives'), [(9, 5), (40, 4), (40, 36)])
def test_too_few_give_no_number(size, positives):
  truth = np.zeros(200, bool)
  truth[:positives] = truth[-50:] = True
  group = np.arange(200) < size
  (one,) = subgroups.compare(
    statistic(truth, truth),
    {('site', 'small'): group},
    [str(i) for i in range(200)],
    tested=TESTED,
    higher=HIGHER,
    positive=truth,
  )
  assert one.verdict == 'too few'
  assert one.scores == {}
  assert (one.n, one.positives) == (size, positives)


def test_just_enough_give_numbers():
  truth = np.arange(20) % 2 > 0
  (one,) = subgroups.compare(
    statistic(truth, truth),
    {('site', 'small'): np.arange(20) < 10},
    [str(i) for i in range(20)],
    tested=TESTED,
    higher=HIGHER,
    positive=truth,
  )
  assert (one.n, one.positives) == (10, 5)
  assert one.verdict == 'no difference shown'
  assert one.scores['recall'].value == 1


def test_patients_are_drawn_whole():
  """Ten copies of each case are no more evidence than one."""
  rng = np.random.default_rng(0)
  truth, group, decided = simulated(rng, 0.1, n=100)
  groups = {('sex', 'b'): group}
  names = [str(i) for i in range(200)]

  def p(times):
    each = lambda x: np.repeat(x, times)
    (one,) = subgroups.compare(
      statistic(each(truth), each(decided)),
      {k: each(v) for k, v in groups.items()},
      [n for n in names for _ in range(times)],
      tested=TESTED,
      higher=HIGHER,
      positive=each(truth),
      n_resamples=300,
    )
    return one.scores['recall'].p

  np.testing.assert_allclose(p(10), p(1), rtol=1e-6)


def test_crossed_leaves_out_what_is_not_known():
  ones = np.ones(4, bool)
  names = [('sex', 'f'), ('sex', 'unknown'), ('site', 'a')]
  assert [*subgroups.crossed(dict.fromkeys(names, ones))] == [
    ('sex × site', 'f, a')
  ]
