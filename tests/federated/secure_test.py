"""Secure aggregation: the guard, and the arithmetic beside the plain mean."""

import numpy as np
import pytest

from medjax.federated import secure


def steps(n, seed=0, limit=0.5):
  rng = np.random.default_rng(seed)
  return [
    {'w': rng.uniform(-limit, limit, (20, 3)), 'b': rng.normal(0, 0.1, 4)}
    for _ in range(n)
  ]


@pytest.mark.parametrize('sites', [2, 3, 50])
def test_the_mean_is_the_plain_one_to_the_levels(sites):
  rng = np.random.default_rng(sites)
  ns = rng.integers(1, 1000, sites).tolist()
  declared = secure.Range(0.6, 1000)
  own = steps(sites)
  found = secure.mean_of(own, ns, declared, rng=rng)
  for path in own[0]:
    plain = sum(n * s[path] for n, s in zip(ns, own, strict=True)) / sum(ns)
    error = np.abs(found[path] - plain).max()
    assert error <= declared.step(ns)
    assert error > 0
  assert declared.step(ns) < 1e-5 * sites


def test_more_levels_are_nearer():
  ns, own, errors = [300, 500, 900], steps(3), []
  plain = sum(n * s['w'] for n, s in zip(ns, own, strict=True)) / sum(ns)
  for levels in (2**10, 2**20):
    found = secure.mean_of(
      own, ns, secure.Range(0.6, 1000, levels=levels),
      rng=np.random.default_rng(0),
    )  # fmt: skip
    errors.append(np.abs(found['w'] - plain).max())
  assert 100 < errors[0] / errors[1] < 10_000


@pytest.mark.parametrize(
  ('leaf', 'n', 'message'),
  [
    ([0.0, 0.7], 10, r'moved w by 0\.7, beyond the declared ±0\.6'),
    ([0.0, -0.7], 10, 'beyond the declared'),
    ([0.0, np.nan], 10, 'beyond the declared'),
    ([0.0, np.inf], 10, 'beyond the declared'),
    ([0.0, 0.1], 1001, 'has 1001 cases, more than the 1000'),
    ([0.0, 0.1], 0, 'has 0 cases'),
  ],
)
def test_what_would_be_clipped_is_refused(leaf, n, message):
  with pytest.raises(ValueError, match=message):
    secure.Range(0.6, 1000).check({'w': np.array(leaf)}, n)
  secure.Range(0.6, 1000).check({'w': np.array([0.6, -0.6])}, 1000)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'width': 32}, 'a sum of 32 bits overflows: 48 or more'),
    ({'width': 63}, 'width ≤ 62'),
    ({'levels': 2**31}, 'levels < 2³¹'),
    ({'limit': np.inf}, 'a range of ±inf'),
    ({'limit': 0.0}, r'a range of ±0\.0'),
  ],
)
def test_a_sum_that_could_overflow_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    secure.Range(**{'limit': 1.0, 'most': 10, **options})


def test_so_many_sites_would_overflow():
  declared = secure.Range(1.0, 10, levels=2**30)
  declared.check_sum(2**17)
  with pytest.raises(ValueError, match='262144 sites of 1073741824 levels'):
    declared.check_sum(2**18)
