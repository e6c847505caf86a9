"""Classification metrics against scikit-learn, with ties and sample weights."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax.metrics import classification as m

K = 3


def _data(n=60, k=K, seed=0, decimals=1):
  """Labels and probabilities; rounding makes ties."""
  rng = np.random.default_rng(seed)
  label = rng.integers(k, size=n)
  p = rng.dirichlet(np.ones(k), size=n) + np.eye(k)[label] * 0.5
  p = np.round(p / p.sum(1, keepdims=True), decimals)
  weights = rng.integers(0, 4, size=n).astype(float)
  return label, p, weights


def _hot(label, k=K):
  return m.one_hot(label, k)


@pytest.mark.parametrize('weighted', [False, True])
def test_decision_metrics_are_sklearns(weighted):
  label, p, w = _data()
  w = w if weighted else None
  predicted = p.argmax(1)
  truth, decided = _hot(label), _hot(predicted)
  c = m.counts(truth, decided, weights=w)
  ours = np.stack([m.precision(c), m.recall(c), m.f1(c)])
  theirs = sklearn_metrics.precision_recall_fscore_support(
    label, predicted, sample_weight=w, zero_division=np.nan
  )
  np.testing.assert_allclose(ours, theirs[:3], rtol=1e-12)
  np.testing.assert_allclose(
    m.specificity(c),
    [
      sklearn_metrics.recall_score(label != k, predicted != k, sample_weight=w)
      for k in range(K)
    ],
    rtol=1e-12,
  )
  np.testing.assert_allclose(
    m.accuracy(truth, decided, weights=w),
    [
      sklearn_metrics.accuracy_score(
        label == k, predicted == k, sample_weight=w
      )
      for k in range(K)
    ],
    rtol=1e-12,
  )
  np.testing.assert_allclose(
    m.defined_mean(m.recall(c)),
    sklearn_metrics.balanced_accuracy_score(label, predicted, sample_weight=w),
    rtol=1e-12,
  )
  np.testing.assert_array_equal(
    m.confusion_matrix(label, predicted, num_classes=K, weights=w),
    sklearn_metrics.confusion_matrix(label, predicted, sample_weight=w),
  )


@pytest.mark.parametrize('weighted', [False, True])
def test_rates_and_f_beta_are_sklearns(weighted):
  label, p, w = _data()
  w = w if weighted else None
  predicted = p.argmax(1)
  c = m.counts(_hot(label), _hot(predicted), weights=w)
  for k in range(K):
    pair, options = (label == k, predicted == k), {'sample_weight': w}
    negatives = tuple(~x for x in pair)
    assert m.npv(c)[k] == pytest.approx(
      sklearn_metrics.precision_score(*negatives, **options)
    )
    assert m.false_positive_rate(c)[k] == pytest.approx(
      1 - sklearn_metrics.recall_score(*negatives, **options)
    )
    for beta in (0.5, 1, 2):
      assert m.f_beta(c, beta=beta)[k] == pytest.approx(
        sklearn_metrics.fbeta_score(*pair, beta=beta, **options)
      )
  np.testing.assert_allclose(m.f_beta(c, beta=1), m.f1(c))
  with pytest.raises(ValueError, match='beta must be positive'):
    m.f_beta(c, beta=0)


def test_npv_where_nothing_is_called_negative():
  truth = np.array([[True], [False]])
  assert m.npv(m.counts(truth, truth | True)) == 0
  assert np.isnan(m.npv(m.counts(truth | True, truth | True)))
  assert np.isnan(m.false_positive_rate(m.counts(truth | True, truth)))


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('decimals', [1, 15])
def test_ranking_metrics_are_sklearns(weighted, decimals):
  label, p, w = _data(decimals=decimals)
  w = w if weighted else None
  truth = _hot(label)
  for ours, theirs in (
    (m.auroc, sklearn_metrics.roc_auc_score),
    (m.auprc, sklearn_metrics.average_precision_score),
  ):
    expected = [theirs(truth[:, k], p[:, k], sample_weight=w) for k in range(K)]
    np.testing.assert_allclose(ours(truth, p, weights=w), expected, rtol=1e-12)
  both = m.areas(truth, p, weights=w)
  np.testing.assert_array_equal(both[0], m.auroc(truth, p, weights=w))


def test_weights_with_leading_axes_are_one_row_each():
  label, p, _ = _data()
  truth = _hot(label)
  w = np.random.default_rng(1).integers(0, 3, (2, 5, len(label))) * 1.0
  together = m.auroc(truth, p, weights=w), m.auprc(truth, p, weights=w)
  assert together[0].shape == (2, 5, K)
  for i in np.ndindex(2, 5):
    np.testing.assert_allclose(
      together[0][i], m.auroc(truth, p, weights=w[i]), rtol=1e-12
    )
    np.testing.assert_allclose(
      together[1][i], m.auprc(truth, p, weights=w[i]), rtol=1e-12
    )
  rows = m.brier(truth, p, weights=w)
  np.testing.assert_allclose(rows[1, 2], m.brier(truth, p, weights=w[1, 2]))
  matrix = m.confusion_matrix(label, label, num_classes=K, weights=w)
  assert matrix.shape == (2, 5, K, K)


def test_one_class_only_is_undefined():
  truth = np.ones((4, 1), bool)
  score = np.array([[0.1], [0.2], [0.3], [0.4]])
  assert np.isnan(m.auroc(truth, score)).all()
  assert np.isnan(m.auroc(~truth, score)).all()
  assert m.auprc(truth, score) == 1
  assert np.isnan(m.auprc(~truth, score)).all()
  assert np.isnan(m.threshold(truth[:, 0], score[:, 0]))


def test_all_scores_tied_is_chance():
  truth = np.array([[True], [False], [True], [False]])
  score = np.full((4, 1), 0.3)
  assert m.auroc(truth, score) == 0.5
  assert m.auprc(truth, score) == 0.5


def test_a_class_never_predicted_does_not_leave_the_mean():
  truth = np.array([[True, False], [False, True]])
  predicted = np.array([[True, False], [True, False]])
  c = m.counts(truth, predicted)
  np.testing.assert_array_equal(m.precision(c), [0.5, 0])
  absent = m.counts(truth & False, predicted & False)
  assert np.isnan(m.precision(absent)).all()
  assert np.isnan(m.f1(absent)).all()


@pytest.mark.parametrize(
  'function', [m.auroc, m.auprc, m.brier], ids=lambda f: f.__name__
)
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_nan_score_is_an_error(function, bad):
  truth = np.array([[True], [False]])
  with pytest.raises(ValueError, match='1 of 2 scores'):
    function(truth, np.array([[bad], [0.2]]))


def test_brier_is_sklearns():
  label, p, w = _data(k=2)
  ours = m.brier(_hot(label, 2), p, weights=w)
  theirs = sklearn_metrics.brier_score_loss(label, p[:, 1], sample_weight=w)
  np.testing.assert_allclose(ours[1], theirs, rtol=1e-12)
  label, p, w = _data(decimals=15)
  p /= p.sum(1, keepdims=True)
  ours = m.brier(_hot(label), p, weights=w).sum()
  theirs = sklearn_metrics.brier_score_loss(label, p, sample_weight=w)
  np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_ece_is_the_formula_bin_by_bin():
  label, p, _ = _data(decimals=3)
  confidence, right = p.max(1), p.argmax(1) == label
  expected = 0.0
  for low in range(15):
    inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
    if inside.any():
      gap = abs(confidence[inside].mean() - right[inside].mean())
      expected += inside.mean() * gap
  np.testing.assert_allclose(m.ece(confidence, right), expected, rtol=1e-12)
  edge = m.reliability(np.array([0.0, 1.0]), np.array([False, True]))
  assert edge[2][0] == edge[2][14] == 1
  assert np.isnan(edge[0][1])


def test_perfectly_calibrated_has_no_ece():
  confidence = np.repeat([0.2, 0.8], 10)
  right = np.tile(np.arange(10) < 2, 2)
  right[10:] = np.arange(10) < 8
  assert m.ece(confidence, right) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('decimals', [1, 15])
def test_curves_are_sklearns(decimals):
  label, p, _ = _data(k=2, decimals=decimals)
  truth, score = label == 1, p[:, 1]
  fpr, tpr, threshold = m.roc_curve(truth, score)
  theirs = sklearn_metrics.roc_curve(truth, score, drop_intermediate=False)
  for ours, other in zip((fpr, tpr, threshold), theirs, strict=True):
    np.testing.assert_allclose(ours, other, rtol=1e-12)
  recall, precision, threshold = m.precision_recall_curve(truth, score)
  other = sklearn_metrics.precision_recall_curve(truth, score)
  np.testing.assert_allclose(precision, other[0][::-1], rtol=1e-12)
  np.testing.assert_allclose(recall, other[1][::-1], rtol=1e-12)
  np.testing.assert_allclose(threshold[1:], other[2][::-1], rtol=1e-12)


@pytest.mark.parametrize('criterion', ['youden', 'f1'])
@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('decimals', [1, 15])
def test_threshold_is_the_best_of_all(criterion, seed, decimals):
  label, p, _ = _data(n=25, k=2, seed=seed, decimals=decimals)
  truth, score = label == 1, p[:, 1]

  def value(t):
    c = m.counts(truth[:, None], (score > t)[:, None])
    if criterion == 'f1':
      return m.f1(c)[0]
    return m.recall(c)[0] + m.specificity(c)[0] - 1

  best = max(value(t) for t in np.linspace(-0.01, 1.01, 2000))
  chosen = m.threshold(truth, score, criterion=criterion)
  assert value(chosen) == pytest.approx(best)


def test_the_highest_score_weighs_no_more_than_others():
  truth = np.array([0, 1, 0, 0, 0, 1])
  score = np.array([0.1, 0.3, 0.6, 0.7, 0.8, 0.9])
  assert m.threshold(truth, score) == pytest.approx(0.85)


def test_threshold_of_separable_scores_lies_midway():
  truth = np.array([False, False, True, True])
  assert m.threshold(truth, np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(
    0.4
  )
  with pytest.raises(ValueError, match='youden'):
    m.threshold(truth, np.zeros(4), criterion='best')
