"""Sanity checks: what must fail fails, and segments are what they say."""

import dataclasses

import jax
import numpy as np
import pytest

from medjax import models
from medjax.explain import methods, sanity, shapley, subjects
from medjax.explain.target import Network, Score, Target


@pytest.fixture(scope='module')
def edges():
  """A score of a narrow ResNet, and images with an edge in them."""
  model = models.ResNet18(
    num_classes=2, width=8, stem='small', stage_sizes=(1, 1), norm='group'
  )
  rng = np.random.default_rng(0)
  images = rng.normal(0, 0.1, (4, 16, 16, 1)).astype(np.float32)
  images[:, 5:11, 4:12] += 2
  variables = model.init(jax.random.key(3), images)
  score = Score((variables,), Network(model, Target('exclusive')))
  work = methods.Work(
    images=images,
    about={'output': np.ones(4, np.int32)},
    baseline=np.zeros_like(images),
    spacing=np.ones(2),
  )
  return score, work


def test_guided_backprop_fails_and_the_gradient_does_not(edges):
  score, work = edges
  found = {}
  for name in ('guided', 'gradient', 'gradcam_signed'):
    maps, _ = methods.run(name, score, work)
    found[name] = sanity.randomised(name, score, work, maps)
  assert found['guided']['top'] > sanity.ALIKE
  assert found['gradient']['top'] < sanity.ALIKE
  assert found['gradcam_signed']['top'] < sanity.ALIKE


def test_only_the_last_layer_is_drawn_anew(edges):
  score, work = edges
  other = sanity.reinitialised(score, work.images, work.about, top=True, seed=0)
  (old,), (new,) = score.members, other.members
  for name in old['params']:
    same = jax.tree.map(
      np.array_equal, old['params'][name], new['params'][name]
    )
    alike = all(jax.tree.leaves(same))
    assert alike == (name != 'head'), name


def test_a_head_of_deep_supervision_is_not_the_last_layer():
  model = models.UNet(num_classes=2, features=(4, 8, 8), deep_supervision=2)
  images = np.zeros((1, 16, 16, 1), np.float32)
  variables = model.init(jax.random.key(0), images)
  assert 'head_1' in variables['params']
  score = Score((variables,), Network(model, Target('exclusive')))
  about = {'output': np.ones(1, np.int32), 'region': np.ones((1, 16, 16))}
  other = sanity.reinitialised(score, images, about, top=True, seed=0)
  for name in ('head', 'head_1'):
    same = jax.tree.map(
      np.array_equal, *(s.members[0]['params'][name] for s in (score, other))
    )
    assert all(jax.tree.leaves(same)) == (name == 'head_1')


def test_alike():
  rng = np.random.default_rng(0)
  a = rng.normal(size=(5, 5))
  assert sanity.alike(a, a**3) == pytest.approx(1)
  assert sanity.alike(a, -a) == pytest.approx(-1)
  assert sanity.alike(a, np.zeros((5, 5))) == 0
  assert np.isnan(sanity.alike(np.zeros((5, 5)), a))
  assert np.isnan(sanity.alike(a, a * np.nan))


def test_empty_maps_are_no_proof_of_anything(edges, monkeypatch):
  score, work = edges
  monkeypatch.setattr(sanity, 'DRAWS', 1)
  found = sanity.randomised('gradient', score, work, np.zeros((4, 16, 16)))
  assert np.isnan([found['top'], found['all']]).all()


def test_supervoxels_are_connected_compact_and_follow_edges():
  image = np.zeros((30, 24, 12, 1), np.float32)
  image[:, 12:] = 1
  segments = shapley.supervoxels(image, 24, spacing=(1, 1, 2))
  count = segments.max() + 1
  assert 12 <= count <= 36
  assert {*np.unique(segments)} == {*range(count)}
  sides = [np.unique(image[segments == k]).size for k in range(count)]
  assert np.mean(np.array(sides) == 1) > 0.9
  sizes = np.bincount(segments.ravel())
  assert sizes.min() > 0.2 * sizes.mean()


def test_a_map_of_every_method_has_the_shape_of_the_image(edges, monkeypatch):
  monkeypatch.setattr(shapley, 'MOST_EXACT', 6)
  score, work = edges
  work = dataclasses.replace(work, samples=40, segments=9, most_steps=50)
  for name in methods.METHODS:
    if name == 'rollout':
      with pytest.raises(ValueError, match='this model has none'):
        methods.run(name, score, work)
      continue
    maps, notes = methods.run(name, score, work)
    assert maps.shape == (4, 16, 16), name
    assert np.isfinite(maps).all()
    assert len(notes) == 4


def test_rollout_is_the_product_of_the_attention():
  model = models.ViT(
    num_classes=3, width=12, depth=2, heads=2, patch_size=4, image_size=8
  )
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, 8, 8, 1)).astype(np.float32)
  variables = model.init(jax.random.key(0), images)
  # Of queries and keys that are 0 a token attends to all alike.
  params = jax.tree.map(np.array, variables['params'])
  for block in ('block_0', 'block_1'):
    params[block]['attention']['qkv']['kernel'][:, :24] = 0
  score = Score(({'params': params},), Network(model, Target('exclusive')))
  work = methods.Work(
    images=images,
    about={'output': np.zeros(2, np.int32)},
    baseline=np.zeros_like(images),
    spacing=np.ones(2),
  )
  maps, _ = methods.run('rollout', score, work)
  assert maps.shape == (2, 8, 8)
  even = (np.eye(5) + np.full((5, 5), 0.2)) / 2
  np.testing.assert_allclose(maps, (even @ even)[0, 1], rtol=1e-5)
  layer, grid = methods.chosen_layer(score, work)
  assert grid == (2, 2)
  assert layer.startswith('block_0')


@pytest.mark.slow
def test_the_planted_marker_is_found(shared_data):
  """On chest X-rays, by a model taught to look for it."""
  file = shared_data('pneumoniamnist') / 'pneumoniamnist.npz'
  with np.load(file) as data:
    images = data['train_images'][:300, ..., None].astype(np.float32)
  images = (images - 127.5) / 127.5
  model = models.ResNet18(
    num_classes=2, width=8, stem='small', stage_sizes=(1, 1, 1)
  )
  variables = model.init(jax.random.key(0), images[:1])
  score = Score((variables,), Network(model, Target('exclusive')))
  about = lambda n: {'output': np.ones(n, np.int32)}
  learnt, accuracy = sanity.taught(score, images[:260], about(260))
  assert accuracy > 0.98
  marked, boxes = sanity.plant(images[260:], seed=99)
  work = methods.Work(
    images=marked,
    about=about(40),
    baseline=np.stack([subjects.baseline(x, 'minimum') for x in marked]),
    spacing=np.ones(2),
    most_steps=100,
  )
  for name in ('ig', 'occlusion', 'rise'):
    maps, _ = methods.run(name, learnt, work)
    hits = [b[m == m.max()].mean() for m, b in zip(maps, boxes, strict=True)]
    assert np.mean(hits) >= sanity.POINTS, name
  # A score that was not taught does not look there.
  maps, _ = methods.run('occlusion', score, work)
  hits = [b[m == m.max()].mean() for m, b in zip(maps, boxes, strict=True)]
  assert np.mean(hits) < 0.8
