import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops.convolution import conv
from medjax.ops.cpu import few_voxels

CASES = pytest.mark.parametrize(
  ('size', 'window', 'strides', 'padding', 'dilation'),
  [
    ((5, 4), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 1), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),  # one tap sees it
    ((2, 2), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((2, 1), (3, 2), (1, 1), ((4, 4), (3, 3)), (2, 3)),  # far outside
    ((4, 7), (2, 3), (3, 2), ((-1, 0), (0, 2)), (1, 1)),  # a cropped image
    ((2, 3, 1), (3, 1, 3), (2, 1, 1), ((1, 1), (0, 0), (1, 1)), (1, 1, 1)),
  ],
)


@CASES
def test_agrees_with_lax(
  size, window, strides, padding, dilation, reference, assert_same_map
):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *size, 3)), 'f')
  w = jnp.asarray(rng.normal(size=(*window, 3, 4)), 'f')
  ours = lambda x, w: few_voxels.one_product(
    x, w, window_strides=strides, padding=padding, rhs_dilation=dilation,
    precision=None,
  )  # fmt: skip
  theirs = lambda x, w: reference(x, w, strides, padding, dilation, 1)
  assert_same_map(ours, theirs, x, w)


@CASES
def test_a_fixed_kernel_agrees_with_lax(
  size, window, strides, padding, dilation, reference
):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(1, *size, 3)), 'f')
  w = jnp.asarray(rng.normal(size=(*window, 3, 4)), 'f')
  ours = jax.jit(
    lambda x: few_voxels.one_product(
      x, w, window_strides=strides, padding=padding, rhs_dilation=dilation,
      precision=None,
    )
  )  # fmt: skip
  theirs = reference(x, w, strides, padding, dilation, 1)
  np.testing.assert_allclose(ours(x), theirs, atol=1e-5)


@pytest.mark.usefixtures('sizes_matter')
def test_a_fixed_kernel_is_turned_once_and_lies_on_the_left():
  w = jnp.ones((3, 3, 8, 5))
  traced = lambda n: jax.make_jaxpr(lambda x: conv(x, w, (1, 1), 'SAME'))(
    jnp.ones((1, n, n, 8))
  )
  closed = traced(4)
  assert [c.shape for c in closed.consts] == [(5, 72)]
  (product,) = (e for e in closed.eqns if e.primitive.name == 'dot_general')
  assert product.invars[0] is closed.jaxpr.constvars[0]
  # Of one voxel only the middle tap is kept; of many voxels nothing is turned.
  assert [c.shape for c in traced(1).consts] == [(5, 8)]
  assert [c.shape for c in traced(5).consts] == [(3, 3, 8, 5)]


@pytest.mark.usefixtures('sizes_matter')
def test_few_voxels_are_a_product_and_the_kernel_is_not_copied(text_for):
  w = jnp.ones((3, 3, 64, 64))
  f = lambda x, w: conv(x, w, (1, 1), 'SAME')
  text = lambda *size: text_for('cpu', f, jnp.ones((*size, 64)), w)
  assert 'convolution' not in text(1, 8, 8)
  assert 'transpose' not in text(1, 8, 8)
  assert 'convolution' in text(2, 8, 8)
  assert 'convolution' not in text(32, 2, 4)  # 8 voxels below 9 taps
  assert 'convolution' in text(32, 3, 3)
  assert 'convolution' in text_for('cuda', f, jnp.ones((1, 4, 4, 64)), w)


@pytest.mark.usefixtures('sizes_matter')
def test_winograd_is_for_many_voxels():
  """Its six convolutions compile for long: DenseNet-121 in 3-D, two minutes."""
  for rank, few, many in ((3, 8, 17), (2, 20, 23)):
    w = jnp.ones((3,) * rank + (256, 256))
    f = lambda x, w, rank=rank: conv(x, w, (1,) * rank, 'SAME')
    for n, expected in ((few, 1), (many, 6)):
      x = jnp.ones((1, *(n,) * rank, 256))
      assert str(jax.make_jaxpr(f)(x, w)).count('conv_general') == expected
