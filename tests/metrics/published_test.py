"""Examples whose values are published, and torchmetrics on random ones.

The examples are those of MetricsReloaded's tests (github.com/Project-MONAI/
MetricsReloaded), most of them figures of Reinke et al., Understanding
metric-related pitfalls in image analysis validation, Nature Methods 2024.
"""

import numpy as np
import pytest

from medjax import metrics
from medjax.metrics import (
  agreement,
  boundary,
  calibration,
  centreline,
  operating,
)
from medjax.metrics import classification as c

GRID = dict(num_classes=2, spacing=(1.0, 1.0))


def runs(*lengths):
  """Ones and zeros in turn."""
  return np.concatenate(
    [np.full(n, 1 - i % 2) for i, n in enumerate(lengths)]
  ).astype(bool)


def boxes(size, *places):
  """A square mask of boxes (row from, to, column from, to)."""
  mask = np.zeros((size, size), np.uint8)
  for a, b, left, right in places:
    mask[a:b, left:right] = 1
  return mask


def matrix(truth, predicted):
  return c.confusion_matrix(
    truth.astype(int), predicted.astype(int), num_classes=2
  )


def counted(truth, predicted):
  return c.counts(truth[:, None], predicted[:, None])


def test_a_rare_negative():  # figure 38
  truth, predicted = runs(1999, 1), runs(1499, 501)
  found = matrix(truth, predicted)
  assert agreement.mcc(found) == pytest.approx(0.0386, abs=1e-3)
  assert agreement.cohen_kappa(found) == pytest.approx(0.003, abs=1e-3)
  cells = counted(truth, predicted)
  sensitivity, specificity = c.recall(cells)[0], c.specificity(cells)[0]
  assert (sensitivity + specificity) / 2 == pytest.approx(0.87, abs=0.01)


def test_predictive_values():  # figure 17, SN 2.9
  truth, predicted = runs(50, 50), runs(45, 5, 10, 40)
  cells = counted(truth, predicted)
  assert c.npv(cells)[0] == pytest.approx(0.889, abs=1e-3)
  assert c.precision(cells)[0] == pytest.approx(0.82, abs=0.01)
  ratio = c.recall(cells)[0] / c.false_positive_rate(cells)[0]
  assert ratio == pytest.approx(4.5, abs=0.01)
  cells = counted(runs(90, 10), runs(81, 9, 2, 8))
  assert c.precision(cells)[0] == pytest.approx(0.98, abs=0.01)


def test_net_benefit():  # figure SN 2.11
  for truth, predicted, cheap, dear in (
    (runs(30, 75), runs(105), 0.206, -0.429),
    (runs(35, 70), runs(20, 15, 60, 10), 0.127, -0.381),
  ):
    found = operating.net_benefit(
      truth, predicted.astype(float), thresholds=(0.1, 0.5)
    )
    np.testing.assert_allclose(found.model, [cheap, dear], atol=1e-3)
    assert c.accuracy(truth[:, None], predicted[:, None]) == pytest.approx(
      0.286, abs=1e-3
    )


def test_a_square_and_a_cross():  # figure 10
  reference = boxes(11, (3, 8, 3, 8))
  prediction = boxes(11, (3, 8, 3, 8), (5, 6, 1, 10), (1, 10, 5, 6))
  pair = prediction, reference
  assert metrics.dice(*pair, num_classes=2)[0] == pytest.approx(0.862, abs=1e-3)
  assert metrics.iou(*pair, num_classes=2)[0] == pytest.approx(0.76, abs=0.01)
  assert metrics.assd(*pair, **GRID)[0] == pytest.approx(0.44, abs=0.01)
  assert metrics.masd(*pair, **GRID)[0] == pytest.approx(0.425, abs=1e-3)
  assert metrics.nsd(*pair, tolerance=1, **GRID)[0] == pytest.approx(
    0.89, abs=0.01
  )
  assert metrics.nsd(*pair, tolerance=2, **GRID)[0] == 1


def test_a_far_voxel():  # figure 20
  reference = boxes(14, (9, 12, 9, 12), (1, 2, 1, 2))
  prediction = boxes(14, (9, 12, 9, 12))
  assert metrics.hausdorff(prediction, reference, **GRID)[0] == pytest.approx(
    11.31, abs=0.01
  )


def test_a_missing_row():  # figure 21
  found = boundary.boundary_iou(
    boxes(22, (3, 21, 2, 21)) > 0,
    boxes(22, (2, 21, 2, 21)) > 0,
    spacing=(1, 1),
    width=1,
  )
  assert round(found, 1) == 0.6


@pytest.mark.parametrize(('top', 'value'), [(2, 0.86), (3, 0.67)])
def test_a_shorter_line(top, value):
  reference = boxes(14, (1, 4, 1, 2), (3, 4, 1, 4)) > 0
  prediction = boxes(14, (top, 4, 1, 2), (3, 4, 1, 4)) > 0
  found = centreline.cl_dice(prediction, reference)
  assert found == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize(
  ('bins', 'expected', 'largest'),
  [(2, 0.11, 0.12), (5, 0.32, 0.55), (10, 0.36, 0.96)],
)
def test_calibration_by_bins(bins, expected, largest):  # figure SN 2.24
  p = np.array([22, 48, 49, 96, 55, 64, 78, 82, 34, 87]) / 100
  truth = np.array([0, 1, 0, 0, 1, 1, 1, 1, 1, 0], bool)
  assert c.ece(p, truth, bins=bins) == pytest.approx(expected, abs=0.01)
  assert calibration.mce(p, truth, bins=bins) == pytest.approx(
    largest, abs=0.01
  )


def test_scores_of_probabilities():
  p, truth = np.array([[0.2, 0.8], [0.4, 0.6]]), np.eye(2, dtype=bool)[::-1]
  assert c.brier(truth, p).sum() == pytest.approx(0.4)
  assert calibration.nll(truth, p) == pytest.approx(0.57, abs=0.01)


# torchmetrics.


@pytest.fixture
def torch():
  return pytest.importorskip('torch')


@pytest.fixture
def theirs():
  pytest.importorskip('torchmetrics.functional.segmentation')
  return pytest.importorskip('torchmetrics.functional')


@pytest.mark.parametrize('seed', range(3))
def test_classes_are_torchmetrics(seed, torch, theirs):
  rng = np.random.default_rng(seed)
  label = rng.integers(4, size=90)
  p = rng.dirichlet(np.ones(4), 90).round(2)
  p = (p + 0.3 * np.eye(4)[label]) / (p.sum(1) + 0.3)[:, None]
  scores, truth = torch.tensor(p), torch.tensor(label)
  hot, decided = c.one_hot(label, 4), c.one_hot(p.argmax(1), 4)
  cells = c.counts(hot, decided)
  own = c.confusion_matrix(label, p.argmax(1), num_classes=4)
  each = dict(num_classes=4, average='none')
  k = theirs.classification
  for ours, want in (
    (c.precision(cells), k.multiclass_precision(scores, truth, **each)),
    (c.recall(cells), k.multiclass_recall(scores, truth, **each)),
    (c.specificity(cells), k.multiclass_specificity(scores, truth, **each)),
    (
      c.f_beta(cells, beta=2),
      k.multiclass_fbeta_score(scores, truth, 2.0, **each),
    ),
    (c.auroc(hot, p), k.multiclass_auroc(scores, truth, **each)),
    (c.auprc(hot, p), k.multiclass_average_precision(scores, truth, **each)),
    (own, k.multiclass_confusion_matrix(scores, truth, num_classes=4)),
    (agreement.mcc(own), k.multiclass_matthews_corrcoef(scores, truth, 4)),
    (
      agreement.cohen_kappa(own, weights='quadratic'),
      k.multiclass_cohen_kappa(scores, truth, 4, weights='quadratic'),
    ),
  ):
    np.testing.assert_allclose(ours, want, rtol=1e-5, atol=1e-6)
  # None on the border of a bin, which belongs to the one below or above.
  p = 0.99 * p + 0.01 * rng.dirichlet(np.ones(4), 90)
  for ours, norm in ((c.ece, 'l1'), (calibration.mce, 'max')):
    want = k.multiclass_calibration_error(torch.tensor(p), truth, 4, norm=norm)
    found = ours(p.max(1), p.argmax(1) == label)
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize('seed', range(3))
def test_points_of_operation_are_torchmetrics(seed, torch, theirs):
  rng = np.random.default_rng(seed)
  truth = rng.random(80) < 0.4
  p = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1).round(2)
  scores, label = torch.tensor(p), torch.tensor(truth.astype(int))
  columns = truth[:, None], p[:, None]
  k = theirs.classification
  want, _ = k.binary_sensitivity_at_specificity(scores, label, 0.8)
  found = operating.sensitivity_at_specificity(*columns, specificity=0.8)
  np.testing.assert_allclose(found, [want], rtol=1e-6)
  want, _ = k.binary_specificity_at_sensitivity(scores, label, 0.8)
  found = operating.specificity_at_sensitivity(*columns, sensitivity=0.8)
  np.testing.assert_allclose(found, [want], rtol=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_masks_are_torchmetrics(seed, torch, theirs):
  rng = np.random.default_rng(seed)
  reference, prediction = rng.integers(3, size=(2, 9, 11))
  one = lambda x: torch.tensor(
    np.moveaxis(np.eye(3)[x], -1, 0)[None].astype(int)
  )
  pair = one(prediction), one(reference)
  k = theirs.segmentation
  options = dict(num_classes=3, include_background=False)
  np.testing.assert_allclose(
    metrics.dice(prediction, reference, num_classes=3),
    k.dice_score(*pair, average='none', **options)[0],
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    metrics.iou(prediction, reference, num_classes=3),
    k.mean_iou(*pair, per_class=True, **options)[0],
    rtol=1e-5,
  )
