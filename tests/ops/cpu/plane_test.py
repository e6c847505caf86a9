import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops.convolution import conv
from medjax.ops.cpu import plane


@pytest.mark.parametrize(
  ('window', 'strides', 'padding', 'dilation'),
  [
    ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((2, 3), (1, 2), ((0, 1), (0, 1)), (1, 1)),
    ((1, 2), (2, 3), ((0, 0), (4, 5)), (1, 3)),  # more zeros than a window
    ((3, 2), (1, 1), ((2, 0), (-1, -2)), (2, 1)),  # a cropped image
    ((1, 1), (2, 2), ((0, 0), (0, 3)), (1, 1)),
  ],
)
def test_images_side_by_side_agree_with_lax(
  window, strides, padding, dilation, monkeypatch, reference, assert_same_map
):
  monkeypatch.setattr(plane, '_CHANNELS', 2)
  monkeypatch.setattr(plane, '_images_in_a_row', lambda *_, **__: 3)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(6, 5, 7, 3)), 'f')
  w = jnp.asarray(rng.normal(size=(*window, 3, 2)), 'f')
  ours = lambda x, w: conv(x, w, strides, padding, rhs_dilation=dilation)
  theirs = lambda x, w: reference(x, w, strides, padding, dilation, 1)
  assert_same_map(ours, theirs, x, w)


def test_rows_of_one_part_are_made_longer(monkeypatch):
  def images(batch, width, channels, features, voxels=1):
    kernel = (3, 3, channels, features)
    return plane._images_in_a_row(batch, width, kernel, voxels)

  assert images(128, 28, 64, 64) == 1  # several devices
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  assert images(128, 28, 64, 64) == 64
  assert images(4, 256, 32, 32) == 4
  assert images(1, 256, 32, 32) == 1  # no neighbours
  assert images(7, 8, 32, 32) == 1  # too few of them
  assert images(8, 128, 64, 64) == 1  # two parts already
  assert images(4, 256, 64, 32) == 1  # likewise, but not its gradient
  assert images(4, 256, 32, 64) == 4
  assert images(128, 14, 128, 128) == 1  # the same, of features
  assert images(128, 28, 8, 64) == 1  # cheaper than the copies
  assert images(32, 64, 16, 16, 2) == 32
  assert images(16, 32, 32, 16, 2) == 1  # pairs of voxels are one: too few


def test_rows_of_a_gradient_are_those_of_its_own_convolution(monkeypatch):
  asked = []
  monkeypatch.setattr(
    plane, '_images_in_a_row', lambda *args: asked.append(args) or 1
  )
  x, w = jnp.ones((2, 8, 10, 4)), jnp.ones((3, 3, 4, 8))
  jax.grad(lambda x: conv(x, w, (2, 2), 'SAME').sum())(x)
  # Blocks of 2x2 voxels, whose kernel covers two of them.
  assert asked == [(2, 5, (3, 3, 4, 8), 1), (2, 5, (2, 2, 8, 16))]


def test_a_convolution_of_one_voxel_is_a_matrix_product_on_a_cpu(
  text_for, reference, assert_close
):
  x = jax.random.normal(jax.random.key(0), (2, 5, 7, 6, 3))
  w = jax.random.normal(jax.random.key(1), (1, 1, 1, 3, 4))
  options = ((2, 3, 1), ((1, 0), (0, 0), (-1, 2)))
  ours = lambda x, w: conv(x, w, *options)
  theirs = lambda x, w: reference(x, w, *options, (1, 1, 1), 1)
  gradient = lambda f: jax.jit(
    jax.value_and_grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))
  )
  assert_close(gradient(ours)(x, w), gradient(theirs)(x, w))
  assert 'convolution' not in text_for('cpu', gradient(ours), x, w)
  assert 'convolution' in text_for('cuda', gradient(ours), x, w)
