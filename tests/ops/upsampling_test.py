import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops.upsampling import linear_upsample, transposed_conv


@pytest.mark.parametrize('window', [(2, 2), (1, 3), (2, 2, 2), (1, 2, 3)])
def test_agrees_with_torch_in_value_and_gradients(window):
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(0)
  rank = len(window)
  x = rng.normal(size=(2, *(5, 4, 3)[:rank], 6)).astype(np.float32)
  kernel = rng.normal(size=(*window, 6, 5)).astype(np.float32)
  to_first = (0, rank + 1, *range(1, rank + 1))
  tx = torch.tensor(x.transpose(to_first), requires_grad=True)
  weight = kernel.transpose(rank, rank + 1, *range(rank))
  tw = torch.tensor(weight, requires_grad=True)
  f = getattr(torch.nn.functional, f'conv_transpose{rank}d')
  ty = f(tx, tw, stride=window)
  ty.sin().sum().backward()

  def ours(x, kernel):
    y = transposed_conv(x, kernel)
    return jnp.sin(y).sum(), y

  (gx, gk), y = jax.jit(jax.grad(ours, (0, 1), has_aux=True))(
    jnp.asarray(x), jnp.asarray(kernel)
  )
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
  close(y.transpose(to_first), ty.detach().numpy())
  close(gx.transpose(to_first), tx.grad.numpy())
  close(gk.transpose(rank, rank + 1, *range(rank)), tw.grad.numpy())


def test_agrees_with_lax_given_flipped_taps():
  x = jax.random.normal(jax.random.key(0), (1, 3, 4, 2))
  kernel = jax.random.normal(jax.random.key(1), (2, 2, 2, 3))
  expected = jax.lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), 'VALID')
  y = transposed_conv(x, kernel)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_under_vmap_over_kernels():
  x = jnp.ones((1, 3, 3, 2))
  kernels = jax.random.normal(jax.random.key(0), (4, 2, 2, 2, 3))
  y = jax.vmap(transposed_conv, (None, 0))(x, kernels)
  np.testing.assert_allclose(
    y[1], transposed_conv(x, kernels[1]), rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize(
  ('shape', 'size'), [((5, 3), (10, 9)), ((4, 1, 3), (8, 4, 3)), ((5,), (8,))]
)
def test_linear_agrees_with_torch(shape, size):
  torch = pytest.importorskip('torch')
  x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype('f')
  tx = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
  mode = ('linear', 'bilinear', 'trilinear')[len(shape) - 1]
  ty = torch.nn.functional.interpolate(tx, size, mode=mode)
  ty.sin().sum().backward()

  def ours(x):
    y = linear_upsample(x, size)
    return jnp.sin(y).sum(), y

  gradient, y = jax.jit(jax.grad(ours, has_aux=True))(x)
  for a, b in ((y, ty), (gradient, tx.grad)):
    b = np.moveaxis(b.detach().numpy(), 1, -1)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_linear_crops_what_a_stride_rounded_up():
  x = np.random.default_rng(0).normal(size=(1, 4, 3, 2)).astype('f')
  f = lambda x: (linear_upsample(x, (8, 9)), linear_upsample(x, (7, 7)))
  whole, cropped = jax.jit(f)(x)
  np.testing.assert_array_equal(cropped, whole[:, :7, :7])
