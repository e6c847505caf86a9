"""Overlap metrics: the rule table, numpy and jax alike, MONAI and nnU-Net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.metrics import segmentation as m

FUNCTIONS = (m.dice, m.iou, m.precision, m.recall, m.volume_error)


def _masks(shape, seed=0, density=0.4):
  rng = np.random.default_rng(seed)
  return rng.random(shape) < density, rng.random(shape) < density


@pytest.mark.parametrize('shape', [(9, 8), (6, 5, 4)])
def test_values_are_those_of_the_flat_vectors(shape):
  sklearn_metrics = pytest.importorskip('sklearn.metrics')
  p, r = _masks(shape)
  c = m.counts(p, r)
  flat = r.ravel(), p.ravel()
  assert m.dice(c) == pytest.approx(sklearn_metrics.f1_score(*flat))
  assert m.iou(c) == pytest.approx(sklearn_metrics.jaccard_score(*flat))
  assert m.precision(c) == pytest.approx(sklearn_metrics.precision_score(*flat))
  assert m.recall(c) == pytest.approx(sklearn_metrics.recall_score(*flat))
  assert m.volume_error(c) == pytest.approx((p.sum() - r.sum()) / r.sum())


@pytest.mark.parametrize('namespace', [np, jnp])
@pytest.mark.parametrize(
  ('prediction', 'reference', 'expected'),
  [
    (0, 0, [np.nan, np.nan, np.nan, np.nan, np.nan]),
    (0, 1, [0, 0, 0, 0, -1]),
    (1, 0, [0, 0, 0, np.nan, np.nan]),
    (1, 1, [1, 1, 1, 1, 0]),
  ],
)
def test_rule_table(namespace, prediction, reference, expected):
  p = namespace.full((3, 3), bool(prediction))
  r = namespace.full((3, 3), bool(reference))
  c = m.counts(p, r)
  np.testing.assert_array_equal([float(f(c)) for f in FUNCTIONS], expected)


@pytest.mark.parametrize('dtype', [np.uint8, np.int32])
def test_label_maps_under_jit_and_vmap(dtype):
  rng = np.random.default_rng(0)
  p, r = rng.integers(4, size=(2, 3, 7, 6)).astype(dtype)

  def metrics(prediction, reference):
    c = m.label_counts(prediction, reference, num_classes=5)
    return [f(c) for f in FUNCTIONS]

  mapped = jax.jit(jax.vmap(metrics))(jnp.asarray(p), jnp.asarray(r))
  for i in range(3):
    host = metrics(p[i], r[i])
    assert host[0].shape == (4,)
    assert np.isnan(host[0][3])
    for ours, other in zip(mapped, host, strict=True):
      np.testing.assert_allclose(ours[i], other, rtol=1e-6)


def test_counts_can_be_mapped_over_a_class_axis():
  p, r = _masks((7, 6, 3))
  c = jax.vmap(m.counts, -1)(jnp.asarray(p), jnp.asarray(r))
  expected = [m.counts(p[..., k], r[..., k]) for k in range(3)]
  for ours, other in zip(c, zip(*expected, strict=True), strict=True):
    np.testing.assert_array_equal(ours, other)


def test_non_contiguous_masks():
  p, r = _masks((8, 10))
  strided = m.dice(m.counts(p[::2, ::-3], r[::2, ::-3]))
  copied = m.dice(m.counts(p[::2, ::-3].copy(), r[::2, ::-3].copy()))
  assert strided == copied


def test_dice_is_monais():
  monai = pytest.importorskip('monai')
  torch = pytest.importorskip('torch')
  p, r = _masks((2, 3, 7, 6))
  r[1, 2] = False
  theirs = monai.metrics.compute_dice(
    torch.as_tensor(p), torch.as_tensor(r), ignore_empty=True
  )
  for i in np.ndindex(2, 3):
    ours = m.dice(m.counts(p[i], r[i]))
    if r[i].any():
      assert ours == pytest.approx(float(theirs[i]))
    else:  # The stated difference: a false positive is 0 here, NaN there.
      assert ours == 0
      assert np.isnan(theirs[i])
