"""Programs: any batch on an accelerator, temperature as medjax has it."""

import jax
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
