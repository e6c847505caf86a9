import numpy as np
import pytest
import sklearn.metrics

from medjax.tasks import Ordinal


def make_task(**options):
  return Ordinal(num_classes=4, class_names=('I', 'II', 'III', 'IV'), **options)


def test_probabilities_are_of_a_cumulative_link():
  outputs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * 3
  found = np.asarray(make_task().predict(outputs))
  above = np.concatenate(
    [outputs[:, :1],
     outputs[:, :1] - np.cumsum(np.log1p(np.exp(outputs[:, 1:])), 1)], 1
  )  # fmt: skip
  above = np.pad(1 / (1 + np.exp(-above)), ((0, 0), (1, 1)),
                 constant_values=((0, 0), (1, 0)))  # fmt: skip
  np.testing.assert_allclose(found, above[:, :-1] - above[:, 1:], atol=2e-6)
  np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_the_loss_is_the_likelihood_of_the_stage():
  task = make_task()
  outputs = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
  label = np.arange(8) % 4
  batch = {'image': outputs, 'label': label}
  found = task.loss(lambda x: x, batch)
  p = np.asarray(task.predict(outputs))[np.arange(8), label]
  np.testing.assert_allclose(found, -np.log(p), rtol=1e-5)


def test_kappa_is_that_of_scikit_learn():
  task = make_task()
  rng = np.random.default_rng(2)
  probability = rng.dirichlet(np.ones(4) / 2, 90)
  label = (task.decode(probability) + rng.integers(-1, 2, 90)).clip(0, 3)
  rows = [
    {'id': str(i), 'probability': p, 'label': np.int32(k)}
    for i, (p, k) in enumerate(zip(probability, label, strict=True))
  ]
  found = task.summarize(rows, n_resamples=200)
  expected = sklearn.metrics.cohen_kappa_score(
    label, task.decode(probability), weights='quadratic'
  )
  assert found['scores']['quadratic_kappa'] == pytest.approx(expected)
  low, high = found['intervals']['quadratic_kappa']
  assert low < expected < high
  off = np.abs(label - task.decode(probability)).mean()
  assert found['scores']['stages_off'] == pytest.approx(off)
  assert 'auroc' in found['scores']


def test_the_median_is_decided_for():
  assert make_task().decode(np.array([0.4, 0.0, 0.2, 0.4])) == 2
  assert make_task().decode(np.array([0.6, 0.0, 0.0, 0.4])) == 0


def test_refused():
  with pytest.raises(ValueError, match='exclude each other'):
    make_task(multi_label=True)
  with pytest.raises(ValueError, match="monitor='kappa' is none of"):
    make_task(monitor='kappa')
  with pytest.raises(ValueError, match='gives 4 outputs, the task needs 3'):
    make_task().predict(np.zeros((2, 4), np.float32))


def test_the_error_that_is_promised_is_that_of_the_median():
  task = make_task(risk=0.1)
  rows = [
    {'id': str(i), 'patient': str(i), 'label': np.int32(0),
     'probability': np.array([0.45, 0.08, 0.07, 0.40])}
    for i in range(40)
  ]  # fmt: skip
  calibration = task.calibrate(rows)  # all are decided as II, and are I
  assert calibration.answering['confidence'] is None
  assert task.unsure(rows[0]['probability'], calibration)
  assert task.summarize(rows, n_resamples=0)['scores']['ece'] == (
    pytest.approx(0.08)
  )
