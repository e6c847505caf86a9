"""Labels of a multi-label task that are not known, -1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medjax import tasks

RNG = np.random.default_rng(0)


def loss_of(task, outputs, batch):
  """The loss where the model gives these outputs."""
  return task.loss(lambda image: outputs, {'image': None, **batch})


def rows_of(task, n=80):
  """Rows of cases that are known, their labels and probabilities."""
  rng = np.random.default_rng(0)
  label = rng.integers(2, size=(n, task.num_classes))
  p = 1 / (1 + np.exp(-(2 * label - 1 + rng.normal(size=label.shape))))
  rows = [
    {'id': f'c{i}', 'patient': f'p{i}', 'probability': p[i], 'label': label[i]}
    for i in range(n)
  ]
  return rows, label, p


def test_cases_of_a_label_are_those_that_tell_it():
  task = tasks.Classification(num_classes=3, multi_label=True)
  rows, _, _ = rows_of(task, n=100)
  for i, row in enumerate(rows):
    row['label'] = np.array([row['label'][0], row['label'][1], -1])
    row['label'][1] = row['label'][1] if i < 12 else -1
  found = task.summarize(rows, n_resamples=0)['classes']
  assert [found[k]['auroc']['n'] for k in task.names] == [100, 12, 0]
  none = found[task.names[2]]['auroc']
  assert none['undefined'] == 0  # no case of it could be scored


def test_a_label_that_is_not_known_is_as_if_its_case_were_not_there():
  task = tasks.Classification(num_classes=3, multi_label=True)
  rows, y, p = rows_of(task)
  unknown = np.random.default_rng(3).random(y.shape) < 0.3
  unknown[:, 2] = False
  for row, gone in zip(rows, unknown, strict=True):
    row['label'] = np.where(gone, -1, row['label'])
    task.metrics(row['probability'], {'id': 'x', 'label': row['label']})
  chosen = task.calibrate(rows)
  summary = task.summarize(rows, calibration=chosen, n_resamples=20)
  kept = [~unknown[:, k] for k in range(3)]
  each = [(y[k, i], p[k, i]) for i, k in enumerate(kept)]
  expected = {
    'auroc': [sklearn_metrics.roc_auc_score(*pair) for pair in each],
    'auprc': [sklearn_metrics.average_precision_score(*pair) for pair in each],
    'accuracy': [((s > 0.5) == t).mean() for t, s in each],
    'mcc': [sklearn_metrics.matthews_corrcoef(t, s > 0.5) for t, s in each],
    'brier': [((s - t) ** 2).mean() for t, s in each],
    'nll': [sklearn_metrics.log_loss(*pair) for pair in each],
    'recall': [sklearn_metrics.recall_score(t, s > 0.5) for t, s in each],
  }
  for name, values in expected.items():
    found = summary['scores'][name]
    assert found == pytest.approx(np.mean(values), rel=1e-9), name
  counted = [np.sum(np.asarray(m)) for m in summary['confusion']]
  assert counted == [k.sum() for k in kept]
  assert list(summary['support'].values()) == [t.sum() for t, _ in each]
  # The third label is known of all: its score is as without the others.
  whole = task.summarize(rows_of(task)[0], n_resamples=0)['classes']['2']
  ours = task.summarize(rows, n_resamples=0)['classes']['2']
  assert ours == whole
  # And it changes neither loss nor gradient.
  logits, label = (
    jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32),
    jnp.array([[1, -1, 0]] * 4),
  )
  for loss in ('binary_cross_entropy', 'focal'):
    one = tasks.Classification(
      num_classes=3, multi_label=True, loss={loss: 1.0}
    )
    two = tasks.Classification(
      num_classes=2, multi_label=True, loss={loss: 1.0}
    )
    np.testing.assert_allclose(
      loss_of(one, logits, {'label': label}),
      loss_of(two, logits[:, ::2], {'label': label[:, ::2]}),
      rtol=1e-6,
    )
  slope = jax.grad(lambda x: loss_of(one, x, {'label': label}).sum())(logits)
  assert not np.any(slope[:, 1])
