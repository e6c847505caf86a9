"""Lesions matched: drawn cases, brute force, the identity of PQ."""

import itertools

import numpy as np
import pytest

from medjax.metrics import lesions as m
from medjax.metrics import segmentation


def _boxes(*boxes, shape=(20, 20)):
  mask = np.zeros(shape, bool)
  for a, b, c, d in boxes:
    mask[a:b, c:d] = True
  return mask


def test_a_drawn_case():
  reference = _boxes((0, 4, 0, 4), (8, 12, 8, 12), (16, 18, 16, 18))
  prediction = _boxes((0, 4, 1, 5), (8, 12, 8, 12), (0, 2, 15, 17))
  found = m.match(prediction, reference)
  assert (found.predictions, found.references) == (3, 3)
  np.testing.assert_allclose(np.sort(found.iou), [12 / 20, 1])
  assert m.counts(found) == (2, 1, 1)
  assert m.f1(found) == pytest.approx(2 / 3)
  assert m.sensitivity(found) == m.precision(found) == pytest.approx(2 / 3)
  assert m.segmentation_quality(found) == pytest.approx(0.8)
  assert m.panoptic_quality(found) == pytest.approx(1.6 / 3)
  assert m.counts(m.match(prediction, reference, threshold=0.6)) == (1, 2, 2)


def test_counts_add_over_cases():
  a = m.match(_boxes((0, 4, 0, 4)), _boxes((0, 4, 0, 4)))
  b = m.match(_boxes((0, 4, 0, 4)), _boxes((9, 12, 9, 12)))
  total = segmentation.Counts(*np.add(m.counts(a), m.counts(b)))
  assert segmentation.dice(total) == pytest.approx(2 / 4)


def test_pairs_are_one_to_one_and_the_best():
  """One blob over two lesions, and a lesion under two blobs: brute force."""
  rng = np.random.default_rng(0)
  for _ in range(20):
    prediction, reference = rng.random((2, 12, 12)) < 0.35
    found = m.match(prediction, reference, threshold=0.05, faces=True)
    iou = m.overlaps(
      m.components(prediction, faces=True)[0],
      m.components(reference, faces=True)[0],
    )
    iou = np.where(iou > 0.05, iou, 0)[iou.any(1)][:, iou.any(0)]
    assert len(set(found.pairs[:, 0])) == len(found.pairs)
    assert len(set(found.pairs[:, 1])) == len(found.pairs)
    if max(iou.shape) > 6:
      continue
    small, large = sorted(iou.shape)
    table = iou if iou.shape[0] == small else iou.T
    best = max(
      sum(table[i, j] for i, j in enumerate(order))
      for order in itertools.permutations(range(large), small)
    )
    assert found.iou.sum() == pytest.approx(best)


def test_overlaps_are_those_of_the_masks():
  rng = np.random.default_rng(1)
  p, r = rng.integers(4, size=(2, 6, 7))
  found = m.overlaps(p, r)
  for i, j in np.ndindex(3, 3):
    a, b = p == i + 1, r == j + 1
    assert found[i, j] == (a & b).sum() / (a | b).sum()


def test_panoptic_quality_is_recognition_times_segmentation():
  rng = np.random.default_rng(2)
  reference = rng.random((8, 9, 7)) < 0.1
  prediction = reference ^ (rng.random((8, 9, 7)) < 0.02)
  found = m.match(prediction, reference, threshold=0.2)
  assert len(found.pairs)
  product = m.f1(found) * m.segmentation_quality(found)
  assert m.panoptic_quality(found) == pytest.approx(product)


def test_corners_join_unless_faces_are_asked():
  diagonal = np.eye(3, dtype=np.uint8) * 255
  assert m.components(diagonal)[1] == 1
  assert m.components(diagonal, faces=True)[1] == 3


def test_nothing_there():
  empty, one = np.zeros((5, 5), bool), _boxes((0, 2, 0, 2), shape=(5, 5))
  none = m.match(empty, empty)
  assert np.isnan([m.f1(none), m.panoptic_quality(none)]).all()
  assert np.isnan([m.sensitivity(none), m.segmentation_quality(none)]).all()
  missed = m.match(empty, one)
  assert m.f1(missed) == m.panoptic_quality(missed) == 0
  assert m.sensitivity(missed) == m.precision(missed) == 0
  false = m.match(one, empty)
  assert m.f1(false) == m.panoptic_quality(false) == 0
  assert np.isnan(m.sensitivity(false))


def test_what_is_no_mask_is_refused():
  labels = np.arange(4).reshape(2, 2)
  with pytest.raises(ValueError, match='0/1 or 0/255'):
    m.match(labels, labels)
  for threshold in (50, 1, -0.1):
    with pytest.raises(ValueError, match='threshold must be'):
      m.match(labels > 0, labels > 0, threshold=threshold)
