"""What a teacher adds to the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from drawn_runs import CLASSES, RESNET, SCALE, config_of, make_run_in

from medjax import experiment
from medjax.data.facts import DataFacts
from medjax.tasks import DistilledClassification, DistilledSegmentation
from medjax.tasks.classification import Classification
from medjax.tasks.distillation import divergence, likeness

RNG = np.random.default_rng(0)


def test_the_divergence_in_float64():
  ours, theirs = RNG.normal(size=(2, 5, 4))
  for softness in (1.0, 3.0):
    p, q = (scipy.special.softmax(x / softness, -1) for x in (theirs, ours))
    wanted = softness**2 * (p * np.log(p / q)).sum(-1)
    found = divergence(
      jnp.array(ours), jnp.array(theirs), softness=softness, exclusive=True
    )
    np.testing.assert_allclose(found, wanted, rtol=2e-5)


def test_the_divergence_of_labels_and_of_maps():
  ours, theirs = RNG.normal(size=(2, 5, 3, 4))
  p, q = (scipy.special.expit(x / 2) for x in (theirs, ours))
  each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
  found = divergence(
    jnp.array(ours), jnp.array(theirs), softness=2.0, exclusive=False
  )
  np.testing.assert_allclose(found, 4 * each.mean((1, 2)), rtol=2e-5)


def test_nothing_diverges_from_itself():
  x = jnp.array(RNG.normal(size=(5, 4)))
  for exclusive in (True, False):
    found = divergence(x, x, softness=2.0, exclusive=exclusive)
    np.testing.assert_allclose(found, 0, atol=1e-6)


@pytest.mark.parametrize('weight', [0.0, 0.3, 1.0])
def test_the_loss_is_weighed(weight):
  logits = jnp.array(RNG.normal(size=(5, 3)), jnp.float32)
  theirs = jnp.array(RNG.normal(size=(5, 3)), jnp.float32)
  batch = {'image': jnp.zeros((5, 2, 2, 1)), 'label': jnp.arange(5) % 3}
  task = DistilledClassification(
    num_classes=3, teacher='runs/a', weight=weight, teach=lambda x: theirs
  )
  plain = Classification(num_classes=3).loss(lambda x: logits, batch)
  soft = divergence(logits, theirs, softness=2.0, exclusive=True)
  found = task.loss(lambda x: logits, batch)
  np.testing.assert_allclose(found, (1 - weight) * plain + weight * soft, 1e-5)


def test_the_teacher_has_no_gradient():
  batch = {'image': jnp.ones((2, 3)), 'label': jnp.zeros(2, int)}

  def loss(w):
    task = DistilledClassification(
      num_classes=3, teacher='a', weight=1.0, teach=lambda x: x * w
    )
    return task.loss(lambda x: jax.lax.stop_gradient(x + 1), batch).sum()

  assert jax.grad(loss)(2.0) == 0


def test_masks_too():
  batch = {'image': jnp.zeros((2, 4, 4, 1)), 'mask': jnp.zeros((2, 4, 4), int)}
  logits = jnp.array(RNG.normal(size=(2, 4, 4, 3)), jnp.float32)
  task = DistilledSegmentation(
    num_classes=3, teacher='a', teach=lambda x: logits
  )
  assert task.loss(lambda x: logits, batch).shape == (2,)
  assert hash(task) == hash(
    DistilledSegmentation(num_classes=3, teacher='a', teach=None)
  )


def test_what_cannot_be_taught():
  with pytest.raises(ValueError, match='weight=2 is not in 0 to 1'):
    DistilledClassification(num_classes=2, teacher='a', weight=2)
  batch = {'image': jnp.zeros((2, 4)), 'label': jnp.zeros(2, int)}
  task = DistilledClassification(num_classes=2, teacher='a')
  with pytest.raises(ValueError, match='nobody teaches'):
    task.loss(lambda x: x, batch)
  task = DistilledClassification(
    num_classes=2, teacher='a', teach=lambda x: jnp.zeros((2, 3))
  )
  with pytest.raises(ValueError, match='they need one task'):
    task.loss(lambda x: jnp.zeros((2, 2)), batch)


def test_the_likeness_of_embeddings_in_a_loop():
  ours, theirs = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 9))
  wanted = np.zeros(6)
  for i in range(6):
    a = np.array([ours[i] @ ours[j] for j in range(6)])
    b = np.array([theirs[i] @ theirs[j] for j in range(6)])
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    wanted[i] = ((a - b) ** 2).mean()
  found = likeness(jnp.array(ours), jnp.array(theirs))
  np.testing.assert_allclose(found, wanted, rtol=1e-4)
  turned, _ = np.linalg.qr(RNG.normal(size=(4, 4)))
  same = likeness(jnp.array(ours), jnp.array(3 * ours @ turned))
  np.testing.assert_allclose(same, 0, atol=1e-6)


def test_features_count_beside_the_logits_and_over_the_batch():
  made = lambda size: {
    'logits': jnp.array(RNG.normal(size=(5, 3))),
    'pooled': jnp.array(RNG.normal(size=(5, size))),
  }
  ours, theirs = made(4), made(7)
  batch = {'image': jnp.zeros((5, 2, 2, 1)), 'label': jnp.arange(5) % 3}
  options = dict(num_classes=3, teacher='runs/a', weight=0.3)
  of = lambda outputs: (
    lambda x, features=False: outputs if features else outputs['logits']
  )
  plain = DistilledClassification(**options, teach=of(theirs))
  both = DistilledClassification(**options, teach=of(theirs), features=2.0)
  assert (plain.over_batch, both.over_batch) == (False, True)
  apart = likeness(ours['pooled'], theirs['pooled'])
  found = both.loss(of(ours), batch) - plain.loss(of(ours), batch)
  np.testing.assert_allclose(found, 2 * apart, rtol=1e-4, atol=1e-6)
  with pytest.raises(ValueError, match='features=-1 must be 0 or more'):
    DistilledClassification(**options, features=-1)


def student(workdir, *, names=('a', 'b', 'c'), scale=SCALE, **options):
  """The inputs → logits of a teacher, asked for by a student's config."""
  task = dict(
    name='DistilledClassification', teacher=str(workdir), class_names=names
  )
  config = config_of(RESNET, {**task, **options}, scale)
  facts = DataFacts(channels=1, rank=2, shape=(8, 8), spacing=(1.0, 1.0))
  return experiment.make(config, facts=facts).task.teach


def test_a_teacher_of_other_classes_or_images_is_refused(tmp_path):
  workdir = make_run_in(tmp_path, RESNET, CLASSES, SCALE, (8, 8, 1))
  image = np.zeros((1, 8, 8, 1), np.float32)
  assert student(workdir)(image).shape == (1, 3)
  with pytest.raises(ValueError, match='teaches the classes a, b, c, the stu'):
    student(workdir, names=('b', 'a', 'c'))(image)
  with pytest.raises(ValueError, match='the student learns the labels a, b, c'):
    student(workdir, multi_label=True)(image)
  with pytest.raises(ValueError, match='prepares images otherwise'):
    student(workdir, scale=(dict(name='scale', mean=0.0, std=1.0),))(image)
