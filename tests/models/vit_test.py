import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import models
from medjax.models.swin_unetr import SwinBlock

TINY = dict(num_classes=3, width=8, depth=1, heads=2, hidden=12)


def test_positions_are_resized_to_the_image():
  torch = pytest.importorskip('torch')
  model = models.ViT(**TINY, patch_size=4, image_size=20)
  x = jax.random.normal(jax.random.key(0), (1, 27, 12, 1))
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda p: jnp.asarray(rng.normal(size=p.shape), 'f'),
    jax.eval_shape(model.init, jax.random.key(0), x),
  )
  positions = variables['params']['positions']
  assert positions.shape == (1 + 25, 8)
  y = jax.jit(model.apply)(variables, x)
  resized = torch.nn.functional.interpolate(
    torch.tensor(np.asarray(positions[1:]).reshape(1, 5, 5, 8)).movedim(3, 1),
    (7, 3), mode='bicubic', antialias=True, align_corners=False,
  )  # fmt: skip
  resized = resized.numpy()[0].reshape(8, 21).T
  variables['params']['positions'] = jnp.concatenate([positions[:1], resized])
  # The image's own size: no resizing, and what is missing of a patch is zero.
  model = models.ViT(**TINY, patch_size=4, image_size=(28, 12))
  x = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
  expected = jax.jit(model.apply)(variables, x)
  np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


def test_unfit_arguments_are_refused():
  x = jnp.ones((1, 8, 8, 1))
  for options in (dict(heads=3), dict(patch_size=(4, 4, 4))):
    model = models.ViT(**{**TINY, **options})
    with pytest.raises(ValueError, match=r'do not divide|spatial axes'):
      jax.eval_shape(model.init, jax.random.key(0), x)


def test_a_shifted_window_sees_what_lay_beside_it_only():
  """Of a voxel, by its gradient: no window reaches around the border."""
  block = SwinBlock(1, (4, 4), True, 0.0, 0.0, None)
  x = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
  variables = block.init(jax.random.key(1), x, False)

  def seen(row, column):
    y = lambda x: block.apply(variables, x, False)[0, row, column].sum()
    return np.abs(jax.grad(y)(x)[0]).sum(-1) > 1e-9

  for (row, column), (rows, columns) in {
    (0, 0): ((0, 2), (0, 2)),
    (3, 4): ((2, 6), (2, 6)),
    (7, 1): ((6, 8), (0, 2)),
  }.items():
    expected = np.zeros((8, 8), bool)
    expected[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(seen(row, column), expected)
