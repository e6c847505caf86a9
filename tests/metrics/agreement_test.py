"""MCC and kappa against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax.metrics import agreement as m
from medjax.metrics import classification


def _labels(k=4, n=80, seed=0):
  rng = np.random.default_rng(seed)
  truth = rng.integers(k, size=n)
  noise = rng.integers(k, size=n)
  return truth, np.where(rng.random(n) < 0.5, truth, noise)


@pytest.mark.parametrize('k', [2, 4])
def test_mcc_and_kappa_are_sklearns(k):
  truth, predicted = _labels(k)
  w = np.random.default_rng(1).integers(0, 3, (2, 80)) * 1.0
  matrix = classification.confusion_matrix(
    truth, predicted, num_classes=k, weights=w
  )
  theirs = [
    sklearn_metrics.matthews_corrcoef(truth, predicted, sample_weight=row)
    for row in w
  ]
  np.testing.assert_allclose(m.mcc(matrix), theirs)
  for weights in (None, 'linear', 'quadratic'):
    theirs = [
      sklearn_metrics.cohen_kappa_score(
        truth, predicted, weights=weights, sample_weight=row
      )
      for row in w
    ]
    np.testing.assert_allclose(m.cohen_kappa(matrix, weights=weights), theirs)


def test_mcc_of_each_label_is_sklearns():
  rng = np.random.default_rng(2)
  truth = rng.random((50, 3)) < 0.3
  predicted = truth ^ (rng.random((50, 3)) < 0.2)
  c = classification.counts(truth, predicted)
  theirs = [
    sklearn_metrics.matthews_corrcoef(truth[:, k], predicted[:, k])
    for k in range(3)
  ]
  np.testing.assert_allclose(m.mcc(m.one_against_rest(c)), theirs)


def test_one_class_only_is_undefined():
  matrix = np.array([[5, 0], [0, 0]])
  assert np.isnan(m.mcc(matrix))
  assert np.isnan(m.cohen_kappa(matrix))
  assert np.isnan(m.mcc(np.array([[5, 0], [3, 0]])))
  assert m.cohen_kappa(np.array([[5, 0], [3, 0]])) == 0


@pytest.mark.parametrize('dtype', ['int8', 'uint8', 'int64', 'float32'])
def test_matrices_of_any_type(dtype):
  matrix = np.array([[90, 20], [10, 80]])
  for f in (m.mcc, m.cohen_kappa):
    assert f(matrix.astype(dtype)) == f(matrix.astype(float))


def test_what_is_no_matrix_is_refused():
  with pytest.raises(ValueError, match='negative or NaN'):
    m.mcc(np.array([[1, -1], [0, 1]]))
  with pytest.raises(ValueError, match='quadratic'):
    m.cohen_kappa(np.eye(2), weights='cubic')
