import functools

import jax
import numpy as np
import pytest

from medjax import augment
from medjax.augment.compose import compose


def batch(n=5):
  images = np.random.default_rng(0).normal(size=(n, 6, 4, 1))
  return {'image': images.astype(np.float32), 'index': np.arange(n, dtype='u4')}


def views(**options):
  noise = functools.partial(augment.gaussian_noise, p=1.0)
  parts = (functools.partial(augment.flip, p=0.5), noise)
  return compose([functools.partial(augment.views, augment=parts, **options)])


@pytest.mark.parametrize('count', [2, 3])
def test_views_differ_from_each_other_and_are_those_of_their_place(count):
  made = jax.jit(views(count=count))
  one = made(jax.random.key(0), batch())
  assert one['image'].shape == (5, count, 6, 4, 1)
  assert len({np.asarray(v).tobytes() for v in one['image'][0]}) == count
  # Where in the batch an example stands does not matter.
  turned = {k: v[::-1] for k, v in batch().items()}
  two = made(jax.random.key(0), turned)
  np.testing.assert_allclose(two['image'][::-1], one['image'], atol=1e-6)


def test_a_mask_would_be_of_one_view():
  masked = batch() | {'mask': np.zeros((5, 6, 4), int)}
  with pytest.raises(ValueError, match='images without masks'):
    views()(jax.random.key(0), masked)
