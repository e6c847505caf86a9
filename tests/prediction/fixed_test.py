"""One image by itself: a program of the weights that are there."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from medjax import engine
from medjax.models import layers
from medjax.prediction import forward
from medjax.prediction.fixed import Fixed


class Task:
  def predict(self, outputs):
    return jax.nn.softmax(outputs)


class Small(nn.Module):
  """Its second convolution sees one voxel."""

  @nn.compact
  def __call__(self, x, *, train=False):
    for stride in (4, 2):
      x = nn.relu(layers.Conv(8, (3, 3), stride)(x))
    return nn.Dense(3)(x.mean((1, 2)))


MODEL, IMAGE = Small(), np.zeros((1, 8, 8, 1), np.float32)


@pytest.fixture(scope='module')
def members():
  init = jax.jit(lambda key: MODEL.init(key, IMAGE, train=False))
  return [init(jax.random.key(seed)) for seed in (0, 1)]


def test_members_give_what_they_give_as_arguments(members):
  mesh = engine.make_mesh(jax.devices()[:1])
  calls = []

  def counted(variables, inputs):
    calls.append(inputs[0].shape)
    return forward.plain(MODEL, Task(), False)(variables, inputs)

  fixed = Fixed(counted, members, mesh)
  compiled = forward.make_forward(MODEL, Task(), mesh)
  rng = np.random.default_rng(0)
  for _ in range(2):
    x = rng.normal(size=IMAGE.shape).astype(np.float32)
    for found, variables in zip(fixed([x]), members, strict=True):
      expected = compiled(variables, [x])['prediction']
      np.testing.assert_allclose(found['prediction'], expected, atol=1e-6)
  # Once a member, not once an image.
  assert calls == [IMAGE.shape] * 2


def test_weights_are_arguments_of_one_program(members):
  """As constants XLA would fold them, for a minute."""
  fixed = Fixed(
    forward.plain(MODEL, Task(), False), members, engine.make_mesh()
  )
  program, constants = fixed._make([IMAGE])
  text = program.lower(constants[0], [IMAGE]).as_text()
  assert 'dense<"0x' not in text
  first, second = ([x.shape for x in each] for each in constants)
  assert first == second
  assert (8, 32) in first  # four taps of nine see the 2 × 2 voxels
