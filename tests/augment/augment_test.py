"""What holds for every augmentation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import augment
from medjax.build import build

# Those that need a batch have tests of their own.
OF_A_BATCH = {'amplitude_mix', 'histogram_match', 'mixup', 'strong', 'views'}
SPECS = [
  dict(name='flip'),
  dict(name='rot90'),
  dict(name='affine', rotate=30.0, scale=(0.7, 1.4), shear=5.0, translate=2.0),
  dict(name='affine', elastic=2.0),
  dict(name='affine', rotate=90, elastic=1, axes=(0, 1), mode='edge'),
  dict(name='gaussian_noise'),
  dict(name='gaussian_blur', p_channel=0.5),
  dict(name='brightness'),
  dict(name='contrast'),
  dict(name='gamma'),
  dict(name='gamma', invert=True),
  dict(name='low_resolution', p_channel=0.5),
]
SHAPES = [(9, 6, 3), (5, 6, 6, 1)]

every_spec = pytest.mark.parametrize(
  'spec', SPECS, ids=lambda spec: '-'.join(map(str, spec.values()))
)


def examples(shape, count, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': jnp.asarray(rng.normal(size=(count, *shape)), jnp.float32),
    'mask': jnp.asarray(rng.choice([0, 2, 5], (count, *shape[:-1])), jnp.int32),
    'label': jnp.arange(count, dtype=jnp.int32),
  }


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def test_the_registry_is_covered():
  named = {spec['name'] for spec in SPECS}
  assert named | OF_A_BATCH == set(augment.__all__)


@every_spec
def test_p_zero_is_the_identity(spec):
  batch = examples(SHAPES[1], 3)
  function = build(augment, dict(spec, p=0))
  out = jax.jit(jax.vmap(function))(keys(3), batch)
  assert out.keys() == batch.keys()
  for name in batch:
    np.testing.assert_array_equal(out[name], batch[name])


@every_spec
def test_a_batch_keeps_its_shapes_types_and_labels(spec):
  function = build(augment, spec | dict(p=1))
  for shape in SHAPES:
    batch = examples(shape, 4)
    out = jax.jit(jax.vmap(function))(keys(4), batch)
    for name in batch:
      assert out[name].shape == batch[name].shape
      assert out[name].dtype == batch[name].dtype
    assert jnp.isfinite(out['image']).all()
    assert set(np.unique(out['mask'])) <= {0, 2, 5}
    np.testing.assert_array_equal(out['label'], batch['label'])
    assert (out['image'] != batch['image']).any()

  # A row of the batch is what the example alone gives.
  row = jax.tree.map(lambda x: x[2], batch)
  alone = jax.jit(function)(keys(4)[2], row)
  np.testing.assert_allclose(out['image'][2], alone['image'], atol=1e-5)
  np.testing.assert_array_equal(out['mask'][2], alone['mask'])


@every_spec
def test_the_gradient_is_finite_and_right(spec):
  batch = examples((6, 5, 1), 1)
  image, function = batch['image'][0], build(augment, spec | dict(p=1))
  weight = jax.random.normal(jax.random.key(7), image.shape)

  def value(x):
    out = function(jax.random.key(3), {'image': x})['image']
    return (weight * out).sum()

  # Away from the extremes, whose change moves every voxel of a gamma.
  step = 1e-2 * jax.random.normal(jax.random.key(8), image.shape)
  inner = (image > image.min()) & (image < image.max())
  step = jnp.where(inner, step, 0)
  around = jnp.stack([image - step, image, image + step])
  values, gradients = jax.jit(jax.vmap(jax.value_and_grad(value)))(around)
  assert jnp.isfinite(gradients).all()
  slope = 2 * (gradients[1] * step).sum()
  np.testing.assert_allclose(values[2] - values[0], slope, atol=2e-3)


@pytest.mark.parametrize(
  'spec',
  [
    dict(name='flip', axes=(0,)),
    dict(name='rot90'),
    dict(name='affine', rotate=30.0),
    dict(name='affine', elastic=1.0),
    dict(name='gaussian_noise'),
    dict(name='gaussian_blur'),
    dict(name='brightness'),
    dict(name='contrast'),
    dict(name='gamma'),
    dict(name='low_resolution', zoom=(0.5, 0.5)),
  ],
  ids=lambda spec: spec['name'],
)
def test_p_is_the_share_of_examples_that_change(spec):
  image = examples((4, 4, 1), 1)['image'][0]
  function = build(augment, spec | dict(p=0.3))
  many = jax.jit(jax.vmap(lambda key: function(key, {'image': image})['image']))
  changed = (many(keys(2000)) != image).any((1, 2, 3))
  assert changed.mean() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize('name', ['gaussian_blur', 'low_resolution'])
def test_p_channel_is_the_share_of_channels_that_change(name):
  image = examples((4, 4, 3), 1)['image'][0]
  function = functools.partial(getattr(augment, name), p=0.8, p_channel=0.5)
  if name == 'low_resolution':
    function = functools.partial(function, zoom=(0.5, 0.5))
  many = jax.jit(jax.vmap(lambda key: function(key, {'image': image})['image']))
  changed = np.asarray((many(keys(2000)) != image).any((1, 2)))
  np.testing.assert_allclose(changed.mean(0), 0.4, atol=0.04)
  assert changed.any(-1).mean() == pytest.approx(0.8 * 7 / 8, abs=0.04)


def test_affine_draws_each_component():
  image = examples((5, 5, 1), 1)['image'][0]
  function = functools.partial(
    augment.affine, p=0.2, rotate=30.0, scale=(1 / 1.4, 1 / 0.7)
  )
  many = jax.jit(jax.vmap(lambda key: function(key, {'image': image})['image']))
  changed = (many(keys(2000)) != image).any((1, 2, 3))
  assert changed.mean() == pytest.approx(1 - 0.8**2, abs=0.04)


def test_a_typing_error_gets_one_line():
  with pytest.raises(ValueError, match="did you mean 'rotate'"):
    build(augment, dict(name='affine', rotation=10.0))
  with pytest.raises(ValueError, match="did you mean 'gaussian_blur'"):
    build(augment, dict(name='gausian_blur'))


def test_a_percentage_is_no_probability():
  example = {'image': jnp.zeros((4, 4, 1))}
  with pytest.raises(ValueError, match='between 0 and 1, not 50'):
    augment.gamma(jax.random.key(0), example, p=50)
