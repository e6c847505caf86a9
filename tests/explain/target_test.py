"""What is explained, of each kind of task and of several members."""

import types

import explain_nets
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import tasks
from medjax.explain import extras, methods, target
from medjax.explain.options import Asked

RNG = np.random.default_rng(0)


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def odds(p):
  return np.log(p / (1 - p))


def test_of_classes_it_is_the_log_odds():
  z = RNG.normal(size=(5, 3))
  which = np.array([0, 1, 2, 0, 1])
  task = tasks.Classification(num_classes=3)
  found = target.of_task(task)(jnp.asarray(z), {'output': which})
  p = softmax(z)[np.arange(5), which]
  np.testing.assert_allclose(found, odds(p), rtol=1e-5)
  labels = tasks.Classification(num_classes=3, multi_label=True)
  found = target.of_task(labels)(jnp.asarray(z), {'output': which})
  np.testing.assert_allclose(found, z[np.arange(5), which], rtol=1e-6)


def test_of_a_map_it_is_the_mean_over_the_region():
  z = RNG.normal(size=(2, 4, 5, 3))
  region = RNG.random((2, 4, 5)) < 0.5
  task = tasks.Segmentation(num_classes=3)
  about = {'output': np.array([1, 2]), 'region': region.astype(np.float32)}
  found = target.of_task(task)((jnp.asarray(z), None), about)
  each = odds(softmax(z))
  means = [each[i, ..., k][region[i]].mean() for i, k in enumerate((1, 2))]
  np.testing.assert_allclose(found, means, rtol=1e-4)


def test_of_members_it_is_that_of_their_mean_probability():
  z = RNG.normal(0, 3, size=(4, 6))
  found = target.Target('exclusive').joined(jnp.asarray(z))
  p = 1 / (1 + np.exp(-z))
  np.testing.assert_allclose(found, odds(p.mean(0)), rtol=1e-4, atol=1e-5)


class Risky:
  """A task of time and event, as survival is."""

  inputs, fields, num_outputs = ('image',), ('time', 'event'), 6

  def risk(self, outputs):
    return outputs.reshape(len(outputs), 2, 3).sum(-1)


def test_a_risk_is_the_task_s_own():
  z = RNG.normal(size=(3, 6)).astype(np.float32)
  about = {'output': np.array([1, 1, 0])}
  found = target.of_task(Risky())(jnp.asarray(z), about)
  causes = z.reshape(3, 2, 3).sum(-1)
  np.testing.assert_allclose(found, causes[np.arange(3), [1, 1, 0]], rtol=1e-6)
  one = types.SimpleNamespace(fields=('time',), risk=lambda z: z[:, 0])
  found = target.of_task(one)(jnp.asarray(z), about)
  np.testing.assert_allclose(found, z[:, 0])
  assert not target.of_task(one).is_odds


def test_numbers_that_are_no_classes_are_to_be_named():
  task = types.SimpleNamespace(
    inputs=('image',), fields=('time',), num_outputs=6
  )
  run = types.SimpleNamespace(task=task)
  network = target.Network(None, target.of_task(task))
  score = target.Score((), network)
  with pytest.raises(ValueError, match='gives 6 numbers that are no classes'):
    extras.check(run, score, Asked())
  extras.check(run, score, Asked(target='2'))
  task.inputs = ('covariates',)
  with pytest.raises(ValueError, match='explain is for models of images'):
    extras.check(run, score, Asked(target='2'))


def test_an_output_by_its_name():
  task = tasks.Segmentation(num_classes=3, class_names=('none', 'a', 'b'))
  assert target.output_of(task, 'b') == 2
  assert target.output_of(task, '1') == 1
  assert target.name_of(task, 1) == 'a'
  with pytest.raises(ValueError, match='out of range: this model has 3'):
    target.output_of(task, '3')
  task = types.SimpleNamespace(names=('sphericity',), num_outputs=1)
  with pytest.raises(ValueError, match='has one output, sphericity'):
    target.output_of(task, '1')


def test_of_survival_it_is_the_mean_of_each_curve():
  times = tuple(np.linspace(1, 10, 201))
  task = tasks.Survival(
    event_times=times, model='deephit', causes=2, intervals=9
  )
  outputs = np.random.default_rng(0).normal(size=(3, task.num_outputs))
  curves = task.predict(outputs)['curves'].reshape(3, 2, -1)
  np.testing.assert_allclose(task.risk(outputs), curves.mean(-1), rtol=1e-6)


def test_what_a_model_has_not_is_said_before_the_work():
  net = explain_nets.linear(np.ones((4, 4, 1), np.float32)).score
  images = np.ones((1, 4, 4, 1), np.float32)
  work = methods.Work(
    images=images,
    about={'output': np.zeros(1, np.int32)},
    baseline=0 * images,
    spacing=np.ones(2),
  )
  for name, message in (
    ('gradcam', 'no layer that gives a map'),
    ('rollout', 'of a class token'),
    ('guided', 'changes ReLUs, and this model has none'),
  ):
    # Before methods that any model has, as those take long.
    with pytest.raises(ValueError, match=message):
      methods.check(('ig', 'rise', name), net, work)
  methods.check(('ig', 'rise'), net, work)
