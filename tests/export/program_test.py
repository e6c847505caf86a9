"""Programs: any batch on an accelerator, temperature as medjax has it."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from medjax import models
from medjax.export import program
from medjax.metrics import calibration
from medjax.ops import platform

BACKBONE = models.ResNet18(3, width=4, stem='small', stage_sizes=(1,))
NETWORKS = {
  'fusion': (models.Fusion(3, BACKBONE), [(12, 12, 1), (2,)]),
  'unet of MONAI': (models.UNet2018(3, features=(4, 6)), [(16, 16, 1)]),
  'resnet 3-D': (
    models.ResNet18(3, width=4, stage_sizes=(1, 1)),
    [(9, 9, 9, 1)],
  ),
  'segresnet': (
    models.SegResNet(3, features=(8, 16), encoder_blocks=(1, 1)),
    [(12, 12, 1)],
  ),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_the_portable_program_is_of_any_batch(name):
  model, shapes = NETWORKS[name]
  like = lambda b: [jax.ShapeDtypeStruct((b, *s), np.float32) for s in shapes]
  key = jax.random.key(0)
  variables = jax.eval_shape(
    lambda *xs: model.init(key, *(np.zeros(x.shape, 'f4') for x in xs)),
    *like(1),
  )
  (batch,) = export.symbolic_shape('b')
  with platform.traced_for('plain'):
    made = export.export(jax.jit(model.apply), platforms=['cuda', 'tpu'])(
      variables, *like(batch)
    )
  assert made.platforms == ('cuda', 'tpu')
  assert str(made.out_avals[0].shape[0]) == 'b'


@pytest.mark.parametrize('exclusive', [True, False])
def test_temperature_is_that_of_medjax(exclusive):
  rng = np.random.default_rng(0)
  p = rng.random((7, 3)).astype(np.float32)
  p = p / p.sum(-1, keepdims=True) if exclusive else p
  p[0] = (1, 0, 0)  # surer than float32 can say
  wanted = calibration.scaled(p, 1.7, exclusive=exclusive)
  found = program._scaled(p, 1.7, exclusive)
  np.testing.assert_allclose(found[1:], wanted[1:], atol=1e-6)
  assert np.isfinite(found).all()


def _heavy(x):
  for _ in range(200):
    x = jnp.sin(x @ x)
  return x


@pytest.mark.parametrize('cheap', ['cpu', 'plain'])
def test_of_two_forms_the_cheaper_is_taken(cheap):
  def made(weights, inputs):
    form = 'cpu' if platform.is_cpu() else 'plain'
    x = inputs['image'] * weights['0/params/w']
    return {'prediction': x if form == cheap else _heavy(x)}

  weights = {'0/params/w': np.ones((), np.float32)}
  exported, form = program.for_cpu(made, weights, {'image': [64, 64]}, 1)
  assert form == cheap
  assert exported.in_avals[-1].shape == (1, 64, 64)


def test_a_form_that_waits_for_its_threads_is_not_dearer():
  """As small operations do on a busy machine."""

  def works(_):
    begun = time.process_time()
    while time.process_time() - begun < 5e-3:
      pass

  cost = functools.partial(program._seconds, inputs=None, most=0.0)
  assert cost(lambda _: time.sleep(2e-2)) < cost(works)
