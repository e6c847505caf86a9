"""Scores of novelty: formulas by hand, p values by their meaning."""

import numpy as np
import pytest
import scipy

from medjax.metrics import novelty


def data(n=400, d=6, seed=0):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, 2, n)
  x = rng.normal(size=(n, d)) @ np.diag([1, 2, 3, 1, 0.1, 0.01][:d])
  x[:, 0] += 4 * label
  logits = np.stack([-x[:, 0], x[:, 0]], -1) + rng.normal(size=(n, 2))
  return x, label, logits


def test_mahalanobis_is_that_of_scipy():
  x, label, logits = data()
  fitted = novelty.fit(x, label=label, logits=logits)
  new = data(20, seed=1)[0]
  found = novelty.scores(fitted, new, names=('mahalanobis',))['mahalanobis']
  inside = np.concatenate(
    [x[label == c] - x[label == c].mean(0) for c in (0, 1)]
  )
  precision = np.linalg.inv(inside.T @ inside / len(x))
  wanted = [
    min(
      scipy.spatial.distance.mahalanobis(row, x[label == c].mean(0), precision)
      ** 2
      for c in (0, 1)
    )
    for row in new
  ]
  np.testing.assert_allclose(found, wanted, rtol=0.02)  # the ridge


def test_knn_energy_and_msp_by_hand():
  x, label, logits = data()
  fitted = novelty.fit(x, label=label, logits=logits)
  found = novelty.scores(fitted, x[:5], logits=logits[:5])
  unit = (x - x.mean(0)) / x.std(0)
  unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
  far = np.sort(np.linalg.norm(unit[:5, None] - unit, axis=-1), -1)[:, 49]
  np.testing.assert_allclose(found['knn'], far, atol=1e-6)
  energy = -np.log(np.exp(logits[:5]).sum(-1))
  np.testing.assert_allclose(found['energy'], energy)
  p = scipy.special.softmax(logits[:5], -1).max(-1)
  np.testing.assert_allclose(found['msp'], 1 - p)
  residual = found['residual'] * fitted.factor
  np.testing.assert_allclose(found['vim'], residual + energy)


def test_residual_sees_what_no_training_case_varies_in():
  x, _label, _ = data()
  x[:, 5] = x[:, 0]  # five directions of six
  fitted = novelty.fit(x)
  odd = x[:10].copy()
  odd[:, 5] += 5
  usual = novelty.scores(fitted, x[:10], names=('residual',))['residual']
  strange = novelty.scores(fitted, odd, names=('residual',))['residual']
  assert strange.min() > 5 * usual.max()


def test_p_values_are_uniform_on_what_is_alike():
  x, label, logits = data(3000)
  fitted = novelty.fit(x[:1000], label=label[:1000], logits=logits[:1000])
  names = ('mahalanobis', 'knn', 'residual', 'energy')
  score = lambda s: novelty.scores(fitted, x[s], logits=logits[s], names=names)
  known, new = score(slice(1000, 2000)), score(slice(2000, 3000))
  p = novelty.p_values(known['knn'], new['knn'])
  joint = novelty.joint_p_values(known, new)
  for each in (p, joint):
    assert abs((each <= 0.05).mean() - 0.05) < 0.02
    assert abs((each <= 0.5).mean() - 0.5) < 0.06
  assert novelty.p_values(np.arange(9.0), np.array([99.0])) == 0.1


def test_joint_finds_what_any_score_finds():
  rng = np.random.default_rng(0)
  known = {'a': rng.normal(size=500), 'b': rng.normal(size=500)}
  new = {'a': np.full(4, 9.0), 'b': rng.normal(size=4)}
  assert (novelty.joint_p_values(known, new) < 0.01).all()


def test_bad_features_are_refused():
  x, *_ = data()
  fitted = novelty.fit(x)
  with pytest.raises(ValueError, match='NaN or infinite'):
    novelty.scores(fitted, x[:2] * np.nan)
  with pytest.raises(ValueError, match='too few'):
    novelty.fit(x[:9])
  novelty.fit(x[:10])
  with pytest.raises(ValueError, match='none of mahalanobis'):
    novelty.scores(fitted, x[:2], names=('mahalonobis',))
