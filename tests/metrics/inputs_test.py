"""Every type a mask, a truth or a label map comes in: right, or refused."""

import jax
import jax.numpy as jnp
import jaxtyping
import ml_dtypes
import numpy as np
import pytest
from scipy import ndimage

from medjax import metrics
from medjax.metrics import (
  bootstrap,
  calibration,
  classification,
  delong,
  paired,
  segmentation,
  surface,
  uncertainty,
)

INTEGERS = [
  f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64)
]
TYPES = [
  *(np.dtype(t) for t in ('bool', *INTEGERS, 'float16', 'float32', 'float64')),
  np.dtype(ml_dtypes.bfloat16),
]
FORMS = [(t, 1) for t in TYPES] + [
  (t, 255) for t in TYPES if t not in (np.dtype(bool), np.dtype(np.int8))
]


def _id(form):
  return f'{form[0]}-{form[1]}'


RNG = np.random.default_rng(0)
P, R = (
  ndimage.gaussian_filter(RNG.normal(size=(9, 8, 7)), 1) > 0 for _ in range(2)
)
N = 40
TRUTH = RNG.random((N, 2)) < 0.5
DECIDED = TRUTH ^ (RNG.random((N, 2)) < 0.2)
SCORE = np.clip(0.3 * TRUTH + RNG.random((N, 2)) * 0.7, 0, 1)
PATIENTS = np.arange(N) // 2


def _of_masks(p, r):
  c = segmentation.counts(p, r)
  d = surface.surface_distances(p, r, spacing=(1, 1, 2))
  return [
    *(float(f(c)) for f in (
      segmentation.dice, segmentation.iou, segmentation.precision,
      segmentation.recall, segmentation.volume_error)),
    surface.hausdorff(d), surface.hd95(d), surface.assd(d),
    surface.nsd(d, tolerance=1.0),
    surface.surface(p).sum(), surface.bounding_box(p[:4])[0].stop,
  ]  # fmt: skip


def _of_truth(t, d):
  c = classification.counts(t, d)
  each = [
    *c, classification.precision(c), classification.recall(c),
    classification.specificity(c), classification.f1(c),
    classification.accuracy(t, d), classification.auroc(t, SCORE),
    classification.auprc(t, SCORE), classification.brier(t, SCORE),
    classification.threshold(t[:, 0], SCORE[:, 0]),
    classification.ece(SCORE[:, 0], t[:, 0]),
    *classification.roc_curve(t[:, 0], SCORE[:, 0])[:2],
    *classification.precision_recall_curve(t[:, 0], SCORE[:, 0])[:2],
    calibration.nll(t, SCORE, exclusive=False),
    calibration.temperature(t, SCORE, exclusive=False),
    *delong.delong(t[:, 0], SCORE[:, 0], SCORE[:, 1])[:4],
    paired.mcnemar(t[:, 0], d[:, 0]),
    *paired.auroc_difference_intervals(
      t, SCORE, SCORE[:, ::-1], PATIENTS, n_resamples=50),
  ]  # fmt: skip
  return np.concatenate([np.ravel(x) for x in each])


@pytest.mark.parametrize(('dtype', 'high'), FORMS, ids=map(_id, FORMS))
def test_a_mask_of_any_type_has_the_numbers_of_booleans(dtype, high):
  p, r = (np.where(x, high, 0).astype(dtype) for x in (P, R))
  np.testing.assert_array_equal(_of_masks(p, r), _of_masks(P, R))
  np.testing.assert_array_equal(_of_masks(P, r), _of_masks(P, R))
  if dtype.itemsize < 8:
    c = segmentation.counts(jnp.asarray(p), jnp.asarray(r))
    assert float(segmentation.dice(c)) == pytest.approx(_of_masks(P, R)[0])


@pytest.mark.parametrize(('dtype', 'high'), FORMS, ids=map(_id, FORMS))
def test_a_truth_of_any_type_has_the_numbers_of_booleans(dtype, high):
  t, d = (np.where(x, high, 0).astype(dtype) for x in (TRUTH, DECIDED))
  np.testing.assert_array_equal(_of_truth(t, d), _of_truth(TRUTH, DECIDED))


@pytest.mark.parametrize('dtype', TYPES[1:], ids=str)
def test_a_label_map_of_any_type_has_the_numbers_of_int(dtype):
  p, r = RNG.integers(4, size=(2, 9, 8))
  expected = metrics.dice(p, r, num_classes=4)
  ours = metrics.dice(p.astype(dtype), r.astype(dtype), num_classes=4)
  np.testing.assert_array_equal(ours, expected)
  for k in (1, 2, 3):
    c = segmentation.counts(p == k, r == k)
    assert expected[k - 1] == segmentation.dice(c)
    assert metrics.iou(p, r, num_classes=4)[k - 1] == segmentation.iou(c)
    d = surface.surface_distances(p == k, r == k, spacing=2.0)
    options = {'num_classes': 4, 'spacing': 2.0}
    assert metrics.hd95(p, r, **options)[k - 1] == surface.hd95(d)
    assert metrics.assd(p, r, **options)[k - 1] == surface.assd(d)
    ours = metrics.nsd(p, r, tolerance=2.0, **options)
    assert ours[k - 1] == surface.nsd(d, tolerance=2.0)
  matrix = classification.confusion_matrix(
    p.ravel().astype(dtype), r.ravel().astype(dtype), num_classes=20
  )
  assert matrix[2, 3] == ((p == 2) & (r == 3)).sum()


def test_class_indices_do_not_overflow_their_type():
  label = np.arange(20, dtype=np.uint8)
  matrix = classification.confusion_matrix(label, label, num_classes=20)
  np.testing.assert_array_equal(matrix, np.eye(20))
  wide = RNG.integers(200, size=300).astype(np.uint8)
  matrix = classification.confusion_matrix(wide, wide, num_classes=200)
  assert np.trace(matrix) == 300


@pytest.mark.parametrize(
  'bad',
  [
    RNG.integers(3, size=(9, 8, 7)),
    RNG.integers(3, size=(9, 8, 7)).astype(np.uint8),
    np.where(P, 2, 0),
    np.where(P, -1, 0),
    np.where(P, 255, R),
    np.where(P, 128, 0),
    RNG.random((9, 8, 7)),
    np.where(P, np.nan, 0),
    np.where(P, np.inf, 0),
  ],
  ids=['labels', 'uint8', '0/2', '0/-1', '0/1/255', '0/128', 'p', 'nan', 'inf'],
)
def test_what_is_no_mask_is_refused(bad):
  flat = bad.reshape(-1, 2)
  other = np.zeros_like(flat, bool)
  score = np.zeros(flat.shape)
  for call in (
    lambda: segmentation.counts(bad, R),
    lambda: segmentation.counts(R, bad),
    lambda: segmentation.counts(jnp.asarray(bad), jnp.asarray(R)),
    lambda: surface.surface_distances(bad, R, spacing=1),
    lambda: surface.surface_distances(R, bad, spacing=1),
    lambda: surface.surface(bad),
    lambda: surface.bounding_box(bad),
    lambda: segmentation.counts(P, R, valid=bad),
    lambda: classification.counts(flat, other),
    lambda: classification.counts(other, flat),
    lambda: classification.accuracy(flat, other),
    lambda: classification.areas(flat, score),
    lambda: classification.auroc(flat, score),
    lambda: classification.auprc(flat, score),
    lambda: classification.brier(flat, score),
    lambda: classification.ece(score[:, 0], flat[:, 0]),
    lambda: classification.roc_curve(flat[:, 0], score[:, 0]),
    lambda: classification.precision_recall_curve(flat[:, 0], score[:, 0]),
    lambda: classification.threshold(flat[:, 0], score[:, 0]),
    lambda: calibration.nll(flat, score, exclusive=False),
    lambda: calibration.temperature(flat, score, exclusive=False),
    lambda: delong.placements(flat[:, 0], score[:, 0]),
    lambda: paired.mcnemar(flat[:, 0], other[:, 0]),
  ):
    with pytest.raises(ValueError, match='must be 0/1 or 0/255'):
      call()


def test_a_refusal_names_what_was_found():
  bad = np.array([0, 1, 255, 7])
  with pytest.raises(ValueError, match='but holds 7'):
    segmentation.counts(bad, bad)
  with pytest.raises(ValueError, match='holds both 1 and 255'):
    segmentation.counts(bad[:3], bad[:3])


def test_values_unseen_under_jit_are_refused_but_booleans_pass():
  f = jax.jit(lambda p, r: segmentation.dice(segmentation.counts(p, r)))
  with pytest.raises(ValueError, match='under jit a mask must be bool'):
    f(jnp.asarray(P, int), jnp.asarray(R, int))
  assert float(f(jnp.asarray(P), jnp.asarray(R))) == pytest.approx(
    _of_masks(P, R)[0]
  )


@pytest.mark.parametrize(
  ('bad', 'message'),
  [
    (np.array([[0, 3]]), 'holds 3, but num_classes=3 allows 0 to 2'),
    (np.array([[-1, 0]]), 'holds -1'),
    (np.array([[0, 255]], np.uint8), 'holds 255'),
    (np.array([[0.0, 1.5]]), 'whole numbers'),
    (np.array([[0.0, np.nan]]), 'holds nan'),
  ],
)
def test_what_is_no_label_map_is_refused(bad, message):
  good = np.zeros_like(bad, int)
  for pair in ((bad, good), (good, bad)):
    with pytest.raises(ValueError, match=message):
      metrics.dice(*pair, num_classes=3)
    with pytest.raises(ValueError, match=message):
      metrics.hd95(*pair, num_classes=3, spacing=1)
    with pytest.raises(ValueError, match=message):
      classification.confusion_matrix(*(x[0] for x in pair), num_classes=3)
  with pytest.raises(ValueError, match=message):
    classification.one_hot(bad[0], 3)


@pytest.fixture
def unchecked():
  """Outside of pytest nobody checks the annotations."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)


@pytest.mark.usefixtures('unchecked')
def test_shapes_are_never_broadcast():
  a, b = np.zeros((4, 1), bool), np.zeros((4, 3), bool)
  for call in (
    lambda: segmentation.counts(a, b),
    lambda: metrics.dice(a, b, num_classes=2),
    lambda: metrics.dice(b, b, num_classes=2, valid=a),
    lambda: surface.surface_distances(a, b, spacing=1),
    lambda: classification.counts(a, b),
    lambda: classification.accuracy(a, b),
    lambda: classification.brier(a, b * 0.5),
    lambda: classification.auroc(a, b * 0.5),
    lambda: calibration.nll(a, b * 0.5, exclusive=False),
    lambda: paired.mcnemar(a[:, 0], b[:3, 0]),
    lambda: paired.mean_difference_intervals(a, b, np.arange(4)),
  ):
    with pytest.raises(ValueError, match='different shapes'):
      call()
  with pytest.raises(ValueError, match='2 numbers for an image of 3 axes'):
    surface.surface_distances(P, R, spacing=(1, 1))
  with pytest.raises(ValueError, match='3 weights for 40 cases'):
    classification.counts(TRUTH, TRUTH, weights=np.ones(3))
  with pytest.raises(ValueError, match='negative or NaN'):
    classification.auroc(TRUTH, SCORE, weights=np.full(N, np.nan))


def test_what_is_no_probability_is_refused():
  for bad in (SCORE * 255, SCORE - 0.5, (SCORE * 255).astype(np.uint8)):
    for call in (
      lambda bad: classification.brier(TRUTH, bad),
      lambda bad: classification.ece(bad[:, 0], TRUTH[:, 0]),
      lambda bad: classification.reliability(bad[:, 0], TRUTH[:, 0]),
      lambda bad: calibration.nll(TRUTH, bad, exclusive=False),
      lambda bad: calibration.temperature(TRUTH, bad, exclusive=False),
      lambda bad: calibration.scaled(bad, 2.0, exclusive=False),
      lambda bad: uncertainty.entropy(bad, exclusive=False),
      lambda bad: uncertainty.uncertainty(bad, exclusive=False),
    ):
      with pytest.raises(ValueError, match='must be from 0 to 1'):
        call(bad)
  one_hot = np.eye(2, dtype=bool)[np.arange(N) % 2]
  for call in (
    lambda: calibration.nll(one_hot, SCORE),
    lambda: calibration.scaled(SCORE, 2.0),
    lambda: uncertainty.entropy(SCORE),
  ):
    with pytest.raises(ValueError, match='must sum to 1'):
      call()
  with pytest.raises(ValueError, match='one-hot'):
    calibration.nll(np.ones((N, 2), bool), np.full((N, 2), 0.5))


@pytest.mark.parametrize('dtype', TYPES, ids=str)
def test_values_of_any_type_have_the_numbers_of_float(dtype):
  a, b = (RNG.integers(2, size=20).astype(dtype) for _ in range(2))
  f, g = a.astype(float), b.astype(float)
  groups = np.arange(20) // 2
  for ours, expected in (
    (paired.group_mean(a, groups), paired.group_mean(f, groups)),
    (paired.wilcoxon(a), paired.wilcoxon(f)),
    (
      paired.mean_difference_intervals(a, b, groups, n_resamples=50),
      paired.mean_difference_intervals(f, g, groups, n_resamples=50),
    ),
    (bootstrap.weighted_mean(a, b), bootstrap.weighted_mean(f, g)),
    (paired.benjamini_hochberg(a), paired.benjamini_hochberg(f)),
    (
      uncertainty.entropy(a[:, None], exclusive=False),
      uncertainty.entropy(f[:, None], exclusive=False),
    ),
  ):
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize('dtype', INTEGERS)
def test_counts_of_any_type_neither_wrap_nor_overflow(dtype):
  c = segmentation.Counts(*(np.asarray(v, dtype) for v in (100, 3, 5)))
  assert segmentation.volume_error(c) == pytest.approx(-2 / 105)
  assert segmentation.dice(c) == pytest.approx(200 / 208)
  cells = (np.asarray([v], dtype) for v in (100, 100, 120, 90))
  c = classification.Counts(*cells)
  assert classification.precision(c) == 0.5
  assert classification.f1(c) == pytest.approx(200 / 420)
  assert classification.f_beta(c, beta=2) == pytest.approx(500 / 1080)
  assert classification.npv(c) == pytest.approx(90 / 210)
  plain = segmentation.Counts(100, 3, 5)
  assert segmentation.dice(plain) == pytest.approx(200 / 208)


def test_voxels_that_are_not_valid_are_left_out():
  p, r = RNG.integers(3, size=(2, 9, 8))
  valid = RNG.random((9, 8)) < 0.6
  marked = np.where(valid, r, 255)  # an ignore label outside the classes
  options = {'num_classes': 3, 'valid': valid}
  for k in (1, 2):
    pk, rk = (p == k)[valid], (r == k)[valid]
    expected = 2 * (pk & rk).sum() / (pk.sum() + rk.sum())
    assert metrics.dice(p, marked, **options)[k - 1] == expected
    c = segmentation.counts(p == k, r == k, valid=valid)
    assert segmentation.dice(c) == expected
  a = metrics.hd95(p, marked, spacing=1, **options)
  b = metrics.hd95(p * valid, r * valid, num_classes=3, spacing=1)
  np.testing.assert_array_equal(a, b)


def test_a_group_without_a_name_is_refused():
  with pytest.raises(ValueError, match='no patient'):
    next(bootstrap.resamples(np.array([1.0, np.nan])))
