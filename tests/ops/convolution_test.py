import os
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from medjax.ops.convolution import conv


def random_case(seed, rank):
  """Random shapes, odd ones too, with an output of one voxel or more."""
  rng = np.random.default_rng(seed)
  groups = int(rng.choice([1, 1, 2, 3]))
  channels, features = groups * rng.integers(1, 5), groups * rng.integers(1, 4)
  window = tuple(int(k) for k in rng.integers(1, 4, rank))
  strides = tuple(int(s) for s in rng.integers(1, 4, rank))
  dilation = tuple(int(d) for d in rng.integers(1, 3, rank))
  size = tuple(int(n) for n in rng.integers(7, 11, rank))
  explicit = [tuple(int(p) for p in rng.integers(0, 3, 2)) for _ in size]
  padding = ['SAME', 'VALID', explicit][seed % 3]
  batch = int(rng.integers(1, 4))
  x = rng.normal(size=(batch, *size, channels)).astype(np.float32)
  w = rng.normal(size=(*window, channels // groups, features))
  w = w.astype(np.float32)
  return jnp.asarray(x), jnp.asarray(w), strides, padding, dilation, groups


@pytest.mark.parametrize('rank', [2, 3])
@pytest.mark.parametrize('seed', range(12))
def test_agrees_with_lax_in_value_and_gradients(
  seed, rank, reference, assert_close
):
  x, w, strides, padding, dilation, groups = random_case(seed, rank)

  def ours(x, w):
    y = conv(
      x,
      w,
      strides,
      padding,
      rhs_dilation=dilation,
      feature_group_count=groups,
    )
    return jnp.sin(y).sum(), y

  def theirs(x, w):
    y = reference(x, w, strides, padding, dilation, groups)
    return jnp.sin(y).sum(), y

  gradient = lambda f: jax.jit(jax.grad(f, (0, 1), has_aux=True))
  got, expected = gradient(ours)(x, w), gradient(theirs)(x, w)
  assert got[1].shape == expected[1].shape
  assert_close(got, expected)


def test_the_cpu_program_holds_no_3d_convolution_and_others_do(text_for):
  x, w = jnp.ones((1, 6, 6, 6, 2)), jnp.ones((3, 3, 3, 2, 4))
  f = lambda x, w: conv(x, w, (1, 1, 1), 'SAME')
  three_d = '[b, 0, 1, 2, f]'
  assert three_d not in text_for('cpu', f, x, w)
  assert three_d in text_for('cuda', f, x, w)


def test_under_vmap_remat_scan_and_forward_mode(reference, assert_close):
  x, w, *_ = random_case(0, 3)
  x, w = x[..., :1], w[..., :1, :2]
  f = lambda x, w: conv(x, w, (1, 2, 1), 'SAME')
  g = lambda x, w: reference(x, w, (1, 2, 1), 'SAME', (1, 1, 1), 1)
  ws = jnp.stack([w, 2 * w, -w])
  over_kernels = lambda f: jax.jit(jax.vmap(f, (None, 0)))(x, ws)
  assert_close(over_kernels(f), over_kernels(g))
  loss = lambda f: lambda w: (f(x, w) ** 2).sum()
  per_kernel = lambda f: jax.jit(jax.vmap(jax.grad(loss(f))))(ws)
  assert_close(per_kernel(f), per_kernel(g))
  remat = jax.jit(jax.grad(jax.checkpoint(loss(f))))(w)
  assert_close(remat, jax.grad(loss(g))(w))
  tangent = lambda f: jax.jvp(lambda w: f(x, w), (w,), (w + 1,))
  assert_close(tangent(f), tangent(g))
  scanned = jax.jit(lambda ws: lax.map(lambda w: f(x, w), ws))(ws)
  assert_close(scanned, over_kernels(g))


def test_inside_linen_as_a_drop_in(assert_close):
  x = jax.random.normal(jax.random.key(0), (2, 5, 6, 7, 3))
  for options in (
    dict(padding='CIRCULAR'),
    dict(strides=2, feature_group_count=3),
    dict(kernel_dilation=2, padding=1),
  ):
    ours = nn.Conv(6, (3, 3, 3), conv_general_dilated=conv, **options)
    theirs = nn.Conv(6, (3, 3, 3), **options)
    variables = theirs.init(jax.random.key(1), x)
    assert_close(ours.apply(variables, x), theirs.apply(variables, x))


def test_half_precision_sums_in_float32(assert_close):
  x = jax.random.normal(jax.random.key(0), (1, 8, 8, 8, 16))
  w = jax.random.normal(jax.random.key(1), (3, 3, 3, 16, 4))
  x, w = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
  y = conv(x, w, (1, 1, 1), 'SAME')
  assert y.dtype == jnp.bfloat16
  exact = conv(x.astype('float32'), w.astype('float32'), (1, 1, 1), 'SAME')
  assert_close(y.astype(jnp.float32), exact, 4e-3)  # one rounding to 8 bits
  gx, gw = jax.grad(
    lambda x, w: conv(x, w, (1, 1, 1), 'SAME').astype('float32').sum(), (0, 1)
  )(x, w)
  assert gx.dtype == gw.dtype == jnp.bfloat16


def test_dilated_inputs_and_other_layouts_are_refused():
  x, w = jnp.ones((1, 4, 4, 4, 1)), jnp.ones((2, 2, 2, 1, 1))
  with pytest.raises(ValueError, match='transposed_conv'):
    conv(x, w, (1, 1, 1), 'VALID', lhs_dilation=(2, 2, 2))
  first = lax.conv_dimension_numbers(
    x.shape, w.shape, ('NCDHW', 'OIDHW', 'NCDHW')
  )
  with pytest.raises(ValueError, match='channels last'):
    conv(x, w, (1, 1, 1), 'VALID', dimension_numbers=first)


def test_sharded_over_a_mesh_one_sum_is_all_that_is_sent():
  program = """
    import re
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from medjax.ops import convolution
    from medjax.ops.cpu import convolution as forms, kernel_gradient, plane
    forms._FEW = 0  # as images of any size
    forms._VOXELS = {2: 0, 3: 0}
    kernel_gradient._CACHE = 40_000  # several steps for a kernel's gradient
    plane._WIDE = 4  # one image beside another, if it were but one
    mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
    put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
    for size, window, strides in (
      ((8, 5, 6, 7, 3), (3, 3, 3, 3, 4), (1, 2, 1)),
      ((16, 9, 7, 16), (3, 3, 16, 4), (2, 1)),
      ((16, 9, 7, 16), (3, 3, 16, 16), (2, 1)),
    ):
      x = np.random.default_rng(0).normal(size=size).astype('f')
      w = np.random.default_rng(1).normal(size=window).astype('f')
      y = lambda w, x: convolution.conv(x, w, strides, 'SAME')
      gradient = jax.jit(
        jax.value_and_grad(lambda w, x: (y(w, x) ** 2).mean())
      )
      one = gradient(jnp.asarray(w), jnp.asarray(x))
      args = put(w, P()), put(x, P('data'))
      four = gradient(*args)
      for a, b in zip(one, four):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
      text = gradient.lower(*args).compile().as_text()
      assert 'all-reduce' in text and 'all-gather' not in text, text
      assert 'all-to-all' not in text and 'collective-permute' not in text
      loops = re.findall(r'body=(%[\\w.-]+)', text)
      assert bool(loops) == (min(window[-2:]) == 16), text
      for body in loops:
        steps = re.search(f'^{re.escape(body)} .*?^}}', text, re.M | re.S)
        assert 'all-reduce' not in steps[0], text
  """
  flags = '--xla_force_host_platform_device_count=4'
  subprocess.run(
    [sys.executable, '-c', textwrap.dedent(program)],
    env={**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
    check=True,
  )
