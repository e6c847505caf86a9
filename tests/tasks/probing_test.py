"""What embeddings say of labels: against scikit-learn, loops, closed forms."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from medjax import tasks
from medjax.tasks import probing

RNG = np.random.default_rng(0)
KNOWN, ASKED = RNG.normal(size=(60, 6)), RNG.normal(size=(25, 6))
KNOWN[:, 5] = ASKED[:, 5] = 3.0  # a dimension that says nothing
LABEL = (KNOWN[:, 0] + 0.5 * RNG.normal(size=60) > 0).astype(int)
LABEL = LABEL + (KNOWN[:, 1] > 0.8)
LABELS = np.stack([KNOWN[:, 0] > 0, KNOWN[:, 1] + KNOWN[:, 2] > 0], 1)
TASK = tasks.SimCLR(class_names=('no', 'yes'), neighbours=3)


@pytest.mark.parametrize('label', [LABEL, LABEL > 0, LABELS])
def test_the_linear_probe_is_that_of_scikit_learn(label):
  label = label.astype(int)
  scaler = StandardScaler().fit(KNOWN)
  theirs = LogisticRegression(C=0.5, tol=1e-8, max_iter=2000)
  if label.ndim > 1:
    theirs = OneVsRestClassifier(theirs)
  theirs.fit(scaler.transform(KNOWN), label)
  expected = theirs.predict_proba(scaler.transform(ASKED))
  classes = expected.shape[1]
  # Of two classes scikit-learn has one column, of which the penalty is twice.
  cost = 0.5 * (0.5 if classes == 2 and label.ndim == 1 else 1)
  found = probing.linear(KNOWN, label, ASKED, num_classes=classes, cost=cost)
  np.testing.assert_allclose(found, expected, atol=2e-3)


def test_nearest_neighbours_against_a_loop():
  mean = KNOWN.mean(0)
  for x, p in zip(
    ASKED, probing.nearest(KNOWN, LABEL, ASKED, num_classes=3, count=5),
    strict=True,
  ):  # fmt: skip
    x = (x - mean) / np.linalg.norm(x - mean)
    cosines = [(k - mean) @ x / np.linalg.norm(k - mean) for k in KNOWN]
    votes = np.zeros(3)
    for i in sorted(range(60), key=lambda i: -cosines[i])[:5]:
      votes[LABEL[i]] += np.exp(cosines[i] / 0.07)
    np.testing.assert_allclose(p, votes / votes.sum(), rtol=1e-6)
  every = probing.nearest(KNOWN, LABEL, ASKED, num_classes=3, count=999)
  assert np.isfinite(every).all()


def test_spread_and_rank_in_closed_form():
  assert probing.spread(np.ones((5, 3))) == pytest.approx(0, abs=1e-7)
  assert np.isnan(probing.spread(np.ones((1, 3))))
  even = RNG.normal(size=(4000, 16))
  assert probing.spread(even) == pytest.approx(1, abs=0.02)
  assert probing.spread(even + 100) < 0.02
  # Singular values that are alike, in 3 of 8 dimensions.
  axes = np.vstack([np.eye(3, 8), -np.eye(3, 8)])
  assert probing.effective_rank(axes + 7) == pytest.approx(3)
  assert np.isnan(probing.effective_rank(np.ones((5, 3))))


def rows(x, label=None):
  found = []
  for i, v in enumerate(x):
    case = {'id': str(i)} | ({} if label is None else {'label': label[i]})
    found.append(
      {'id': str(i), **TASK.metrics({'pooled': v, 'projection': v}, case)}
    )
  return found


def test_labels_are_told_where_there_are_any():
  label = (KNOWN[:, 0] > 0).astype(int)
  known, asked = rows(KNOWN, label), rows(KNOWN[:20], label[:20])
  asked[3] = rows(KNOWN[3:4])[0]  # one without a label
  found = TASK.compared(asked, known)
  assert ['probe' in row for row in found] == [i != 3 for i in range(20)]
  scores = TASK.summarize(found, n_resamples=50)
  assert scores['scores']['probe_auroc'] > 0.98
  bounds = scores['intervals']['knn_accuracy']
  assert scores['scores']['knn_accuracy'] == 1
  assert bounds == [None, None]  # all are right in every resample
  for odd in (rows(KNOWN), rows(KNOWN, np.zeros(60, int))):
    assert TASK.compared(asked, odd) == asked
  nothing = TASK.summarize(rows(KNOWN), n_resamples=0)['scores']
  assert nothing['probe_auroc'] is nothing['knn_auroc'] is None
  assert nothing['spread'] > 0.1
  assert {'newest', TASK.monitor} <= set(nothing)


@pytest.mark.parametrize('label', [np.nan, 0.5, 2, -1, np.array([0, 7])])
def test_a_label_that_is_no_class_is_none(label):
  assert 'truth' not in rows(KNOWN[:1], [label])[0]


def test_labels_that_may_be_together():
  found = TASK.compared(rows(ASKED, LABELS[:25]), rows(KNOWN, LABELS))
  scores = TASK.summarize(found, n_resamples=0)['scores']
  assert 0 <= scores['knn_auroc'] <= 1


def test_a_collapse_stops_with_a_line():
  alike = np.ones((20, 6)) + 1e-4 * RNG.normal(size=(20, 6))
  with pytest.raises(ValueError, match=r'20 cases are alike.*has collapsed'):
    TASK.summarize(rows(alike))
  goes_on = tasks.SimCLR(least_spread=0)
  assert (
    goes_on.summarize(rows(alike), n_resamples=0)['scores']['spread'] < 0.01
  )
  # The projection is looked at, of which the pooled may know nothing.
  mixed = [row | {'pooled': ASKED[i]} for i, row in enumerate(rows(alike))]
  with pytest.raises(ValueError, match='collapsed'):
    TASK.summarize(mixed)


def test_an_embedding_that_is_not_finite_is_refused():
  with pytest.raises(ValueError, match="case 'a': its pooled is not finite"):
    TASK.metrics({'pooled': np.array([np.nan])}, {'id': 'a'})
