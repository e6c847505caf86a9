"""Losses by name and weight."""

import functools

import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from medjax import engine, losses, tasks
from medjax.tasks import objective

LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)))
TARGET = jnp.asarray(np.random.default_rng(1).integers(3, size=(2, 4, 4)))


def test_terms_are_hashable_and_parse_again():
  spec = ml_collections.ConfigDict(
    {'dice': 1, 'cross_entropy': {'weight': 0.5, 'class_weights': [1, 2, 3]}}
  )
  terms = objective.parse(spec)
  assert hash(terms) == hash(objective.parse(spec))
  assert objective.parse(terms) == terms
  expected = losses.dice(LOGITS, TARGET)
  expected += 0.5 * losses.cross_entropy(
    LOGITS, TARGET, class_weights=(1, 2, 3)
  )
  actual = objective.evaluate(terms, LOGITS, TARGET)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_options_reach_only_the_losses_that_take_them():
  terms = objective.parse(
    {'generalised_dice': 1.0, 'focal': {'class_weights': (1, 1, 1)}}
  )
  actual = objective.evaluate(
    terms, LOGITS, TARGET, class_weights=(9, 9, 9), multi_label=False
  )
  expected = losses.generalised_dice(LOGITS, TARGET)
  expected += losses.focal(LOGITS, TARGET)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ({'dise': 1.0}, "did you mean 'dice'"),
    ({'focal': {'gama': 1.0}}, "did you mean 'gamma'"),
    ({'dice': 'much'}, 'weight must be a number'),
    ({'dice': True}, 'weight must be a number'),
    ({}, 'names no loss'),
  ],
)
def test_bad_specs(spec, message):
  with pytest.raises(ValueError, match=message):
    objective.parse(spec)


def mine(logits, target, *, power=1.0):
  """A loss outside of medjax."""
  return power * logits.mean((1, 2, 3))


def test_a_loss_from_outside_and_one_name():
  spec = ('dice', dict(name=f'{__name__}:mine', weight=0.5, power=2.0))
  terms = objective.parse(ml_collections.ConfigDict({'loss': spec}).loss)
  assert objective.parse(terms) == terms
  expected = losses.dice(LOGITS, TARGET) + LOGITS.mean((1, 2, 3))
  actual = objective.evaluate(terms, LOGITS, TARGET)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  assert objective.parse('dice') == objective.parse({'dice': 1.0})
  with pytest.raises(ValueError, match='is no entry'):
    objective.parse((dict(weight=1.0),))


def test_class_weights_are_one_for_each_class():
  spec = {'cross_entropy': {'class_weights': (1, 2)}}
  for task in (tasks.Segmentation, tasks.Classification):
    with pytest.raises(ValueError, match='has 2 entries, not 3'):
      task(num_classes=3, loss=spec)


def test_weights_of_levels():
  assert objective.level_weights((), 1) == [1]
  assert objective.level_weights((), 3) == [2 / 3, 1 / 3, 0]
  assert objective.level_weights((1, 0, 3), 3) == [0.25, 0, 0.75]
  for bad in ((1, 1), (0, 0, 0), (2, -1, 0)):
    with pytest.raises(ValueError, match='the model has 3 outputs'):
      objective.level_weights(bad, 3)


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('Segmentation', {}),
    ('Classification', {'multi_label': True}),
    ('DistilledSegmentation', {'teacher': 'runs/a'}),
  ],
)
def test_a_loss_over_the_whole_batch_is_not_split(name, options):
  made = lambda loss: getattr(tasks, name)(num_classes=3, loss=loss, **options)
  step = functools.partial(
    engine.make_train_step, None, tx=optax.sgd(1.0), augment=None,
    mesh=engine.make_mesh(), gradient=engine.Microbatches(2),
  )  # fmt: skip
  step(task=made({'dice': 1.0}))
  with pytest.raises(ValueError, match=r'set train\.microbatches=1'):
    step(task=made({'dice': {'batch': True}}))
