"""One image by itself: a program of the weights that are there."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import pytest

from medjax import engine
from medjax.models import layers
from medjax.prediction import forward, predictor
from medjax.prediction.fixed import Fixed


class Task:
  inputs = ('image',)

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


def test_one_image_of_weights_that_stay_takes_it(members, monkeypatch):
  mesh, calls = engine.make_mesh(jax.devices()[:1]), []
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: mesh)

  class Watched(Fixed):
    def __call__(self, inputs):
      calls.append(len(inputs[0]))
      return super().__call__(inputs)

  monkeypatch.setattr(predictor, 'Fixed', Watched)
  settings = dict(shard_space=False, batch_size=2, overlap=0.5, flips=False)
  made = predictor.Predictor(
    SimpleNamespace(
      task=Task(),
      model=MODEL,
      inference=SimpleNamespace(**settings),
      data=SimpleNamespace(patch_size=()),
      inputs=Task.inputs,
      apart=False,
      members=(),
    )
  )
  x = np.random.default_rng(0).normal(size=(2, *IMAGE.shape[1:]))
  x, fixed = x.astype(np.float32), made.with_weights(*members, fixed=True)
  for images, expected in (([x[:1]], [1]), ([x], [1])):
    found = fixed._forward(images)['prediction']
    assert calls == expected
    others = made.with_weights(*members)._forward(images)['prediction']
    assert calls == expected
    np.testing.assert_allclose(found, others, atol=1e-6)
