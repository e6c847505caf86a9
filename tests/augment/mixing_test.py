"""Mixup: label and image share one draw, and the partner is the next one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import augment
from medjax.augment.compose import compose


def mix(batch, **arguments):
  count = batch['image'].shape[0]
  keys = jax.random.split(jax.random.key(0), count)
  function = functools.partial(augment.mixup, **arguments)
  return jax.jit(jax.vmap(function, axis_name='batch'))(keys, batch)


@pytest.mark.parametrize('shape', [(4, 3), (3, 2, 4)])
def test_image_and_label_share_one_draw(shape):
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.normal(size=(6, *shape, 2)), jnp.float32)
  label = jnp.asarray([0, 1, 2, 0, 1, 2])
  out = mix({'image': image, 'label': label}, alpha=1.0, num_classes=3)
  assert out['label'].shape == (6, 3)
  assert out['label'].dtype == jnp.float32
  np.testing.assert_allclose(out['label'].sum(-1), 1, rtol=1e-6)
  for i in range(6):
    j = (i + 1) % 6
    share = out['label'][i, label[i]]
    assert 0 <= share <= 1
    expected = share * image[i] + (1 - share) * image[j]
    np.testing.assert_allclose(out['image'][i], expected, atol=1e-5)
    np.testing.assert_allclose(out['label'][i, label[j]], 1 - share, atol=1e-6)
  assert len(set(np.asarray(out['label'].max(-1)))) == 6


def test_p_zero_keeps_the_image_and_makes_the_label_one_hot():
  image = jax.random.normal(jax.random.key(1), (3, 4, 4, 1))
  batch = {'image': image, 'label': jnp.asarray([2, 0, 1])}
  out = mix(batch, p=0, num_classes=4)
  np.testing.assert_array_equal(out['image'], image)
  np.testing.assert_array_equal(out['label'], np.eye(4)[[2, 0, 1]])


def test_multi_label_and_a_batch_of_one():
  image = jnp.ones((2, 3, 3, 1))
  label = jnp.asarray([[1, 0, 1], [0, 1, 1]], jnp.float32)
  out = mix({'image': image, 'label': label}, alpha=1.0)
  np.testing.assert_allclose(out['label'][:, 2], 1, rtol=1e-6)
  np.testing.assert_allclose(out['label'][:, :2].sum(-1), 1, rtol=1e-6)

  out = mix({'image': image[:1], 'label': label[:1]}, alpha=1.0)
  np.testing.assert_allclose(out['image'], image[:1], rtol=1e-6)
  np.testing.assert_allclose(out['label'], label[:1], rtol=1e-6)


def test_a_label_that_is_not_known_stays_so():
  batch = {
    'image': jnp.zeros((2, 3, 3, 1)),
    'label': jnp.array([[1, -1, 0], [0, 1, 1]]),
  }
  label = np.asarray(mix(batch, alpha=2.0)['label'])
  assert (label[:, 1] == -1).all()
  assert ((label[:, ::2] > 0) & (label[:, ::2] < 1)).all()
  kept = np.asarray(mix(batch, p=0.0)['label'])
  np.testing.assert_array_equal(kept, batch['label'])


def test_a_case_without_a_label_is_no_partner():
  image = jax.random.normal(jax.random.key(1), (4, 3, 3, 1))
  valid = {'label': jnp.array([True, False, True, True])}
  batch = {
    'image': image,
    'label': jnp.array([1, 0, 1, 1]),  # zeros stand for one that is not there
    'index': jnp.arange(4, dtype=jnp.uint32),
    'valid': valid,
  }
  mixup = functools.partial(augment.mixup, alpha=1.0, num_classes=2)
  out = jax.jit(compose([mixup]))(jax.random.key(0), batch)
  np.testing.assert_array_equal(out['image'][:2], image[:2])
  np.testing.assert_array_equal(out['label'][0], [0, 1])
  assert (out['image'][2:] != image[2:]).all()
  np.testing.assert_allclose(out['label'][2:], [[0, 1]] * 2, atol=1e-6)
  np.testing.assert_array_equal(out['valid']['label'], valid['label'])


def test_share_is_beta_distributed():
  batch = {'image': jnp.zeros((2000, 1, 1, 1)), 'label': jnp.arange(2000) % 2}
  label = np.asarray(mix(batch, alpha=0.4, num_classes=2)['label'])
  share = label[np.arange(2000), np.arange(2000) % 2]
  assert share.mean() == pytest.approx(0.5, abs=0.03)
  # The variance of Beta(a, a) is 1 / (4 (2a + 1)).
  assert share.var() == pytest.approx(1 / (4 * 1.8), rel=0.1)


def test_mistakes_are_named():
  image = jnp.zeros((2, 4, 4, 1))
  label = jnp.zeros(2, jnp.int32)
  with pytest.raises(ValueError, match='mixup is for classification'):
    mix({'image': image, 'mask': image[..., 0].astype(int), 'label': label})
  with pytest.raises(ValueError, match='mixup is for classification'):
    mix({'image': image})
  with pytest.raises(ValueError, match='needs num_classes'):
    mix({'image': image, 'label': label})
