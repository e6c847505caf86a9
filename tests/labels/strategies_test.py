"""Strategies of active learning on points whose answer is plain."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from medjax.labels import strategies
from medjax.labels.strategies import Pool

RNG = np.random.default_rng(0)


def take(pool, found, n):
  """The first n places, each out of the pool as `select` does it."""
  places = []
  for place, _, why in found:
    assert why
    pool.take(place)
    places.append(place)
    if len(places) == n:
      break
  return places


def test_a_pool_passes_over_near_duplicates():
  pool = Pool(4, [(0, 2), (2, 3)])
  pool.take(2)
  assert pool.free.tolist() == [False, True, False, False]
  pool.take(1)
  assert not pool


def test_the_least_sure_come_first_and_say_of_how_many():
  scores = [0.1, 0.9, 0.5, 0.7]
  found = list(strategies.by_score(Pool(4), scores, 'entropy'))
  assert [i for i, *_ in found] == [1, 3, 2, 0]
  assert found[0][2] == 'entropy 0.900 nats, above that of 75 % of all'
  assert take(
    Pool(4, [(1, 3)]), strategies.by_score(Pool(4), scores, 'bald'), 1
  )


def test_coreset_is_the_greedy_k_centre_of_a_loop():
  points, known = RNG.normal(size=(40, 3)), RNG.normal(size=(2, 3))
  pool = Pool(40)
  found = take(pool, strategies.coreset(pool, points, known), 8)
  centres, wanted = [*known], []
  for _ in range(8):
    far = [min(np.linalg.norm(p - c) for c in centres) for p in points]
    wanted.append(int(np.argmax(far)))
    centres.append(points[wanted[-1]])
  assert found == wanted


def test_coreset_begins_in_the_middle_where_nothing_is_known():
  points = np.array([[0.0], [1.0], [2.0], [9.0]])
  pool = Pool(4)
  found = take(pool, strategies.coreset(pool, points, []), 2)
  assert found == [2, 3]  # 3 is the mean; then the farthest


def errors(p):
  return p - np.eye(p.shape[1])[p.argmax(1)]


def test_badge_takes_the_longest_gradient_and_never_one_it_has():
  p = RNG.dirichlet(np.ones(3), 30)
  h = RNG.normal(size=(30, 4))
  lengths = [
    np.linalg.norm(np.outer(q - np.eye(3)[q.argmax()], e))
    for q, e in zip(p, h, strict=True)
  ]
  pool, rng = Pool(30), np.random.default_rng(0)
  found = take(pool, strategies.badge(pool, h, errors(p), rng), 30)
  assert found[0] == int(np.argmax(lengths))
  assert sorted(found) == [*range(30)]
  place, length, _ = next(strategies.badge(Pool(30), h, errors(p), None))
  assert length == pytest.approx(lengths[place])


def test_badge_spreads_over_groups():
  centres = np.repeat(np.eye(4) * 10, 25, 0)
  h = centres + RNG.normal(0, 0.01, centres.shape)
  p = np.tile([0.6, 0.4], (100, 1))
  pool, rng = Pool(100), np.random.default_rng(0)
  found = take(pool, strategies.badge(pool, h, errors(p), rng), 4)
  assert {i // 25 for i in found} == {0, 1, 2, 3}


def test_badge_goes_on_where_all_are_sure():
  pool, rng = Pool(5), np.random.default_rng(0)
  p, h = np.eye(2)[[0, 0, 1, 1, 0]], RNG.normal(size=(5, 3))
  found = take(pool, strategies.badge(pool, h, errors(p), rng), 5)
  assert sorted(found) == [*range(5)]


def test_typiclust_takes_the_densest_of_each_group_but_of_the_labelled():
  centres = np.eye(3)
  points = np.concatenate([
    c + RNG.normal(0, 0.02, (n, 3))
    for c, n in zip(centres, (30, 20, 10), strict=True)
  ])  # fmt: skip
  known = centres[:1]
  pool = Pool(60)
  chosen = strategies.typiclust(
    pool, points, known, 2, np.random.default_rng(0)
  )
  found = take(pool, chosen, 2)
  group = np.repeat(np.arange(3), (30, 20, 10))
  assert [group[i] for i in found] == [1, 2]  # the larger first; 0 is known
  unit = points / np.linalg.norm(points, axis=1, keepdims=True)
  for i in found:
    own = unit[group == group[i]]
    apart = np.sort(cdist(own, own), 1)[:, 1:21].mean(1)
    assert np.flatnonzero(group == group[i])[apart.argmin()] == i


def test_chance_is_seeded_and_takes_each_once():
  draw = lambda seed: [
    i for i, *_ in strategies.at_random(Pool(20), np.random.default_rng(seed))
  ]
  assert draw(1) == draw(1) != draw(2)
  assert sorted(draw(1)) == [*range(20)]


@pytest.mark.parametrize('name', strategies.STRATEGIES)
def test_names_are_those_of_the_command(name):
  assert name in (
    'entropy', 'margin', 'bald', 'coreset', 'badge', 'typiclust', 'random',
  )  # fmt: skip
