"""Concepts, counterfactuals, neighbours and do, beside closed forms."""

import types

import explain_nets as nets
import numpy as np
import pytest

from medjax import tasks
from medjax.explain import concepts, counterfactual, extras, subjects, target
from medjax.explain.options import Asked
from medjax.metrics import embeddings


def test_a_counterfactual_of_a_linear_score_is_the_nearest():
  rng = np.random.default_rng(0)
  weights = rng.normal(size=(6, 5, 1)).astype(np.float32)
  images = rng.normal(size=(4, 6, 5, 1)).astype(np.float32)
  score, about = nets.linear(weights), {}
  goal = np.array([0.5, -0.5, 0.0, 2.0], np.float32)
  values = np.asarray(score(images, about))
  changed, passed = counterfactual.counterfactual(
    score, images, about, goal=goal
  )
  assert passed.all()
  distance = np.linalg.norm((changed - images).reshape(4, -1), axis=1)
  nearest = np.abs(values - goal) / np.linalg.norm(weights)
  # The range of the image holds a few voxels back.
  assert (distance >= nearest * 0.999).all()
  np.testing.assert_allclose(distance, nearest, rtol=0.15)
  after = np.asarray(score(changed, about))
  assert ((after - goal) * np.sign(values - goal) <= 1e-4).all()
  for x, y in zip(images, changed, strict=True):
    assert y.min() >= x.min() - 1e-6
    assert y.max() <= x.max() + 1e-6


def test_a_counterfactual_that_there_is_not():
  images = np.random.default_rng(0).normal(size=(1, 4, 4, 1))
  score = nets.linear(np.zeros((4, 4, 1), np.float32))
  changed, passed = counterfactual.counterfactual(
    score, images.astype(np.float32), {}, goal=np.ones(1)
  )
  assert not passed.any()
  assert np.isfinite(changed).all()


def planted_layer(seed=0, n=200, noise=0.5):
  """Means of a layer, a concept along its first two channels, and slopes."""
  rng = np.random.default_rng(seed)
  means = rng.normal(size=(n, 12)) * np.linspace(0.2, 3, 12)
  value = means[:, 0] / 0.2 + means[:, 1] / 0.45 + noise * rng.normal(size=n)
  return means, value, rng


def test_tcav_finds_the_concept_that_matters_and_not_another():
  means, value, rng = planted_layer()
  slopes = np.zeros((60, 12))
  slopes[:, 0] = 1 + 0.1 * rng.normal(size=60)
  found = concepts.tcav(means, value, slopes)
  assert found.score == 1
  assert found.p <= 0.01
  assert found.r > 0.8
  assert found.slope > 0
  other = concepts.tcav(means, rng.normal(size=200), slopes)
  assert other.p > 0.05
  assert abs(other.r) < 0.3


def test_tcav_of_random_concepts_is_rarely_significant():
  small = 0
  for seed in range(60):
    means, _, rng = planted_layer(seed)
    slopes = rng.normal(size=(30, 12)) + 0.3
    small += concepts.tcav(means, rng.normal(size=200), slopes).p < 0.05
  assert small <= 8  # of 60 3 are expected


def test_slices_of_a_patient_do_not_tell_its_concept():
  """Layers and a concept of noise, both alike within 20 patients of 15."""
  told, alone = [], []
  for seed in range(10):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(20), 15)
    means = rng.normal(size=(20, 12))[patients] + 0.3 * rng.normal(
      size=(300, 12)
    )
    value, slopes = rng.normal(size=20)[patients], rng.normal(size=(30, 12))
    told.append(concepts.tcav(means, value, slopes, patients=patients).r)
    alone.append(concepts.tcav(means, value, slopes).r)
  assert np.mean(alone) > 0.6  # the other slices give it away
  assert np.mean(told) < 0.2
  assert np.isnan(concepts.tcav(means, value, slopes, patients=np.zeros(300)).r)


@pytest.mark.parametrize(
  'values', [np.full(200, 3.0), np.r_[np.zeros(195), np.ones(5)]]
)
def test_a_concept_that_hardly_varies_is_too_few(values):
  means, _, rng = planted_layer()
  assert concepts.tcav(means, values, rng.normal(size=(5, 12))) is None


def test_the_nearest_are_those_of_the_same_direction():
  rng = np.random.default_rng(0)
  stored = rng.normal(size=(50, 8))
  queries = stored[[3, 17]] * 0.9
  index, cosines = embeddings.nearest(queries, stored, 4)
  assert index[:, 0].tolist() == [3, 17]
  assert (np.diff(cosines, axis=1) <= 0).all()
  assert (cosines[:, 0] > 0.98).all()


def test_of_a_label_map_the_mask_is_that_of_the_class():
  task = tasks.Segmentation(num_classes=3)
  labels = np.array([0, 1, 2, 2])
  found = subjects._of_class(task, 2, labels)
  np.testing.assert_array_equal(found, [0, 0, 1, 1])
  # A mask of one thing is of that thing, whatever its number is.
  np.testing.assert_array_equal(
    subjects._of_class(task, 2, np.array([0, 1, 1])), [0, 1, 1]
  )


@pytest.mark.parametrize(
  'asked',
  [dict(nearest=2), dict(concepts='size'), dict(planted=True),
   dict(do={'size': 1.0})],
)  # fmt: skip
def test_what_a_segmenter_cannot_is_said_before_the_work(asked):
  run = types.SimpleNamespace(task=tasks.Segmentation(num_classes=3))
  network = types.SimpleNamespace(target=target.of_task(run.task))
  score = types.SimpleNamespace(network=network)
  with pytest.raises(ValueError, match=f'--{next(iter(asked))}'):
    extras.check(run, score, Asked(**asked))


@pytest.mark.parametrize('name', ['nearest', 'sanity'])
def test_fewer_than_none_is_refused(name):
  with pytest.raises(ValueError, match=f'--{name}=-1 is too few'):
    Asked(**{name: -1})
