"""Forward passes: mirror images, volumes spread over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import engine, models
from medjax.prediction import forward


class Task:
  def predict(self, outputs):
    return jax.nn.softmax(outputs)


class Map(nn.Module):
  """A dense net that is not symmetric: flips change it."""

  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.Conv(2, (3,) * (x.ndim - 2))(x)


@pytest.mark.parametrize('rank', [2, 3])
def test_flips_average_over_all_mirror_images(rank):
  mesh = engine.make_mesh(jax.devices()[:2])
  x = jax.random.normal(jax.random.key(2), (2, *(6,) * rank, 1))
  variables = Map().init(jax.random.key(0), x)
  mirrored = forward.make_forward(Map(), Task(), mesh, flips=True)
  found = mirrored(variables, [x])['prediction']
  expected = []
  for bits in np.ndindex(*(2,) * rank):
    axes = [a + 1 for a, bit in enumerate(bits) if bit]
    flipped = jax.nn.softmax(Map().apply(variables, jnp.flip(x, axes)))
    expected.append(jnp.flip(flipped, axes))
  np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-6)


@pytest.mark.parametrize(
  ('model', 'shape', 'flips'),
  [
    (models.UNet(2, features=(4, 8)), (32, 16, 16), False),
    (models.UNet(2, features=(4, 8)), (9, 29, 8), False),
    (Map(), (9, 29, 8), True),
  ],
)
def test_a_volume_spread_over_devices_is_predicted_alike(model, shape, flips):
  images = np.random.default_rng(0).normal(size=(1, *shape, 1))
  images = images.astype(np.float32)
  init = jax.jit(lambda key, x: model.init(key, x, train=False))
  variables = init(jax.random.key(0), images)
  one = engine.make_mesh(jax.devices()[:1])
  whole = forward.make_forward(model, Task(), one, flips=flips)
  split = forward.make_spatial_forward(
    model, Task(), engine.make_mesh(jax.devices()[:8]), flips=flips
  )
  found = split(variables, [images])['prediction']
  assert found.shape == (1, *shape, 2)
  expected = whole(variables, [images])['prediction']
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('axis', [1, 2])  # depth is convolved differently
def test_a_volume_spread_over_devices_needs_less_memory_on_each(axis):
  model = models.UNet(num_classes=2, features=(4, 8))
  shape = [1, 16, 16, 16, 1]
  shape[axis] = 64
  images = np.zeros(shape, np.float32)
  variables = jax.eval_shape(
    lambda key: model.init(key, images, train=False), jax.random.key(0)
  )

  def analysed(devices):
    mesh = engine.make_mesh(jax.devices()[:devices])
    apply = lambda variables, xs: {
      'prediction': model.apply(variables, *xs, train=False)
    }
    program = forward._spatial_program(apply, mesh)
    return program.lower(variables, images, axis=axis, size=64).compile()

  one, eight = analysed(1), analysed(8)
  # Neighbours exchange borders, and nobody gathers a map.
  assert 'collective-permute' in eight.as_text()
  assert 'all-gather' not in eight.as_text()
  one, eight = one.memory_analysis(), eight.memory_analysis()
  assert eight.temp_size_in_bytes < one.temp_size_in_bytes / 4
  assert eight.output_size_in_bytes == one.output_size_in_bytes / 8


def test_names_of_a_task_and_vectors_are_flipped_alike():
  class Named:
    def predict(self, outputs):
      return {'map': outputs, 'mean': outputs.mean((1, 2))}

  mesh = engine.make_mesh(jax.devices()[:1])
  x = np.random.default_rng(0).normal(size=(2, 5, 6, 1)).astype(np.float32)
  variables = Map().init(jax.random.key(0), x)
  mirrored = forward.make_forward(Map(), Named(), mesh, flips=True)
  found = mirrored(variables, [x])
  np.testing.assert_allclose(
    found['map'].mean((1, 2)), found['mean'], atol=1e-6
  )


def test_what_is_no_map_is_not_spread():
  class Mean:
    def predict(self, outputs):
      return outputs.mean((1, 2))

  mesh = engine.make_mesh(jax.devices()[:2])
  x = np.zeros((1, 8, 6, 1), np.float32)
  variables = Map().init(jax.random.key(0), x)
  spread = forward.make_spatial_forward(Map(), Mean(), mesh)
  with pytest.raises(ValueError, match='shard_space is for models that give'):
    spread(variables, [x])
