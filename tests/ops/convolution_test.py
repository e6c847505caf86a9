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

from medjax.ops import convolution, convolution_2d, kernel_gradient
from medjax.ops.convolution import conv

LAYOUTS = {2: ('NHWC', 'HWIO', 'NHWC'), 3: ('NDHWC', 'DHWIO', 'NDHWC')}


def reference(x, w, strides, padding, dilation, groups):
  return lax.conv_general_dilated(
    x,
    w,
    strides,
    padding,
    rhs_dilation=dilation,
    dimension_numbers=LAYOUTS[x.ndim - 2],
    feature_group_count=groups,
  )


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


def assert_close(actual, desired, rtol=1e-5):
  for a, d in zip(
    jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True
  ):
    scale = max(float(jnp.abs(d).max()), 1e-6)
    np.testing.assert_allclose(a, d, rtol=0, atol=rtol * scale)


def assert_same_map(ours, theirs, x, w, derive=jax.value_and_grad):
  """In value and gradients, forward mode, and over several kernels."""
  weighted = lambda f: lambda x, w: jnp.sin(f(x, w)).sum()
  gradient = lambda f: jax.jit(derive(weighted(f), (0, 1)))(x, w)
  assert_close(gradient(ours), gradient(theirs))
  tangent = lambda f: jax.jit(lambda: jax.jvp(f, (x, w), (x + 1, w - 1)))()
  assert_close(tangent(ours), tangent(theirs))
  members = jax.jit(jax.vmap(ours, (None, 0)))(x, jnp.stack([w, -w]))
  assert_close(members[1], -theirs(x, w))


@pytest.mark.parametrize('rank', [2, 3])
@pytest.mark.parametrize('seed', range(12))
def test_agrees_with_lax_in_value_and_gradients(seed, rank):
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


@pytest.mark.parametrize('rank', [2, 3])
def test_depthwise_agrees_with_lax_and_is_no_convolution_on_a_cpu(
  rank, text_for
):
  rng = np.random.default_rng(0)
  size, window = (9, 8, 7)[-rank:], (3, 2, 5)[-rank:]
  x = jnp.asarray(rng.normal(size=(2, *size, 3)), 'f')
  w = jnp.asarray(rng.normal(size=(*window, 1, 3)), 'f')
  strides, dilation = (2, 1, 2)[-rank:], (2, 3, 1)[-rank:]
  padding = ((2, 1), (0, 3), (2, 2))[-rank:]
  options = dict(rhs_dilation=dilation, feature_group_count=3)
  ours = lambda x, w: conv(x, w, strides, padding, **options)
  theirs = lambda x, w: reference(x, w, strides, padding, dilation, 3)
  assert_same_map(ours, theirs, x, w)
  assert 'convolution' not in text_for('cpu', ours, x, w)
  assert 'convolution' in text_for('cuda', ours, x, w)
  half = ours(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
  assert_close(half.astype('f'), theirs(x, w), 2e-2)


def test_the_cpu_program_holds_no_3d_convolution_and_others_do(text_for):
  x, w = jnp.ones((1, 6, 6, 6, 2)), jnp.ones((3, 3, 3, 2, 4))
  f = lambda x, w: conv(x, w, (1, 1, 1), 'SAME')
  three_d = '[b, 0, 1, 2, f]'
  assert three_d not in text_for('cpu', f, x, w)
  assert three_d in text_for('cuda', f, x, w)


@pytest.mark.parametrize(
  ('rank', 'size'), [(3, 1), (3, 2), (3, 4), (3, 5), (3, 11), (2, 7), (2, 8)]
)
def test_three_taps_by_winograd(rank, size, monkeypatch):
  monkeypatch.setattr(convolution, '_MANY', 4)
  monkeypatch.setattr(convolution, '_VOXELS', {2: 0, 3: 0})
  rng = np.random.default_rng(size)
  x = jnp.asarray(rng.normal(size=(2, size, *(6, 5)[: rank - 1], 7)), 'f')
  w = jnp.asarray(rng.normal(size=(3,) * rank + (7, 4)), 'f')
  ones, padding = (1,) * rank, ((1, 1), (0, 1), (1, 0))[:rank]
  ours = lambda x, w, **kw: conv(x, w, ones, padding, **kw)
  theirs = lambda x, w: reference(x, w, ones, padding, ones, 1)
  # Voxel by voxel: where terms of a sum cancel, it shows the lost digit.
  assert_close(ours(x, w), theirs(x, w))
  assert_same_map(ours, theirs, x, w, jax.grad)
  count = lambda **kw: jax.make_jaxpr(lambda x, w: ours(x, w, **kw))
  convolutions = lambda **kw: str(count(**kw)(x, w)).count('conv_general')
  assert convolutions() == 6
  assert convolutions(precision=lax.Precision.HIGHEST) == 1
  with jax.default_matmul_precision('highest'):
    assert convolutions() == 1


def test_winograd_loses_a_digit_and_no_more(monkeypatch):
  monkeypatch.setattr(convolution, '_VOXELS', {3: 0})
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(1, 12, 8, 8, 64)), rng.normal(size=(3, 3, 3, 64, 32))
  with jax.enable_x64(True):
    exact = reference(
      jnp.asarray(x), jnp.asarray(w), (1, 1, 1), 'SAME', (1, 1, 1), 1
    )
  found = conv(jnp.asarray(x, 'f'), jnp.asarray(w, 'f'), (1, 1, 1), 'SAME')
  assert_close(found, np.asarray(exact), 5e-6)


def test_few_voxels_take_one_convolution():
  """Six of them compile for long: DenseNet-121 in 3-D took two minutes."""
  for rank, few, many in ((3, 8, 17), (2, 22, 23)):
    w = jnp.ones((3,) * rank + (256, 256))
    f = lambda x, w, rank=rank: conv(x, w, (1,) * rank, 'SAME')
    for n, expected in ((few, 1), (many, 6)):
      x = jnp.ones((1, *(n,) * rank, 256))
      assert str(jax.make_jaxpr(f)(x, w)).count('conv_general') == expected


def test_under_vmap_remat_scan_and_forward_mode():
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


def test_inside_linen_as_a_drop_in():
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
  window, strides, padding, dilation, monkeypatch
):
  monkeypatch.setattr(convolution_2d, '_CHANNELS', 2)
  monkeypatch.setattr(convolution_2d, '_images_in_a_row', lambda *_, **__: 3)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(6, 5, 7, 3)), 'f')
  w = jnp.asarray(rng.normal(size=(*window, 3, 2)), 'f')
  ours = lambda x, w: conv(x, w, strides, padding, rhs_dilation=dilation)
  theirs = lambda x, w: reference(x, w, strides, padding, dilation, 1)
  assert_same_map(ours, theirs, x, w)


def test_rows_of_one_part_are_made_longer(monkeypatch):
  def images(batch, width, channels, features, voxels=1):
    kernel = (3, 3, channels, features)
    return convolution_2d._images_in_a_row(batch, width, kernel, voxels)

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
    convolution_2d, '_images_in_a_row', lambda *args: asked.append(args) or 1
  )
  x, w = jnp.ones((2, 8, 10, 4)), jnp.ones((3, 3, 4, 8))
  jax.grad(lambda x: conv(x, w, (2, 2), 'SAME').sum())(x)
  # Blocks of 2x2 voxels, whose kernel covers two of them.
  assert asked == [(2, 5, (3, 3, 4, 8), 1), (2, 5, (2, 2, 8, 16))]


@pytest.fixture
def in_small_steps(monkeypatch):
  """The kernel's gradient in steps of one row, whatever the channels."""
  monkeypatch.setattr(kernel_gradient, '_CACHE', 1)
  monkeypatch.setattr(convolution_2d, '_CHANNELS', 1)


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
  batch, channels, window, strides, padding, dilation
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
def test_steps_of_any_number_of_rows(rows, monkeypatch):
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
def test_per_example_gradients_and_recomputation_of_a_2d_kernel():
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


def test_a_convolution_of_one_voxel_is_a_matrix_product_on_a_cpu(text_for):
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


def test_half_precision_sums_in_float32():
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
    from medjax.ops import convolution, convolution_2d, kernel_gradient
    kernel_gradient._CACHE = 40_000  # several steps for a kernel's gradient
    convolution_2d._WIDE = 4  # one image beside another, if it were but one
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
