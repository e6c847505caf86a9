"""Conformal sets and survival bounds: golden sets, coverage by simulation."""

import json

import numpy as np
import pytest

from medjax.metrics import conformal


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


def test_what_cannot_calibrate_is_refused():
  p, y = np.array([[0.3, 0.7]] * 30), np.ones(30, int)
  with pytest.raises(ValueError, match='all of one class'):
    conformal.limits(by_class(p, y), level=0.9)
  with pytest.raises(ValueError, match='8 calibration cases are too few'):
    conformal.quantile(np.arange(8.0), level=0.9)
  assert conformal.quantile(np.arange(9.0), level=0.9) == 8
  with pytest.raises(ValueError, match='is NaN'):
    conformal.quantile(np.array([np.nan] * 20), level=0.9)
  with pytest.raises(ValueError, match='between 0 and 1'):
    conformal.quantile(np.arange(9.0), level=90.0)


def survival(rng, n):
  """True and observed times, events, predicted medians; half censored."""
  risk = rng.normal(size=n)
  true = rng.exponential(np.exp(risk))
  censored = rng.exponential(np.exp(risk.mean()) * 1.5, n)
  prediction = np.log(2) * np.exp(risk + 0.3 * rng.normal(size=n))
  return true, np.minimum(true, censored), true <= censored, prediction


@pytest.mark.parametrize('censoring', ['any', 'independent'])
def test_survival_bounds_hold_under_censoring(censoring):
  rng, held, size = np.random.default_rng(0), [], []
  for _ in range(200):
    _, time, event, prediction = survival(rng, 200)
    margin = conformal.survival_margin(
      time, event, prediction, level=0.9, censoring=censoring
    )
    true, *_, new = survival(rng, 500)
    bound = conformal.survival_bound(new, margin)
    held.append((true >= bound).mean())
    size.append(margin)
  error = np.std(held) / 200**0.5
  assert np.mean(held) > 0.9 - 2 * error
  if censoring == 'independent':  # the other is as cautious as censoring is
    assert np.mean(held) < 0.92
  else:
    assert np.mean(held) > 0.93


def test_without_censoring_both_bounds_are_the_split_quantile():
  rng = np.random.default_rng(1)
  time, prediction = rng.exponential(size=50), rng.exponential(size=50)
  event = np.ones(50, bool)
  bounds = [
    conformal.survival_margin(time, event, prediction, level=0.8, censoring=c)
    for c in ('any', 'independent')
  ]
  wanted = np.sort(prediction / time)[int(np.ceil(51 * 0.8)) - 1]
  np.testing.assert_allclose(bounds, wanted)
  with pytest.raises(ValueError, match='above 0'):
    conformal.survival_margin(time - 1, event, prediction, level=0.8)
