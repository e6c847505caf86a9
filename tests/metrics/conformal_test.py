"""Conformal sets and survival bounds: golden sets, coverage by simulation."""

import json

import numpy as np
import pytest

from medjax.metrics import conformal, cox


@pytest.fixture(scope='module')
def gold(shared_data):
  folder = shared_data('conformal_gold')
  tree = json.loads((folder / 'mapie_pneumoniamnist.json').read_text())
  names = ('cal_probs', 'cal_labels', 'test_probs', 'test_labels')
  return tree, *(np.array(tree[name]) for name in names)


def by_class(p, y, method='lac'):
  score = conformal.strangeness(p, method=method)
  return [score[y == k, k] for k in range(p.shape[1])]


@pytest.mark.parametrize('level', [0.8, 0.9, 0.95])
def test_lac_equals_mapie_exactly(gold, level):
  tree, p, y, test, truth = gold
  limit = conformal.limits(by_class(p, y), level=level)
  sets = conformal.sets(test, limit)
  wanted = tree['results'][f'lac@{level}']
  found = conformal.coverage(sets, truth, level=level, calibrated_on=len(y))
  assert found['coverage'] == wanted['coverage']
  assert found['size'] == wanted['mean_size']
  assert found['empty'] == wanted['empty']
  assert found['classes'][0]['coverage'] == wanted['cov0']
  assert found['classes'][1]['coverage'] == wanted['cov1']


def test_pneumoniamnist_is_said_to_be_below_its_level(gold):
  _, p, y, test, truth = gold
  sets = conformal.sets(test, conformal.limits(by_class(p, y), level=0.9))
  found = conformal.coverage(sets, truth, level=0.9, calibrated_on=len(y))
  assert found['low']
  assert [c['low'] for c in found['classes']] == [True, False]


@pytest.mark.parametrize('method', conformal.METHODS)
@pytest.mark.parametrize('mondrian', [False, True])
def test_coverage_holds_on_exchangeable_halves(gold, method, mondrian):
  _, p, y, test, truth = gold
  p, y = np.concatenate([p, test]), np.concatenate([y, truth])
  rng, share, each = np.random.default_rng(0), [], []
  for _ in range(200):
    order = rng.permutation(len(y))
    a, b = order[: len(y) // 2], order[len(y) // 2 :]
    limit = conformal.limits(
      by_class(p[a], y[a], method), level=0.9, mondrian=mondrian
    )
    sets = conformal.sets(p[b], limit, method=method)
    hit = sets[np.arange(len(b)), y[b]]
    share.append(hit.mean())
    each.append([hit[y[b] == k].mean() for k in (0, 1)])
  error = np.std(share) / 200**0.5
  assert np.mean(share) > 0.9 - 2 * error
  if method == 'lac':
    assert np.mean(share) < 0.9 + 2 * error + 2 / len(a)
  if mondrian:  # each class, which the others do not give
    assert (np.mean(each, 0) > 0.9 - 3 * np.std(each, 0) / 200**0.5).all()
  elif method == 'lac':
    assert np.mean(each, 0)[0] < 0.85


def drawn(n, rng):
  """Probabilities (n, 5) and labels drawn by them."""
  p = rng.random((n, 5)) ** 4
  p /= p.sum(-1, keepdims=True)
  return p, np.minimum((p.cumsum(-1) < rng.random((n, 1))).sum(-1), 4)


# Limits and sets (bits of the classes) of MAPIE 1.6.0, whose uniform draws are
# 0 and include_last_label False; of RAPS k_star 2 and lambda 0.1.
@pytest.mark.parametrize(
  ('method', 'level', 'limit', 'sets'),
  [
    (
      'aps',
      0.8,
      0.9636311549478368,
      [
        23,
        27,
        28,
        20,
        4,
        20,
        13,
        5,
        18,
        11,
        5,
        20,
        25,
        20,
        19,
        10,
        2,
        8,
        11,
        18,
        19,
        1,
        21,
        10,
      ],
    ),
    (
      'aps',
      0.9,
      0.9907231370478715,
      [
        23,
        27,
        29,
        30,
        4,
        28,
        13,
        13,
        18,
        27,
        5,
        20,
        29,
        20,
        23,
        26,
        2,
        8,
        27,
        22,
        19,
        3,
        23,
        11,
      ],
    ),
    (
      'raps',
      0.8,
      0.9843417435506472,
      [
        18,
        25,
        24,
        20,
        4,
        20,
        12,
        5,
        18,
        9,
        5,
        20,
        17,
        20,
        17,
        10,
        2,
        8,
        3,
        18,
        19,
        3,
        5,
        10,
      ],
    ),
    (
      'raps',
      0.9,
      1.0962785188395108,
      [
        22,
        25,
        28,
        22,
        6,
        28,
        13,
        13,
        18,
        11,
        5,
        22,
        25,
        28,
        19,
        26,
        3,
        10,
        11,
        22,
        19,
        3,
        21,
        11,
      ],
    ),
  ],
)
def test_aps_and_raps_equal_mapie_exactly(method, level, limit, sets):
  rng = np.random.default_rng(0)
  p, y = drawn(80, rng)
  test, _ = drawn(24, rng)
  limits = conformal.limits(by_class(p, y, method), level=level)
  np.testing.assert_allclose(limits, limit, rtol=1e-12)
  found = conformal.sets(test, limits, method=method)
  assert (found @ 2 ** np.arange(5)).tolist() == sets


def test_aps_adds_up_what_is_likelier():
  p = np.array([[0.1, 0.6, 0.3]])
  score = conformal.strangeness(p, method='aps')
  np.testing.assert_allclose(score, [[1.0, 0.6, 0.9]])
  score = conformal.strangeness(p, method='raps')
  np.testing.assert_allclose(score, [[1.1, 0.6, 0.9]])


def test_sets_of_aps_hold_the_likeliest():
  p = np.array([[0.05, 0.95]])
  limit = np.array([0.5, 0.5])
  assert conformal.sets(p, limit, method='aps').tolist() == [[False, True]]
  assert not conformal.sets(p, limit - 0.49).any()


def of_patients(rng, n):
  """Strangeness of the truth (m, 1), and whose it is: easy ones have 25 cases.

  Those of a patient are nearly the same.
  """
  easy = rng.random(n) < 0.5
  score = np.where(easy, 0.2 * rng.random(n), 0.5 + 0.5 * rng.random(n))
  patients = np.repeat(np.arange(n), np.where(easy, 25, 1))
  return score[patients] + 0.01 * rng.random(len(patients)), patients


@pytest.mark.parametrize('told', [True, False])
def test_a_case_of_a_new_patient_is_covered(told):
  rng, share = np.random.default_rng(0), []
  for _ in range(400):
    score, patients = of_patients(rng, 60)
    limit = conformal.quantile(
      score, level=0.9, patients=patients if told else None
    )
    new, whose = of_patients(rng, 200)
    sets = np.stack([new <= limit, np.ones(len(new), bool)], -1)
    found = conformal.coverage(
      sets, np.zeros(len(new), int), level=0.9, calibrated_on=60, patients=whose
    )
    assert found['n'] == found['classes'][0]['n'] == 200
    share.append(found['coverage'])
  if told:
    assert 0.9 - 0.005 < np.mean(share) < 0.9 + 1 / 61 + 0.005
  else:  # the easy ones, who have most of the cases, decide
    assert np.mean(share) < 0.6


@pytest.mark.parametrize('mondrian', [True, False])
def test_copies_of_the_cases_of_a_patient_change_no_limit(mondrian):
  rng = np.random.default_rng(0)
  p, y = drawn(200, rng)
  scores, patients = by_class(p, y), [np.flatnonzero(y == k) for k in range(5)]
  options = dict(level=0.8, mondrian=mondrian)
  alone = conformal.limits(scores, **options)
  again = rng.integers(1, 9, len(y))
  copied = conformal.limits(
    [np.repeat(s, again[w]) for s, w in zip(scores, patients, strict=True)],
    patients=[np.repeat(w, again[w]) for w in patients],
    **options,
  )
  np.testing.assert_array_equal(copied, alone)


def test_copies_of_the_cases_of_a_patient_change_no_bound():
  rng = np.random.default_rng(0)
  reached, weight = rng.random((2, 100))
  patients = np.repeat(np.arange(100), rng.integers(1, 9, 100))
  for w in (None, weight):
    alone = conformal.survival_limit(reached, level=0.8, weight=w)
    copied = conformal.survival_limit(
      reached[patients],
      level=0.8,
      weight=None if w is None else w[patients],
      patients=patients,
    )
    assert copied == alone


def test_what_cannot_calibrate_is_refused():
  p, y = np.array([[0.3, 0.7]] * 30), np.ones(30, int)
  with pytest.raises(ValueError, match='all of one class'):
    conformal.limits(by_class(p, y), level=0.9)
  with pytest.raises(ValueError, match='8 calibration cases are too few'):
    conformal.quantile(np.arange(8.0), level=0.9)
  assert conformal.quantile(np.arange(9.0), level=0.9) == 8
  with pytest.raises(ValueError, match='8 calibration patients are too few'):
    conformal.quantile(np.ones(99), level=0.9, patients=np.arange(99) % 8)
  with pytest.raises(ValueError, match='is NaN'):
    conformal.quantile(np.array([np.nan] * 20), level=0.9)
  with pytest.raises(ValueError, match='between 0 and 1'):
    conformal.quantile(np.arange(9.0), level=90.0)


def survival(rng, n):
  """True and observed times, events, predicted means; half censored."""
  risk = rng.normal(size=n)
  true = rng.exponential(np.exp(risk))
  censored = rng.exponential(np.exp(risk.mean()) * 1.5, n)
  scale = np.exp(risk + 0.3 * rng.normal(size=n))
  return true, np.minimum(true, censored), (true <= censored).astype(int), scale


def own(time, scale):
  """Predicted probability of an event up to a time, exponential."""
  return 1 - np.exp(-time / scale)


GRID = np.linspace(0.01, 40, 4000)


@pytest.mark.parametrize('censoring', ['any', 'independent'])
def test_survival_bounds_hold_under_censoring(censoring):
  rng, held, size = np.random.default_rng(0), [], []
  for _ in range(200):
    _, time, event, scale = survival(rng, 200)
    weight = None
    if censoring == 'independent':
      weight = conformal.censoring_weight(time, event)
    limit = conformal.survival_limit(own(time, scale), level=0.9, weight=weight)
    true, *_, new = survival(rng, 500)
    held.append((true >= -new * np.log(1 - limit)).mean())
    size.append(limit)
  error = np.std(held) / 200**0.5
  assert np.mean(held) > 0.9 - 2 * error
  if censoring == 'independent':  # the other is as cautious as censoring is
    assert np.mean(held) < 0.92
  else:
    assert np.mean(held) > 0.93


def test_without_censoring_both_limits_are_the_split_quantile():
  rng = np.random.default_rng(1)
  reached, time = rng.random(50), rng.exponential(size=50)
  weight = conformal.censoring_weight(time, np.ones(50, int))
  np.testing.assert_allclose(weight, 1)
  found = [
    conformal.survival_limit(reached, level=0.8, weight=w)
    for w in (None, weight)
  ]
  # Of 50 and a new one a fifth may fail: ten.
  np.testing.assert_allclose(found, np.sort(reached)[10 - 1])
  with pytest.raises(ValueError, match='no calibration case has an event'):
    conformal.survival_limit(reached, level=0.8, weight=0 * weight)
  with pytest.raises(ValueError, match='4 calibration cases are too few'):
    conformal.survival_limit(reached[:4], level=0.9)


def test_a_bound_is_where_the_curve_reaches_the_limit():
  scale = np.array([0.5, 3.0, 1e4])
  curves = own(GRID[None], scale[:, None])
  found = conformal.survival_bound(curves, GRID, 0.2)
  np.testing.assert_allclose(found[:2], -scale[:2] * np.log(0.8), rtol=1e-3)
  assert found[2] == GRID[-1]  # as far as the curve is known
  curve, grid = np.array([[0.4, 0.4, 0.6]]), np.array([1.0, 2, 3])
  at = lambda limit: conformal.survival_bound(curve, grid, limit)
  np.testing.assert_allclose(at(0.2), 0.5)
  np.testing.assert_allclose(at(0.4), 1)  # where it begins to be flat
  np.testing.assert_allclose(at(0.0), 0)


def test_events_stand_for_those_censored_before_them():
  time = np.array([1.0, 2, 3, 4])
  event = np.array([1, 0, 1, 1])
  weight = conformal.censoring_weight(time, event)
  np.testing.assert_allclose(weight, [1, 0, 1.5, 1.5])
  np.testing.assert_allclose(weight.sum(), 4)


@pytest.mark.parametrize(('weighted', 'most'), [(False, 0.93), (True, 0.91)])
def test_bounds_of_metabric_hold_on_exchangeable_halves(
  shared_data, weighted, most
):
  """By a Cox model of 700 patients; the others in 200 pairs of halves."""
  h5py = pytest.importorskip('h5py')
  name = 'metabric_IHC4_clinical_train_test.h5'
  with h5py.File(shared_data('survival') / name) as file:
    x, time, event = (
      np.concatenate([np.asarray(file[s][k], float) for s in ('train', 'test')])
      for k in 'xte'
    )
  x, time = (x - x.mean(0)) / x.std(0), np.maximum(time, 1e-3)
  rng = np.random.default_rng(0)
  order = rng.permutation(len(x))
  fit, rest = order[:700], order[700:]
  risk = x @ cox.fit(x[fit], time[fit], event[fit].astype(int)).coefficients
  base = cox.baseline(risk[fit], time[fit], event[fit].astype(int))
  grid = np.quantile(time[fit], np.linspace(0.01, 1, 100))
  curves = 1 - np.exp(-base.at(grid) * np.exp(risk)[:, None])
  reached = 1 - np.exp(-base.at(time) * np.exp(risk))
  held = []
  for _ in range(200):
    a, b = np.array_split(rng.permutation(rest), 2)
    weight = conformal.censoring_weight(time[a], event[a].astype(int))
    limit = conformal.survival_limit(
      reached[a], level=0.9, weight=weight if weighted else None
    )
    bound = conformal.survival_bound(curves[b], grid, limit)
    early = conformal.censoring_weight(time[b], event[b].astype(int))
    held.append(1 - (early * (time[b] < bound)).mean())
  error = np.std(held) / 200**0.5
  assert 0.9 - 2 * error < np.mean(held) < most
