"""Labels that are known to belong together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import tasks
from medjax.tasks.graph import Graph

NAMES = ('nodule', 'spiculated', 'malignant')


def make(**graph):
  return tasks.Classification(
    num_classes=3, multi_label=True, class_names=NAMES, graph=graph
  )


def test_the_penalty_is_the_laplacian():
  edges = (('nodule', 'malignant', 0.5), (1, 2, 2.0))
  graph = make(weight=0.1, edges=edges).graph
  z = np.random.default_rng(0).normal(size=(4, 3))
  w = np.zeros((3, 3))
  for i, j, v in graph.edges:
    w[i, j] = w[j, i] = v
  laplacian = np.diag(w.sum(1)) - w
  expected = 0.1 * np.einsum('bi,ij,bj->b', z, laplacian, z) / 3
  np.testing.assert_allclose(graph.penalty(jnp.array(z)), expected, rtol=1e-5)
  assert make(edges=edges).graph.penalty(jnp.array(z)).sum() == 0


def test_a_child_is_never_likelier_than_its_parent():
  task = make(parents={'spiculated': 'nodule', 'malignant': 'spiculated'})
  z = jnp.array(np.random.default_rng(1).normal(scale=5, size=(50, 3)))
  p = np.asarray(task.predict(z))
  own = np.asarray(jax.nn.sigmoid(z))
  np.testing.assert_allclose(p, np.cumprod(own, 1), rtol=2e-4, atol=1e-6)
  assert (np.diff(p, axis=1) <= 1e-6).all()
  decided = task.decode(p)
  assert (np.diff(decided.astype(int), axis=1) <= 0).all()


def test_the_loss_is_that_of_the_chained_probabilities():
  task = make(parents={'malignant': 'nodule'})
  z = jnp.array([[2.0, -1.0, 0.5], [40.0, 0.0, 60.0], [-90.0, 3.0, 80.0]])
  label = jnp.array([[1, 0, 1], [1, 1, 1], [0, 1, 0]])
  loss = lambda z: task.loss(lambda x: z, {'image': z, 'label': label})
  p = np.asarray(jax.nn.sigmoid(z[:1]), float)
  p[:, 2] *= p[:, 0]
  y = np.asarray(label[:1])
  expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
  np.testing.assert_allclose(loss(z)[0], expected, rtol=1e-5)
  gradient = jax.grad(lambda z: loss(z).sum())(z)
  assert np.isfinite(gradient).all()
  assert np.isfinite(loss(z)).all()


def test_without_a_graph_nothing_changes():
  z = jnp.array(np.random.default_rng(2).normal(size=(4, 3)))
  batch = {'image': z, 'label': jnp.ones((4, 3), int)}
  plain = tasks.Classification(num_classes=3, multi_label=True)
  other = make(weight=0.0, edges=((0, 1, 1.0),))
  np.testing.assert_array_equal(
    plain.loss(lambda x: z, batch), other.loss(lambda x: z, batch)
  )


@pytest.mark.parametrize(
  ('graph', 'message'),
  [
    ({'edges': (('nodul', 'malignant', 1.0),)}, "did you mean 'nodule'"),
    ({'edges': ((0, 3, 1.0),)}, 'no label 3'),
    ({'weight': -1.0}, '0 or more'),
    ({'edge': ()}, 'weight, edges, parents'),
    ({'parents': {0: 1, 1: 0}}, 'its own ancestor'),
  ],
)
def test_refusals(graph, message):
  with pytest.raises(ValueError, match=message):
    Graph.of(graph, NAMES)


def test_only_of_labels():
  with pytest.raises(ValueError, match='multi_label=True'):
    tasks.Classification(num_classes=3, graph={'weight': 0.1})
