"""The segmentation task: loss, decoding, per-case metrics, summary."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from medjax import build, losses, tasks
from medjax.tasks import segmentation_scores

BRATS = ((1, 2, 3), (2, 3), (3,))


def loss_of(task, outputs, batch):
  """The loss where the model gives these outputs."""
  return task.loss(lambda image: outputs, {'image': None, **batch})


def _logits(shape, k, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=(*shape, k)), jnp.float32
  )


def _mask(shape, k, seed=1):
  return jnp.asarray(np.random.default_rng(seed).integers(k, size=shape))


def _case(mask, spacing=None, name='c1'):
  case = {'id': name, 'patient': name, 'mask': np.asarray(mask)}
  affine = np.diag([*(spacing or np.ones(case['mask'].ndim)), 1.0])
  return case | {'affine': affine}


def test_builds_from_a_config_and_hashes():
  config = ml_collections.ConfigDict(
    {
      'name': 'Segmentation',
      'num_classes': 4,
      'loss': {'dice': 1.0, 'binary_cross_entropy': {'weight': 0.5}},
      'regions': [[1, 2, 3], [2, 3], [3]],
      'class_names': ['whole', 'core', 'enhancing'],
    }
  )
  task = build.build(tasks, config)
  assert task.num_outputs == 3
  assert task.regions == BRATS
  assert task.region_order == (1, 2, 3)
  assert task.names == ('whole', 'core', 'enhancing')
  assert task == build.build(tasks, config)
  assert hash(task) == hash(build.build(tasks, config))
  other = dataclasses.replace(task, loss=task.terms, nsd_tolerance=2.0)
  assert other.terms == task.terms
  assert other != task


def test_default_losses_and_names():
  task = tasks.Segmentation(num_classes=3)
  assert [t[:2] for t in task.terms] == [('dice', 1), ('cross_entropy', 1)]
  assert task.names == ('1', '2')
  assert task.num_outputs == 3
  assert task.monitor == 'dice'
  task = tasks.Segmentation(num_classes=4, regions=BRATS)
  assert task.terms[1][0] == 'binary_cross_entropy'
  assert task.names == ('1+2+3', '2+3', '3')


@pytest.mark.parametrize('shape', [(2, 8, 6), (1, 4, 6, 4)])
def test_loss_is_the_weighted_sum(shape):
  task = tasks.Segmentation(
    num_classes=3, loss={'dice': 2.0, 'cross_entropy': 0.5}
  )
  logits, mask = _logits(shape, 3), _mask(shape, 3)
  expected = 2 * losses.dice(logits, mask)
  expected += 0.5 * losses.cross_entropy(logits, mask)
  actual = jax.jit(functools.partial(loss_of, task))(logits, {'mask': mask})
  assert actual.shape == shape[:1]
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_regions_loss_reads_unions_of_labels():
  task = tasks.Segmentation(num_classes=4, regions=BRATS)
  logits, mask = _logits((2, 6, 6), 3), _mask((2, 6, 6), 4)
  hot = jnp.stack([mask > 0, mask > 1, mask > 2], -1)
  expected = losses.dice(logits, hot, multi_label=True)
  expected += losses.binary_cross_entropy(logits, hot)
  actual = loss_of(task, logits, {'mask': mask})
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_deep_supervision_weights_and_nearest_targets():
  task = tasks.Segmentation(num_classes=3)
  mask = _mask((2, 8, 12), 3)
  outputs = tuple(_logits((2, 8 // f, 12 // f), 3, seed=f) for f in (1, 2, 4))
  # Centre-aligned nearest neighbour: torch's 'nearest-exact'.
  targets = mask, mask[:, 1::2, 1::2]
  single = [
    losses.dice(z, y) + losses.cross_entropy(z, y)
    for z, y in zip(outputs, targets, strict=False)
  ]
  actual = loss_of(task, outputs, {'mask': mask})
  expected = (single[0] + 0.5 * single[1]) / 1.5
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  total = lambda o: loss_of(task, o, {'mask': mask}).sum()
  gradient = jax.jit(jax.grad(total))(outputs)
  assert not np.any(gradient[2])
  alone = loss_of(task, outputs[:1], {'mask': mask})
  np.testing.assert_allclose(alone, loss_of(task, outputs[0], {'mask': mask}))


def test_anisotropic_level_shapes():
  task = tasks.Segmentation(num_classes=2)
  mask = _mask((1, 5, 8, 8), 2)
  outputs = (
    _logits((1, 5, 8, 8), 2),
    _logits((1, 5, 4, 4), 2),
    _logits((1, 3, 2, 2), 2),
  )
  assert np.isfinite(loss_of(task, outputs, {'mask': mask})).all()


def test_gradient_is_finite_on_an_empty_mask():
  task = tasks.Segmentation(num_classes=3)
  mask = jnp.zeros((2, 4, 4), int)
  total = lambda z: loss_of(task, z, {'mask': mask}).sum()
  gradient = jax.jit(jax.grad(total))(_logits((2, 4, 4), 3))
  assert np.isfinite(gradient).all()


def test_predict_and_decode():
  task = tasks.Segmentation(num_classes=3)
  logits = _logits((2, 4, 5), 3).astype(jnp.bfloat16)
  p = jax.jit(task.predict)(logits)
  assert p.dtype == jnp.float32
  np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(task.predict((logits, None)), p)
  labels = task.decode(p[0])
  assert labels.dtype == np.uint8
  np.testing.assert_array_equal(labels, np.argmax(logits[0], -1))


def test_regions_decode_back_to_their_own_label_map():
  task = tasks.Segmentation(num_classes=4, regions=BRATS)
  mask = np.asarray(_mask((6, 6), 4))
  p = np.stack([mask > 0, mask > 1, mask > 2], -1) * 0.9
  np.testing.assert_array_equal(task.decode(p), mask)
  # A voxel of the smallest region alone is written, as nnU-Net does.
  np.testing.assert_array_equal(task.decode(np.array([[0.1, 0.1, 0.6]])), [3])
  np.testing.assert_array_equal(task.decode(np.array([[0.5, 0.5, 0.5]])), [0])


def test_region_order_can_be_stated():
  with pytest.raises(ValueError, match='set region_order'):
    tasks.Segmentation(num_classes=3, regions=((1, 2),))
  task = tasks.Segmentation(num_classes=3, regions=((1, 2),), region_order=(1,))
  np.testing.assert_array_equal(task.decode(np.array([[0.9], [0.2]])), [1, 0])


def test_metrics_of_a_3d_case():
  task = tasks.Segmentation(num_classes=3, nsd_tolerance=2.0)
  mask = np.zeros((8, 8, 6), np.uint8)
  mask[1:4, 2:6, 1:4] = 1
  prediction = np.roll(mask, 1, axis=2)
  row = task.metrics(prediction, _case(mask, spacing=(1, 1, 3)))
  assert tuple(row) == tuple(segmentation_scores.MEASURES)
  assert all(v.shape == (2,) for v in row.values())
  assert row['dice'][0] == pytest.approx(2 / 3)
  assert row['hd95'][0] == pytest.approx(3)
  assert row['volume_error'][0] == 0
  assert all(np.isnan(v[1]) for v in row.values())
  perfect = task.metrics(mask, _case(mask))
  none = ('hd95', 'assd', 'volume_error')
  for name, values in perfect.items():
    assert values[0] == (0 if name in none else 1), name


def test_a_field_of_view_bounds_what_is_judged():
  task = tasks.Segmentation(num_classes=2)
  mask, prediction = np.zeros((2, 6, 6), np.uint8)
  mask[1, 1:5], prediction[1, 1:3], prediction[5, 5] = 1, 1, 1
  inside = np.zeros((6, 6), np.uint8)
  inside[:4, :3] = 1
  case = {**_case(mask), 'field_of_view': inside}
  row = task.metrics(prediction, case)
  assert row['dice'] == row['precision'] == row['recall'] == [1.0]
  outside = {**case, 'field_of_view': np.zeros((6, 6), np.uint8)}
  assert np.isnan(task.metrics(prediction, outside)['dice']).all()


def test_spacing_of_a_rotated_affine():
  task = tasks.Segmentation(num_classes=2)
  mask = np.zeros((6, 6), int)
  mask[2, 2] = 1
  case = _case(mask) | {
    'affine': np.array([[0, -3.0, 0], [0.5, 0, 0], [0, 0, 1]])
  }
  rows = task.metrics(np.roll(mask, 1, 0), case)
  assert rows['hd95'] == pytest.approx(0.5)
  rows = task.metrics(np.roll(mask, 1, 1), case)
  assert rows['hd95'] == pytest.approx(3)
  rows = task.metrics(np.roll(mask, 1, 1), case | {'spacing': (1.0, 7.0)})
  assert rows['hd95'] == pytest.approx(7)


def test_region_metrics_are_those_of_the_unions():
  task = tasks.Segmentation(num_classes=4, regions=BRATS)
  plain = tasks.Segmentation(num_classes=2)
  p, r = np.asarray(_mask((9, 9), 4)), np.asarray(_mask((9, 9), 4, seed=2))
  rows = task.metrics(p, _case(r))
  for i, least in enumerate((1, 2, 3)):
    single = plain.metrics((p >= least) * 1, _case((r >= least) * 1))
    for name, values in rows.items():
      assert values[i] == pytest.approx(single[name][0])


@pytest.mark.parametrize(
  ('prediction', 'changes', 'message'),
  [
    (np.zeros((4, 4), int), {'mask': np.full((4, 4), 3)}, 'label 3, but'),
    (np.zeros((4, 4), int), {'mask': np.full((4, 4), -1)}, 'label -1, but'),
    (np.zeros((4, 4), int), {'mask': np.zeros((4, 4))}, 'must hold integers'),
    (np.zeros((4, 5), int), {}, r'shape \(4, 5\), mask \(4, 4\)'),
    (np.full((4, 4), 9), {}, 'prediction holds label 9'),
    (np.zeros((4, 4), int), {'affine': None}, 'neither spacing nor affine'),
    (np.zeros((4, 4), int), {'mask': None}, 'has no mask'),
  ],
)
def test_bad_input_is_one_line_with_the_id(prediction, changes, message):
  task = tasks.Segmentation(num_classes=3)
  case = _case(np.zeros((4, 4), int), name='sick-7') | changes
  case = {k: v for k, v in case.items() if v is not None}
  with pytest.raises(ValueError, match=message) as error:
    task.metrics(prediction, case)
  assert 'sick-7' in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'num_classes': 1}, 'background'),
    ({'num_classes': 3, 'class_names': ['a', 'b']}, 'background is the first'),
    ({'num_classes': 3, 'regions': [[0, 1]]}, 'labels 1 to 2'),
    ({'num_classes': 3, 'regions': [[3]]}, 'labels 1 to 2'),
    ({'num_classes': 3, 'regions': {'whole': [1, 2]}}, 'lists of labels'),
    (
      {'num_classes': 3, 'regions': [[1]], 'region_order': [1, 2]},
      'per region',
    ),
    ({'num_classes': 3, 'loss': {'binary_cross_entropy': 1}}, "needs 'cross_"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(ValueError, match=message):
    tasks.Segmentation(**arguments)


def test_wrong_number_of_channels():
  task = tasks.Segmentation(num_classes=3)
  with pytest.raises(ValueError, match='gives 4 outputs, the task needs 3'):
    loss_of(task, _logits((1, 4, 4), 4), {'mask': _mask((1, 4, 4), 3)})


def test_the_interval_of_a_mean_is_of_all_its_classes():
  """Two of twenty patients have the second class, which is found badly."""
  task = tasks.Segmentation(num_classes=3)
  rng, rows = np.random.default_rng(0), []
  for i in range(20):
    dice = [rng.uniform(0.94, 0.98), 0.27 + 0.02 * i if i < 2 else np.nan]
    each = dict.fromkeys(segmentation_scores.MEASURES, np.array(dice))
    rows.append({'id': str(i), 'patient': str(i), **each})
  found = task.summarize(rows)
  low, high = found['intervals']['dice']
  assert low < found['scores']['dice'] < high < 0.7
  weights = np.ones((2, 20))
  weights[1, :2] = 0
  whole, without = task.monitored(rows, None)(weights)
  assert whole == pytest.approx(found['scores']['dice'])
  assert np.isnan(without)
  rows[1] |= dict.fromkeys(each, rows[5]['dice'])
  one = task.summarize(rows)
  assert one['classes']['2']['dice']['interval'] == [None, None]


def test_summary_counts_every_kind_of_case():
  task = tasks.Segmentation(
    num_classes=3, class_names=('background', 'grey', 'white')
  )
  empty = np.zeros((5, 5), int)
  full = empty.copy()
  full[1:4, 1:4] = 1
  pairs = [(empty, empty), (empty, full), (full, empty), (full, full)]
  rows = [
    {'id': f'{i}', 'patient': f'{i}'} | task.metrics(p, _case(r))
    for i, (p, r) in enumerate(pairs)
  ]
  summary = task.summarize(rows)
  assert json.loads(json.dumps(summary, allow_nan=False)) == summary
  assert summary['n'] == summary['patients'] == 4
  assert set(summary['scores']) == set(segmentation_scores.MEASURES)
  dice = summary['classes']['grey']['dice']
  assert dice['value'] == pytest.approx(1 / 3)
  assert (dice['n'], dice['undefined']) == (3, 1)
  assert (dice['missed'], dice['false_positive']) == (1, 1)
  assert dice['interval'][0] <= dice['value'] <= dice['interval'][1]
  distance = summary['classes']['grey']['hd95']
  assert (distance['value'], distance['n']) == (0, 1)
  assert (
    sum(distance[k] for k in ('undefined', 'missed', 'false_positive')) == 3
  )
  white = summary['classes']['white']['dice']
  assert white['value'] is None
  assert white['interval'] == [None, None]
  assert white['undefined'] == 4
  assert summary['scores']['dice'] == pytest.approx(1 / 3)
  assert summary['counts'] == {'undefined': 5, 'missed': 1, 'false_positive': 1}


def test_missing_more_never_raises_an_overlap_score():
  """MONAI#9095: there HD95 falls as the model misses more."""
  task = tasks.Segmentation(num_classes=2)
  rng = np.random.default_rng(0)
  masks = [(rng.random((8, 8)) < 0.5).astype(int) for _ in range(6)]
  noisy = [np.where(rng.random((8, 8)) < 0.3, 1 - m, m) for m in masks]

  def scores(missed):
    rows = [
      {'id': str(i)} | task.metrics(p * (i >= missed), _case(m))
      for i, (p, m) in enumerate(zip(noisy, masks, strict=True))
    ]
    return task.summarize(rows, n_resamples=0)

  all_scores = [scores(missed) for missed in range(6)]
  for name in ('dice', 'iou', 'precision', 'recall', 'nsd', 'volume_error'):
    values = [s['scores'][name] for s in all_scores]
    assert values == sorted(values, reverse=True)
  assert [s['counts']['missed'] for s in all_scores] == list(range(6))


def test_summary_is_seeded_and_resamples_patients():
  task = tasks.Segmentation(num_classes=2)
  rng = np.random.default_rng(0)
  rows = [
    {'id': str(i), 'patient': f'p{i // 5}'}
    | {m: np.array([rng.random()]) for m in segmentation_scores.MEASURES}
    for i in range(30)
  ]
  first = task.summarize(rows)
  assert first == task.summarize(rows)
  assert first != task.summarize(rows, seed=1)
  assert first['patients'] == 6
  quick = task.summarize(rows, n_resamples=0)
  assert quick['scores'] == first['scores']
  assert quick['intervals']['dice'] == [None, None]
  with pytest.raises(ValueError, match='no cases'):
    task.summarize([])


def extent(prediction, reference, spacing):
  """A metric outside of medjax: how much of the picture is predicted, mm."""
  return prediction.mean() * spacing[0]


def test_a_measure_from_outside():
  name = f'{__name__}:extent'
  task = tasks.Segmentation(num_classes=3, more_measures=(name,))
  assert hash(task)
  mask = np.zeros((4, 5), np.uint8)
  mask[:2], mask[3] = 1, 2
  rows = [
    {**task.metrics(mask, {'id': 'a', 'mask': mask, 'spacing': (3, 1)}),
     'id': str(i), 'patient': str(i)}
    for i in range(2)
  ]  # fmt: skip
  np.testing.assert_allclose(rows[0]['extent'], [1.5, 0.75])
  found = task.summarize(rows, n_resamples=10)
  np.testing.assert_allclose(found['scores']['extent'], 1.125)
  assert found['classes']['1']['extent']['value'] == 1.5
  assert task.measures['extent'].title == 'Extent'
  with pytest.raises(ValueError, match=r"is not 'package\.module"):
    tasks.Segmentation(num_classes=2, more_measures=('extent',))


def test_logits_of_another_resolution_are_refused():
  task = tasks.Segmentation(num_classes=2)
  batch = {'image': np.zeros((2, 8, 8, 1)), 'mask': np.zeros((2, 8, 8), int)}
  half = lambda image: image[:, ::2, ::2].repeat(2, -1)
  with pytest.raises(ValueError, match=r'logits \(4, 4, 2\) for a mask'):
    task.loss(half, batch)


def test_a_label_to_ignore_counts_for_nothing():
  """In the loss and the metrics it is as if those voxels were not there."""
  rng = np.random.default_rng(0)
  task = tasks.Segmentation(num_classes=3, ignore=255)
  logits = jnp.asarray(rng.normal(size=(2, 6, 6, 3)), jnp.float32)
  mask = rng.integers(0, 3, (2, 6, 6))
  unknown = mask.copy()
  unknown[:, 3:] = 255
  whole = loss_of(task, logits[:, :3], {'mask': jnp.asarray(mask[:, :3])})
  found = loss_of(task, logits, {'mask': jnp.asarray(unknown)})
  np.testing.assert_allclose(found, whole, rtol=1e-5)
  gradient = jax.grad(
    lambda x: loss_of(task, x, {'mask': jnp.asarray(unknown)}).sum()
  )(logits)
  assert not np.asarray(gradient[:, 3:]).any()
  prediction = rng.integers(0, 3, (6, 6))
  row = task.metrics(prediction, _case(unknown[0]))
  inside = _case(mask[0]) | {
    'field_of_view': np.arange(6)[:, None] * np.ones(6) < 3
  }
  for name, values in task.metrics(prediction, inside).items():
    np.testing.assert_array_equal(row[name], values)
  with pytest.raises(ValueError, match='holds label 255'):
    tasks.Segmentation(num_classes=3).check(_case(unknown[0]))
  with pytest.raises(ValueError, match='ignore=2 is one of the 3 classes'):
    tasks.Segmentation(num_classes=3, ignore=2)


def test_pixels_of_one_class_are_ranked_as_scikit_learn_does():
  sklearn = pytest.importorskip('sklearn.metrics')
  rng = np.random.default_rng(3)
  mask = (rng.random((40, 30)) < 0.2).astype(np.uint8)
  p = np.clip(0.3 * mask + rng.normal(0.4, 0.2, mask.shape), 0, 1)
  seen = rng.random(mask.shape) < 0.7
  case = {'id': 'a', 'mask': mask, 'spacing': (1, 1), 'field_of_view': seen}
  task = tasks.Segmentation(num_classes=2)
  both = np.stack([1 - p, p], -1)
  row = task.metrics(task.decode(both), case, ranks=task.ranks(both))
  truth, score = mask[seen], p[seen]
  expected = {
    'auroc': sklearn.roc_auc_score(truth, score),
    'auprc': sklearn.average_precision_score(truth, score),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(row[name], [value], atol=1e-4)
  summary = task.summarize([row | {'patient': 'a'}])
  np.testing.assert_allclose(summary['scores']['auroc'], row['auroc'])
  assert 'auroc' not in task.metrics(task.decode(both), case)
  assert 'auroc' not in tasks.Segmentation(num_classes=3).measures
  with pytest.raises(ValueError, match=r"monitor='auroc' is none of dice"):
    tasks.Segmentation(num_classes=2, monitor='auroc')
