"""A composed list: order, keys, fields, and independence of the layout."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import augment
from medjax.augment.compose import compose
from medjax.build import build

# nnU-Net v2's list for isotropic patches, in its order. Its 2-D patches turn
# by 180 degrees either way; its samples lie 0.7 to 1.4 voxels apart.
NNUNET = (
  dict(name='affine', p=0.2, rotate=30.0, scale=(1 / 1.4, 1 / 0.7)),
  dict(name='gaussian_noise', p=0.1, std=(0.0, 0.1)),
  dict(name='gaussian_blur', p=0.2, p_channel=0.5, sigma=(0.5, 1.0)),
  dict(name='brightness', p=0.15, factor=(0.75, 1.25)),
  dict(name='contrast', p=0.15, factor=(0.75, 1.25)),
  dict(name='low_resolution', p=0.25, p_channel=0.5, zoom=(0.5, 1.0)),
  dict(name='gamma', p=0.1, exponent=(0.7, 1.5), invert=True),
  dict(name='gamma', p=0.3, exponent=(0.7, 1.5)),
  dict(name='flip', p=0.5),
)
# The same where the first axis is much coarser than the others.
NNUNET_ANISOTROPIC = (
  dict(NNUNET[0], rotate=180.0, axes=(1, 2)),
  *NNUNET[1:5],
  dict(NNUNET[5], axes=(1, 2)),
  *NNUNET[6:],
)
NNUNET_2D = (dict(NNUNET[0], rotate=180.0), *NNUNET[1:])


def chain(specs):
  return compose(build(augment, spec) for spec in specs)


def make_batch(shape, count=8, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': jnp.asarray(rng.normal(size=(count, *shape)), jnp.float32),
    'mask': jnp.asarray(rng.integers(0, 3, (count, *shape[:-1])), jnp.int32),
    'valid': jnp.arange(count) < count - 1,
    'index': jnp.asarray(100 + rng.permutation(count), jnp.uint32),
  }


@pytest.mark.parametrize(
  ('specs', 'shape'),
  [
    (NNUNET_2D, (12, 16, 1)),
    (NNUNET, (8, 10, 9, 2)),
    (NNUNET_ANISOTROPIC, (4, 12, 11, 1)),
  ],
  ids=['2d', '3d', 'anisotropic'],
)
def test_nnunet_list_and_a_permuted_batch(specs, shape):
  batch = make_batch(shape)
  augmented = jax.jit(chain(specs))
  out = augmented(jax.random.key(0), batch)
  assert out.keys() == batch.keys()
  for name in batch:
    assert out[name].shape == batch[name].shape
    assert out[name].dtype == batch[name].dtype
  assert jnp.isfinite(out['image']).all()
  assert set(np.unique(out['mask'])) <= {0, 1, 2}
  for name in ('valid', 'index'):
    np.testing.assert_array_equal(out[name], batch[name])
  changed = (out['image'] != batch['image']).any(range(1, out['image'].ndim))
  assert changed.mean() > 0.7

  order = np.random.default_rng(1).permutation(8)
  moved = jax.tree.map(lambda x: x[order], batch)
  moved = augmented(jax.random.key(0), moved)
  for name in batch:
    np.testing.assert_allclose(moved[name], out[name][order], atol=1e-6)

  again = augmented(jax.random.key(1), batch)
  assert (again['image'] != out['image']).any()


def test_functions_run_in_order_with_a_key_each():
  seen = []

  def record(key, example, *, add):
    seen.append(key)
    return {**example, 'image': 2 * example['image'] + add}

  batch = {
    'image': jnp.ones((2, 3, 3, 1)),
    'index': jnp.arange(2, dtype=jnp.uint32),
    'extra': jnp.arange(5),
  }
  functions = [
    lambda key, example, add=add: record(key, example, add=add)
    for add in (1.0, 10.0)
  ]
  out = compose(functions)(jax.random.key(0), batch)
  assert (out['image'] == (2 * 1 + 1) * 2 + 10).all()
  assert out['extra'] is batch['extra']
  assert len(seen) == 2


def test_the_key_is_the_examples_own():
  draw = lambda key, example: {
    **example,
    'image': jax.random.normal(key, example['image'].shape),
  }
  index = jnp.asarray([7, 3, 7], jnp.uint32)
  batch = {'image': jnp.zeros((3, 2, 2, 1)), 'index': index}
  out = compose([draw])(jax.random.key(5), batch)['image']
  expected = jax.random.split(jax.random.fold_in(jax.random.key(5), 3), 1)[0]
  np.testing.assert_array_equal(out[0], out[2])
  np.testing.assert_array_equal(out[1], jax.random.normal(expected, (2, 2, 1)))


def test_nothing_to_do_is_the_identity():
  batch = make_batch((4, 4, 1))
  assert compose(())(jax.random.key(0), batch) is batch


def test_a_batch_of_one_is_its_row_of_a_larger_one():
  batch = make_batch((6, 6, 1), 3)
  augmented = jax.jit(chain((dict(name='affine', rotate=20.0, p=1.0),)))
  whole = augmented(jax.random.key(0), batch)
  row = augmented(jax.random.key(0), jax.tree.map(lambda x: x[1:2], batch))
  np.testing.assert_allclose(row['image'][0], whole['image'][1], atol=1e-6)


def test_an_image_of_8_or_16_bits_is_augmented_as_its_values():
  rng = np.random.default_rng(0)
  stored = {
    'image': rng.integers(0, 256, (8, 6, 6, 1)).astype(np.uint8),
    'prior': rng.integers(0, 4096, (8, 6, 6, 2)).astype(np.uint16),
    'label': np.arange(8),
    'index': np.arange(8, dtype=np.uint32),
  }
  floats = {k: v.astype(np.float32) for k, v in stored.items()}
  floats |= {k: stored[k] for k in ('label', 'index')}
  specs = (dict(name='gamma', p=1.0, invert=True), dict(name='flip', p=1.0))
  augmented = jax.jit(chain(specs))
  out, expected = (augmented(jax.random.key(0), x) for x in (stored, floats))
  for name in stored:
    assert out[name].dtype == expected[name].dtype
    np.testing.assert_allclose(out[name], expected[name], rtol=1e-6)
  assert (out['prior'] != stored['prior']).any()


def test_mixup_in_a_chain():
  batch = make_batch((6, 6, 1))
  del batch['mask']
  batch['label'] = jnp.arange(8) % 3
  specs = (dict(name='flip'), dict(name='mixup', num_classes=3))
  out = jax.jit(chain(specs))(jax.random.key(0), batch)
  assert out['label'].shape == (8, 3)
  np.testing.assert_allclose(out['label'].sum(-1), 1, rtol=1e-6)


ON_EIGHT = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from compose_test import NNUNET_2D, chain, make_batch

assert jax.device_count() == 8
extra = (dict(name='affine', elastic=2.0, p=1.0), dict(name='rot90'))
mixup = (dict(name='mixup', num_classes=3),)
mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec('data'))
key = jax.random.key(0)
for specs in (NNUNET_2D + extra, mixup):
  batch = make_batch((8, 8, 1), 16)
  if specs is mixup:
    del batch['mask']
    batch['label'] = np.arange(16) % 3
  augmented = jax.jit(chain(specs))
  one = augmented(key, batch)
  spread = jax.device_put(batch, sharding)
  compiled = augmented.lower(key, spread).compile()
  eight = compiled(key, spread)
  assert len(eight['image'].sharding.device_set) == 8
  for name in one:
    difference = np.abs(np.subtract(one[name], eight[name], dtype=np.float64))
    print(name, difference.max())
    assert difference.max() <= 1e-5
  program = compiled.as_text()
  kinds = 'all-gather', 'all-reduce', 'all-to-all', 'collective-permute'
  talk = [kind for kind in kinds if kind in program]
  print('collectives', talk)
  assert specs is mixup or not talk
"""


def test_one_device_and_eight_agree_and_do_not_talk():
  here = os.path.dirname(__file__)
  root = os.path.dirname(os.path.dirname(here))
  # Of eight devices, as all tests (conftest.py).
  environment = os.environ | {'PYTHONPATH': os.pathsep.join([root, here])}
  done = subprocess.run(
    [sys.executable, '-c', ON_EIGHT],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  print(done.stdout)
  assert done.returncode == 0, done.stdout + done.stderr[-3000:]
