"""Entropies: scipy's, closed forms, and what must hold of them."""

import numpy as np
import pytest
from scipy import stats

from medjax.metrics.uncertainty import entropy, uncertainty


def _probability(*shape, dtype=np.float64):
  return np.random.default_rng(0).dirichlet(np.ones(4), shape).astype(dtype)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_entropy_is_scipys(dtype):
  p = _probability(5, 3, dtype=dtype)
  found = entropy(p)
  assert found.dtype == dtype
  expected = stats.entropy(p.astype(np.float64), axis=-1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_certain_and_uniform():
  p = np.array([[1.0, 0, 0], [0, 0, 1], [1 / 3] * 3, [0.5, 0.5, 0]])
  expected = [0, 0, np.log(3), np.log(2)]
  np.testing.assert_allclose(entropy(p), expected, atol=1e-15)
  above = np.array([[np.nextafter(np.float32(1), 2), 0]], np.float32)
  assert entropy(above) == 0  # what a mean of softmaxes may round to


def test_labels_of_their_own():
  p = np.array([[0.0, 0.5, 0.9, 1.0]])
  each = [stats.entropy([x, 1 - x]) for x in p[0]]
  assert entropy(p, exclusive=False) == pytest.approx([np.mean(each)])


@pytest.mark.parametrize('exclusive', [True, False])
def test_mutual_information_is_the_mean_divergence_from_the_mean(exclusive):
  p = _probability(3, 6)
  found = uncertainty(p, exclusive=exclusive)
  mean = p.mean(0)
  if exclusive:
    divergence = stats.entropy(p, mean[None], axis=-1).mean(0)
  else:
    pairs, means = (np.stack([x, 1 - x], -1) for x in (p, mean))
    divergence = stats.entropy(pairs, means[None], axis=-1).mean((0, -1))
  np.testing.assert_allclose(found.mutual_information, divergence, rtol=1e-9)
  np.testing.assert_allclose(
    found.entropy, found.expected_entropy + found.mutual_information
  )


def test_members_that_agree_and_members_that_do_not():
  p = _probability(1, 8, dtype=np.float32).repeat(3, 0)
  same = uncertainty(p)
  np.testing.assert_allclose(same.mutual_information, 0, atol=1e-6)
  assert (same.mutual_information >= 0).all()
  opposed = uncertainty(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
  np.testing.assert_allclose(np.ravel(opposed), (np.log(2), 0, np.log(2)))
