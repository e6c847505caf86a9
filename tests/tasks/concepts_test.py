"""Classification by concepts: the loss, the scores, and the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import experiment, models, tasks
from medjax.config import default_config
from medjax.data.facts import DataFacts

TASK = tasks.Concepts(num_classes=2, concepts=('a', 'b', 'c'))


def test_the_loss_is_that_of_both_over_what_is_known():
  logits = jnp.array([[0.0, 2.0], [1.0, 0.0]])
  found = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
  known = jnp.array([[1.5, jnp.nan, 1.0], [jnp.nan] * 3])
  batch = {
    'image': jnp.zeros((2, 4, 4, 1)),
    'label': jnp.array([1, 1]),
    'covariates': known,
  }
  loss = TASK.loss(lambda image: (logits, found), batch)
  entropy = -jax.nn.log_softmax(logits)[:, 1]
  np.testing.assert_allclose(
    loss, entropy + jnp.array([(0.25 + 4) / 2, 0]), rtol=1e-6
  )
  slope = jax.grad(lambda x: TASK.loss(lambda image: (logits, x), batch).sum())(
    found
  )
  assert np.isfinite(slope).all()
  with pytest.raises(ValueError, match='the model gives 2 concepts, the data'):
    TASK.loss(lambda image: (logits, found[:, :2]), batch)


def rows(n=60, seed=0):
  rng = np.random.default_rng(seed)
  for i in range(n):
    known = rng.normal(size=3).astype(np.float32)
    found = known + np.array([0.1, 1, 0]) * rng.normal(size=3)
    known[2] = np.nan if i % 2 else known[2]
    p = rng.uniform()
    case = {'id': i, 'label': int(rng.uniform() < p), 'covariates': known}
    prediction = {'probability': np.array([1 - p, p]), 'concepts': found}
    yield {'id': i, 'patient': i, **TASK.metrics(prediction, case)}


def test_the_scores_of_the_concepts():
  table = list(rows())
  summary = TASK.summarize(table, n_resamples=200)
  concepts = summary['concepts']
  for name in 'abc':
    pairs = np.array([(r[f'{name} found'], r[f'{name} rated']) for r in table])
    pairs = pairs[~np.isnan(pairs).any(1)]
    assert concepts[name]['n'] == len(pairs)
    r = np.corrcoef(pairs.T)[0, 1]
    assert concepts[name]['correlation'] == pytest.approx(r)
    error = np.abs(pairs[:, 0] - pairs[:, 1]).mean()
    assert concepts[name]['error'] == pytest.approx(error, abs=1e-6)
  mean = np.mean([concepts[k]['correlation'] for k in 'abc'])
  assert summary['scores']['concept_correlation'] == pytest.approx(mean)
  low, high = summary['intervals']['concept_correlation']
  assert low < mean < high
  chosen = tasks.Concepts(
    num_classes=2, concepts=tuple('abc'), monitor='concept_correlation'
  )
  found = chosen.monitored(table, None)(np.ones((1, len(table))))
  assert found == pytest.approx([mean])
  assert summary['scores']['auroc'] > 0.5


def test_what_it_cannot_use():
  with pytest.raises(ValueError, match='needs columns to learn'):
    tasks.Concepts(num_classes=2)
  with pytest.raises(ValueError, match="'x': 2 covariates for 3 concepts"):
    TASK.check({'id': 'x', 'label': 0, 'covariates': np.zeros(2)})


def test_the_data_name_the_concepts():
  config = default_config()
  config.task = dict(name='Concepts')
  facts = DataFacts(
    channels=1, rank=2, class_names=('a', 'b'), covariate_names=('x', 'y')
  )
  assert experiment.make_task(config, facts).concepts == ('x', 'y')


def test_the_classes_depend_on_the_concepts_only():
  backbone = models.ResNet18(num_classes=0, width=4, stage_sizes=(1,))
  model = models.ConceptBottleneck(3, backbone, 4)
  x = jax.random.normal(jax.random.key(0), (2, 12, 12, 1))
  variables = model.init(jax.random.key(1), x)
  logits, concepts = model.apply(variables, x)
  assert logits.shape == (2, 3)
  assert concepts.shape == (2, 4)
  head = variables['params']['head']
  np.testing.assert_allclose(
    logits, concepts @ head['kernel'] + head['bias'], rtol=1e-5, atol=1e-6
  )
  found = model.apply(variables, x, features=True)
  np.testing.assert_array_equal(found['concepts'], concepts)
  assert found['pooled'].shape[0] == 2
