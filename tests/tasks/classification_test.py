"""The classification task: loss, per-case rows, summary, thresholds."""

import functools
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax import build, losses, tasks
from medjax.metrics import bootstrap
from medjax.tasks.task import Calibration


def loss_of(task, outputs, batch):
  """The loss where the model gives these outputs."""
  return task.loss(lambda image: outputs, {'image': None, **batch})


def _logits(k, b=4, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=(b, k)), jnp.float32
  )


def _rows(task, n=80, seed=0, patients=None):
  rng = np.random.default_rng(seed)
  k = task.num_classes
  if task.multi_label:
    label = rng.integers(2, size=(n, k))
    p = 1 / (1 + np.exp(-(2 * label - 1 + rng.normal(size=(n, k)))))
  else:
    label = rng.integers(k, size=n)
    p = np.exp(rng.normal(size=(n, k)) + np.eye(k)[label])
    p /= p.sum(1, keepdims=True)
  rows = []
  for i in range(n):
    case = {'id': f'c{i}', 'label': label[i]}
    patient = f'p{i % (patients or n)}'
    rows.append({'id': f'c{i}', 'patient': patient} | task.metrics(p[i], case))
  return rows, label, p


def test_builds_from_a_config_and_hashes():
  config = ml_collections.ConfigDict(
    {
      'name': 'Classification',
      'num_classes': 3,
      'loss': {'cross_entropy': 1.0},
      'class_weights': [1.0, 2.0, 1.0],
      'class_names': ['a', 'b', 'c'],
    }
  )
  task = build.build(tasks, config)
  assert hash(task) == hash(build.build(tasks, config))
  assert task.num_outputs == 3
  assert task.class_weights == (1.0, 2.0, 1.0)
  assert task.monitor == 'auroc'


def test_loss_takes_indices_and_mixed_labels():
  task = tasks.Classification(
    num_classes=3, class_weights=(1, 2, 3), label_smoothing=0.1
  )
  logits, label = _logits(3), jnp.array([0, 2, 1, 1])
  expected = losses.cross_entropy(
    logits, label, class_weights=(1, 2, 3), label_smoothing=0.1
  )
  actual = jax.jit(functools.partial(loss_of, task))(logits, {'label': label})
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  soft = 0.4 * jax.nn.one_hot(label, 3) + 0.6 * jax.nn.one_hot(label[::-1], 3)
  mixed = loss_of(task, logits, {'label': soft})
  flipped = losses.cross_entropy(
    logits, label[::-1], class_weights=(1, 2, 3), label_smoothing=0.1
  )
  np.testing.assert_allclose(mixed, 0.4 * expected + 0.6 * flipped, rtol=1e-5)


@pytest.mark.parametrize('aux_weight', [None, 0.0, 1.5])
def test_auxiliary_heads_are_weighed(aux_weight):
  options = {} if aux_weight is None else {'aux_weight': aux_weight}
  task = tasks.Classification(num_classes=3, **options)
  batch = {'label': jnp.array([0, 2, 1, 1])}
  main, *others = (_logits(3, seed=i) for i in range(3))
  expected, *rest = (loss_of(task, y, batch) for y in (main, *others))
  expected += (0.4 if aux_weight is None else aux_weight) * sum(rest)
  np.testing.assert_allclose(
    loss_of(task, (main, *others), batch), expected, rtol=1e-6
  )
  np.testing.assert_array_equal(
    task.predict((main, *others)), task.predict(main)
  )
  with pytest.raises(ValueError, match='gives 4 outputs, the task needs 3'):
    loss_of(task, (main, _logits(4)), {'label': batch['label']})


def test_multi_label_loss_and_prediction():
  task = tasks.Classification(num_classes=3, multi_label=True)
  logits = _logits(3)
  label = jnp.asarray(np.random.default_rng(1).integers(2, size=(4, 3)) * 1.0)
  np.testing.assert_allclose(
    loss_of(task, logits, {'label': label}),
    losses.binary_cross_entropy(logits, label),
  )
  np.testing.assert_allclose(task.predict(logits), jax.nn.sigmoid(logits))
  np.testing.assert_array_equal(
    task.decode(task.predict(logits)), np.asarray(logits) > 0
  )
  focal = tasks.Classification(
    num_classes=3, multi_label=True, loss={'focal': 1.0}
  )
  np.testing.assert_allclose(
    loss_of(focal, logits, {'label': label}),
    losses.focal(logits, label, multi_label=True),
  )


def test_predict_and_decode():
  task = tasks.Classification(num_classes=3)
  logits = _logits(3).astype(jnp.bfloat16)
  p = jax.jit(task.predict)(logits)
  assert p.dtype == jnp.float32
  np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(task.decode(p), np.argmax(logits, -1))
  assert task.decode(p[0]) == np.argmax(logits[0])


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'num_classes': 1, 'class_names': ['images']}, r'is 1 .* and must'),
    ({'num_classes': 2, 'class_weights': [1.0]}, 'has 1 entries'),
    ({'num_classes': 2, 'class_names': ['a']}, 'has 1 entries'),
    ({'num_classes': 2, 'label_smoothing': 1.0}, 'not in'),
    ({'num_classes': 2, 'loss': {'binary_cross_entropy': 1}}, "needs 'cross_"),
    (
      {'num_classes': 2, 'loss': {'focal': 1.0}, 'label_smoothing': 0.1},
      'none of the losses takes label_smoothing',
    ),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(ValueError, match=message):
    tasks.Classification(**arguments)


@pytest.mark.parametrize(
  ('probability', 'label', 'message'),
  [
    ([0.5, 0.5], 2, 'label 2 is not in 0 to 1'),
    ([0.5, 0.5], -1, 'label -1 is not in'),
    ([0.5, 0.5], [1, 0], r'label has shape \(2,\)'),
    ([0.5, 0.5], 0.5, 'label 0.5 is not in'),
    ([0.5, 0.5, 0.0], 1, r'prediction has shape \(3,\)'),
    ([np.nan, 0.5], 1, 'not finite'),
    ([0.5, 0.5], None, 'no label'),
  ],
)
def test_bad_input_is_one_line_with_the_id(probability, label, message):
  task = tasks.Classification(num_classes=2)
  case = {'id': 'sick-7'} | ({} if label is None else {'label': label})
  with pytest.raises(ValueError, match=message) as error:
    task.metrics(np.array(probability), case)
  assert 'sick-7' in str(error.value)


def test_wrong_shapes_in_the_loss():
  task = tasks.Classification(num_classes=3, multi_label=True)
  with pytest.raises(ValueError, match='gives 2 outputs, the task needs 3'):
    loss_of(task, _logits(2), {'label': jnp.zeros((4, 2))})
  with pytest.raises(ValueError, match='one column per label'):
    loss_of(task, _logits(3), {'label': jnp.zeros(4, int)})


def test_binary_scores_are_sklearns():
  task = tasks.Classification(num_classes=2, class_names=('sound', 'sick'))
  rows, y, p = _rows(task)
  summary = task.summarize(rows)
  assert json.loads(json.dumps(summary, allow_nan=False)) == summary
  hard, score = p[:, 1] > 0.5, p[:, 1]
  expected = {
    'accuracy': sklearn_metrics.accuracy_score(y, hard),
    'balanced_accuracy': sklearn_metrics.balanced_accuracy_score(y, hard),
    'precision': sklearn_metrics.precision_score(y, hard),
    'recall': sklearn_metrics.recall_score(y, hard),
    'specificity': sklearn_metrics.recall_score(1 - y, ~hard),
    'f1': sklearn_metrics.f1_score(y, hard),
    'auroc': sklearn_metrics.roc_auc_score(y, score),
    'auprc': sklearn_metrics.average_precision_score(y, score),
    'brier': sklearn_metrics.brier_score_loss(y, score),
  }
  for name, value in expected.items():
    assert summary['scores'][name] == pytest.approx(value, rel=1e-12), name
    low, high = summary['intervals'][name]
    assert low < value < high
  assert (
    summary['confusion'] == sklearn_metrics.confusion_matrix(y, hard).tolist()
  )
  assert summary['support'] == {'sound': (y == 0).sum(), 'sick': (y == 1).sum()}
  sick = summary['classes']['sick']['recall']
  assert sick['value'] == summary['scores']['recall']
  assert sick['missed'] == ((y == 1) & ~hard).sum()
  assert sick['false_positive'] == ((y == 0) & hard).sum()
  assert list(summary['curves']) == ['sick']
  assert summary['applied_thresholds'] is None
  assert 'accuracy_at_threshold' not in summary['scores']


def test_multi_class_scores_are_medmnists():
  """Its evaluator: mean one-against-rest AUC, accuracy of the likeliest."""
  task = tasks.Classification(num_classes=4)
  rows, y, p = _rows(task)
  summary = task.summarize(rows, n_resamples=20)
  auc = np.mean(
    [sklearn_metrics.roc_auc_score(y == k, p[:, k]) for k in range(4)]
  )
  scores = summary['scores']
  assert scores['auroc'] == pytest.approx(auc, rel=1e-12)
  hard = p.argmax(1)
  assert scores['accuracy'] == pytest.approx((hard == y).mean(), rel=1e-12)
  assert scores['f1'] == pytest.approx(
    sklearn_metrics.f1_score(y, hard, average='macro'), rel=1e-12
  )
  assert scores['brier'] == pytest.approx(
    sklearn_metrics.brier_score_loss(y, p), rel=1e-12
  )
  assert task.calibrate(rows).thresholds is None
  assert np.sum(summary['confusion']) == len(rows)
  with pytest.raises(ValueError, match='binary and multi-label'):
    task.summarize(rows, calibration=Calibration(thresholds=(0.5,)))


def test_multi_label_scores_are_medmnists():
  task = tasks.Classification(num_classes=3, multi_label=True)
  rows, y, p = _rows(task)
  summary = task.summarize(rows, n_resamples=20)
  scores = summary['scores']
  assert scores['auroc'] == pytest.approx(
    sklearn_metrics.roc_auc_score(y, p, average='macro'), rel=1e-12
  )
  assert scores['accuracy'] == pytest.approx(((p > 0.5) == y).mean(), rel=1e-12)
  assert scores['brier'] == pytest.approx(((p - y) ** 2).mean(), rel=1e-12)
  calibration = task.calibrate(rows)
  assert len(calibration.thresholds) == 3
  expected = sklearn_metrics.multilabel_confusion_matrix(y, p > 0.5)
  assert summary['confusion'] == expected.tolist()
  again = task.summarize(rows, calibration=calibration, n_resamples=0)
  assert (
    again['scores']['balanced_accuracy_at_threshold']
    >= scores['balanced_accuracy']
  )


def test_threshold_of_validation_is_applied_to_test():
  task = tasks.Classification(num_classes=2)
  validation, _, _ = _rows(task, seed=1)
  test, y, p = _rows(task, seed=2)
  chosen = task.calibrate(validation)
  summary = task.summarize(test, calibration=chosen)
  thresholds = [*chosen.thresholds]
  hard = p[:, 1] > thresholds[0]
  scores = summary['scores']
  assert scores['accuracy_at_threshold'] == pytest.approx((hard == y).mean())
  assert scores['accuracy'] == pytest.approx((p.argmax(1) == y).mean())
  assert scores['recall_at_threshold'] == pytest.approx(hard[y == 1].mean())
  assert summary['applied_thresholds'] == thresholds
  assert 'thresholds' not in summary  # what test would choose is not said
  matrix = sklearn_metrics.confusion_matrix(y, hard)
  assert summary['confusion_at_threshold'] == matrix.tolist()
  assert summary['intervals']['accuracy_at_threshold'][0] is not None


def test_temperature_of_validation_is_applied_to_test():
  task = tasks.Classification(num_classes=3)
  validation, _, _ = _rows(task, seed=1)
  test, y, p = _rows(task, seed=2)
  temperature = task.calibrate(validation).temperature
  only = Calibration(temperature=temperature)
  summary = task.summarize(test, calibration=only, n_resamples=20)
  scores = summary['scores']
  assert temperature != pytest.approx(1, abs=0.01)
  assert summary['applied_temperature'] == temperature
  calm = p ** (1 / temperature)
  calm /= calm.sum(1, keepdims=True)
  for suffix, each in (('', p), ('_calibrated', calm)):
    expected = sklearn_metrics.log_loss(y, each)
    assert scores[f'nll{suffix}'] == pytest.approx(expected, rel=1e-6)
    expected = sklearn_metrics.brier_score_loss(y, each)
    assert scores[f'brier{suffix}'] == pytest.approx(expected, rel=1e-6)
  assert scores['ece_calibrated'] != scores['ece']
  low, high = summary['intervals']['nll_calibrated']
  assert low < scores['nll_calibrated'] < high


def test_the_interval_of_a_mean_over_classes_is_of_all_of_them():
  task = tasks.Classification(num_classes=3)
  label = np.r_[np.zeros(30, int), np.ones(30, int), 2, 2]
  rng, rows = np.random.default_rng(0), []
  for i, y in enumerate(label):
    p = np.eye(3)[0 if y == 2 else y] * 2 + rng.normal(size=3)
    p = np.exp(p) / np.exp(p).sum()
    rows.append({'id': str(i), 'patient': str(i)} | task.metrics(
      p, {'id': str(i), 'label': y}))  # fmt: skip
  found = task.summarize(rows)
  scores = found['scores']
  assert scores['balanced_accuracy'] < 0.67
  for name in ('balanced_accuracy', 'recall', 'auroc'):
    low, high = found['intervals'][name]
    assert low < scores[name] < high
  # Without the class that is never found it is above .8.
  assert found['intervals']['balanced_accuracy'][1] < 0.72
  alone = task.monitored(rows, None)(np.stack([label >= 0, label < 2]) * 1.0)
  assert np.isnan(alone).tolist() == [False, True]


def test_one_class_only_leaves_nulls():
  task = tasks.Classification(num_classes=2)
  rows = [
    {'id': str(i)}
    | task.metrics(np.array([0.4, 0.6]), {'id': str(i), 'label': 1})
    for i in range(3)
  ]
  summary = task.summarize(rows)
  assert summary['scores']['auroc'] is None
  assert summary['scores']['specificity'] is None
  assert summary['scores']['accuracy'] == 1
  assert summary['classes']['1']['auroc']['undefined'] == 3
  assert summary['classes']['1']['auroc']['n'] == 0
  assert task.calibrate(rows).thresholds == (None,)
  assert summary['curves'] == {}
  again = task.summarize(rows, calibration=task.calibrate(rows))
  assert again['scores']['accuracy_at_threshold'] == 1
  assert task.summarize(rows[:1])['scores']['accuracy'] == 1


def test_curves_are_short_and_keep_their_ends():
  task = tasks.Classification(num_classes=2)
  rows, _, _ = _rows(task, n=700)
  curves = task.summarize(rows, n_resamples=0)['curves']['1']
  roc = curves['roc']
  assert len(roc['fpr']) == len(roc['tpr']) <= 200
  assert (roc['fpr'][0], roc['tpr'][0]) == (0, 0)
  assert (roc['fpr'][-1], roc['tpr'][-1]) == (1, 1)
  assert sum(curves['reliability']['count']) == 700


def test_patients_are_resampled_together():
  task = tasks.Classification(num_classes=2)
  rows, _, _ = _rows(task, n=60, patients=12)
  summary = task.summarize(rows)
  assert summary['patients'] == 12
  assert summary == task.summarize(rows)
  assert summary['intervals'] != task.summarize(rows, seed=3)['intervals']


def test_a_thousand_resamples_are_taken_many_at_a_time(monkeypatch):
  blocks, resamples = [], bootstrap.resamples

  def counted(*args, **options):
    for weights in resamples(*args, **options):
      blocks.append(len(weights))
      yield weights

  monkeypatch.setattr(bootstrap, 'resamples', counted)
  task = tasks.Classification(num_classes=2)
  rows, _, _ = _rows(task, n=624)
  task.summarize(rows)
  assert sum(blocks) >= 1000
  assert len(blocks) < 20


@pytest.mark.parametrize('positive', ['malignant', 0])
def test_the_positive_class_can_be_chosen(positive):
  rng = np.random.default_rng(0)
  label = rng.integers(0, 2, 40)
  chance = np.clip(0.5 + 0.3 * (label - 0.5) + rng.normal(0, 0.2, 40), 0, 1)
  rows = [
    {'id': str(i), 'patient': str(i), 'label': np.int32(y),
     'probability': np.array([1 - p, p])}
    for i, (y, p) in enumerate(zip(label, chance, strict=True))
  ]  # fmt: skip
  names = ('malignant', 'normal')
  task = tasks.Classification(
    num_classes=2, class_names=names, positive=positive
  )
  calibration = task.calibrate(rows)
  found = task.summarize(rows, n_resamples=0, calibration=calibration)
  sick, score = label == 0, 1 - chance
  assert found['positive'] == 'malignant'
  decided = score > 0.5
  scores = found['scores']
  np.testing.assert_allclose(scores['recall'], decided[sick].mean())
  np.testing.assert_allclose(scores['specificity'], (~decided)[~sick].mean())
  np.testing.assert_allclose(scores['precision'], sick[decided].mean())
  auprc = sklearn_metrics.average_precision_score(sick, score)
  np.testing.assert_allclose(scores['auprc'], auprc)
  decided = score > calibration.thresholds[0]
  np.testing.assert_allclose(
    scores['recall_at_threshold'], decided[sick].mean()
  )
  assert [*found['curves']] == ['malignant']
  # Accuracy is that of both.
  other = tasks.Classification(num_classes=2, class_names=names)
  plain = other.summarize(rows, n_resamples=0)
  assert plain['positive'] == 'normal'
  assert plain['scores']['accuracy'] == scores['accuracy']
  assert plain['scores']['recall'] == pytest.approx(scores['specificity'])


def test_a_positive_class_that_there_is_not():
  with pytest.raises(ValueError, match="'sick' is neither of a, b"):
    tasks.Classification(num_classes=2, class_names=('a', 'b'), positive='sick')
  with pytest.raises(ValueError, match='is for two classes'):
    tasks.Classification(num_classes=3, positive=1)
