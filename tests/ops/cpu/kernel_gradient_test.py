import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops.convolution import conv
from medjax.ops.cpu import kernel_gradient, plane


@pytest.fixture
def in_small_steps(monkeypatch):
  """The kernel's gradient in steps of one row, whatever the channels."""
  monkeypatch.setattr(kernel_gradient, '_CACHE', 1)
  monkeypatch.setattr(plane, '_CHANNELS', 1)


@pytest.mark.usefixtures('in_small_steps')
@pytest.mark.parametrize(
  ('batch', 'channels', 'window', 'strides', 'padding', 'dilation'),
  [
    (1, 1, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (12, 2, (3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2)),  # 3 groups of 4 images
    (16, 1, (1, 3), (3, 2), ((0, 0), (2, 1)), (1, 1)),  # rows between windows
    (2, 2, (2, 2), (1, 1), ((-1, 0), (0, -2)), (3, 1)),  # a cropped image
    (1, 1, (2, 3, 2), (2, 1, 2), ((0, 1), (1, 1), (1, 0)), (1, 2, 1)),
  ],
)
def test_the_kernels_gradient_step_by_step_agrees_with_lax(
  batch, channels, window, strides, padding, dilation, reference, assert_close
):
  rng = np.random.default_rng(0)
  size = (6, 9, 8)[-len(window) :]
  x = jnp.asarray(rng.normal(size=(batch, *size, channels)), 'f')
  w = jnp.asarray(rng.normal(size=(*window, channels, 3)), 'f')
  ours = lambda x, w: conv(x, w, strides, padding, rhs_dilation=dilation)
  theirs = lambda x, w: reference(x, w, strides, padding, dilation, 1)
  gradient = lambda f: jax.jit(
    jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))
  )(x, w)
  assert_close(gradient(ours), gradient(theirs))
  tangent = lambda f: jax.jit(lambda: jax.jvp(f, (x, w), (x + 1, w - 1)))()
  assert_close(tangent(ours), tangent(theirs))


@pytest.mark.parametrize('rows', [1, 2, 3, 7, 8])
def test_steps_of_any_number_of_rows(
  rows, monkeypatch, reference, assert_close
):
  batch, width, channels = 8, 5, 16
  row = batch * width * 2 * 3 * channels * 4
  monkeypatch.setattr(kernel_gradient, '_CACHE', rows * row)
  x = jax.random.normal(jax.random.key(0), (batch, 7, width, channels))
  w = jnp.zeros((3, 3, channels, channels))
  gradient = lambda f: jax.jit(
    jax.grad(lambda w: (f(x, w) * jnp.arange(channels * 1.0)).sum())
  )(w)
  ones = (1, 1)
  assert_close(
    gradient(lambda x, w: conv(x, w, ones, 'SAME')),
    gradient(lambda x, w: reference(x, w, ones, 'SAME', ones, 1)),
  )


@pytest.mark.usefixtures('in_small_steps')
def test_per_example_gradients_and_recomputation_of_a_2d_kernel(
  reference, assert_close
):
  x = jax.random.normal(jax.random.key(0), (3, 4, 5, 6, 2))
  w = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
  ones = (1, 1)

  def per_example(f):
    loss = lambda w, x: jnp.sin(f(x, w)).sum()
    return jax.jit(jax.vmap(jax.grad(jax.checkpoint(loss)), (None, 0)))(w, x)

  assert_close(
    per_example(lambda x, w: conv(x, w, ones, 'SAME')),
    per_example(lambda x, w: reference(x, w, ones, 'SAME', ones, 1)),
  )
