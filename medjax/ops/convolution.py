"""Convolution, channels last, written for the machine it is lowered to."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def conv(
  lhs: Float[Array, 'b *spatial c'],
  rhs: Float[Array, '*window i o'],
  window_strides,
  padding,
  *,
  lhs_dilation=None,
  rhs_dilation=None,
  dimension_numbers=None,
  feature_group_count=1,
  precision=None,
) -> Float[Array, 'b *out o']:
  """`lax.conv_general_dilated`, channels last, fast on a CPU too.

  Made to be passed as `nn.Conv(conv_general_dilated=conv)`. XLA has no fast
  3-D and no fast depthwise convolution for CPUs, so there a 3-D convolution
  becomes one 2-D convolution whose channels are those of all depth taps, and
  a depthwise one (a group per channel, one output each) a sum of products
  over taps; the platform is chosen when the program is lowered. Everywhere
  else this is lax itself.

  Args:
    lhs: images (b, *spatial, c).
    rhs: kernel (*window, c / feature_group_count, o).
    window_strides: one integer per spatial axis.
    padding: 'SAME', 'VALID', or (low, high) per spatial axis, in voxels.
    lhs_dilation: ones or None: spread an input with `ops.upsampling` instead,
      XLA is slow at the gradient of a dilated one.
    rhs_dilation: one integer per spatial axis.
    dimension_numbers: channels last, or None for the same.
    feature_group_count: as in lax.
    precision: as in lax.

  Raises:
    ValueError: for dilated inputs, another layout, or more spatial axes.
  """
  rank = lhs.ndim - 2
  if lhs_dilation is not None and any(d != 1 for d in lhs_dilation):
    raise ValueError(
      f'conv does not dilate its input (lhs_dilation={tuple(lhs_dilation)}); '
      'use medjax.ops.upsampling.transposed_conv'
    )
  if not 1 <= rank <= 3:
    raise ValueError(f'conv takes 1 to 3 spatial axes, got {lhs.shape}')
  spatial = 'DHW'[-rank:]
  numbers = lax.conv_dimension_numbers(
    lhs.shape, rhs.shape, (f'N{spatial}C', f'{spatial}IO', f'N{spatial}C')
  )
  if dimension_numbers not in (None, numbers):
    raise ValueError(f'conv is channels last only, got {dimension_numbers}')
  rhs_dilation = tuple(rhs_dilation or (1,) * rank)
  options = dict(
    window_strides=tuple(window_strides),
    padding=_explicit(padding, lhs, rhs, window_strides, rhs_dilation),
    rhs_dilation=rhs_dilation,
    feature_group_count=feature_group_count,
    precision=precision,
  )
  plain = functools.partial(
    lax.conv_general_dilated, dimension_numbers=numbers, **options
  )
  if 1 < feature_group_count == lhs.shape[-1] == rhs.shape[-1] and rank > 1:
    del options['feature_group_count'], options['precision']
    on_cpu = _depthwise
  elif rank == 3:
    on_cpu = _conv3d_as_2d
  else:
    return plain(lhs, rhs)
  return lax.platform_dependent(
    lhs, rhs, cpu=functools.partial(on_cpu, **options), default=plain
  )


def _explicit(padding, lhs, rhs, window_strides, rhs_dilation):
  """Padding as (low, high) per spatial axis."""
  if not isinstance(padding, str):
    return tuple(tuple(p) for p in padding)
  extent = [
    d * (k - 1) + 1 for k, d in zip(rhs.shape, rhs_dilation, strict=False)
  ]
  return tuple(
    lax.padtype_to_pads(lhs.shape[1:-1], extent, window_strides, padding)
  )


def _conv3d_as_2d(
  lhs, rhs, *, window_strides, padding, rhs_dilation, feature_group_count,
  precision,
):  # fmt: skip
  """A 3-D convolution as one 2-D convolution over stacked depth taps.

  Depth is folded into the batch, and the shifted copies of the input that the
  depth taps see are stacked as channels. Half-precision inputs are computed
  in float32: a CPU gains nothing from them.
  """
  dtype = lhs.dtype
  wide = jnp.promote_types(dtype, jnp.float32)
  lhs, rhs = lhs.astype(wide), rhs.astype(wide)
  taps, (stride, *strides), (dilation, *dilations) = (
    rhs.shape[0], window_strides, rhs_dilation,
  )  # fmt: skip
  zero = jnp.zeros((), wide)
  lhs = lax.pad(lhs, zero, [(0, 0, 0), (*padding[0], 0)] + [(0, 0, 0)] * 3)
  depth = (lhs.shape[1] - (taps - 1) * dilation - 1) // stride + 1
  shifted = [
    lax.slice_in_dim(lhs, start, start + (depth - 1) * stride + 1, stride, 1)
    for start in range(0, taps * dilation, dilation)
  ]
  # Grouped channels stay together: (groups, taps, channels of a group).
  batch, _, height, width, channels = lhs.shape
  groups = feature_group_count
  stacked = jnp.stack(
    [x.reshape(*x.shape[:-1], groups, channels // groups) for x in shifted], -2
  )
  out = lax.conv_general_dilated(
    stacked.reshape(batch * depth, height, width, taps * channels),
    jnp.moveaxis(rhs, 0, 2).reshape(*rhs.shape[1:3], -1, rhs.shape[-1]),
    strides,
    padding[1:],
    rhs_dilation=dilations,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
    precision=precision,
  )
  return out.reshape(batch, depth, *out.shape[1:]).astype(dtype)


def _depthwise(lhs, rhs, *, window_strides, padding, rhs_dilation):
  """A depthwise convolution as products of shifted images and kernel taps.

  Half-precision inputs are summed in float32.
  """
  dtype = lhs.dtype
  wide = jnp.promote_types(dtype, jnp.float32)
  zero = jnp.zeros((), wide)
  config = [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)]
  lhs = lax.pad(lhs.astype(wide), zero, config)
  rhs = rhs.astype(wide).reshape(*rhs.shape[:-2], -1)
  out = _sum_of_taps(lhs, rhs, tuple(window_strides), tuple(rhs_dilation))
  return out.astype(dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _sum_of_taps(x, kernel, strides, dilation):
  """(b, *padded, c), (*window, c) → (b, *out, c)."""
  return _unrolled(x, kernel, strides, dilation)


@_sum_of_taps.defjvp
def _sum_of_taps_jvp(strides, dilation, primals, tangents):
  """The kernel's part is a loop over taps, so that its gradient is one.

  XLA would not fuse the image's shifts into the sums of that gradient: it held
  a copy of the image for every tap.
  """
  (x, kernel), (dx, dkernel) = primals, tangents
  out = _unrolled(x, kernel, strides, dilation)
  spans = _spans(out.shape[1:-1], strides)
  steps = (slice(None), *(slice(None, None, s) for s in strides))

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def add(total, tap):
    start, weights = tap
    size = (x.shape[0], *spans, x.shape[-1])
    image = lax.dynamic_slice(x, (0, *start, 0), size)[steps]
    return total + image * weights, None

  starts = jnp.asarray(list(_starts(kernel, dilation)))
  taps = dkernel.reshape(-1, kernel.shape[-1])
  dout = _unrolled(dx, kernel, strides, dilation)
  return out, lax.scan(add, dout, (starts, taps))[0]


def _unrolled(x, kernel, strides, dilation):
  """In 2-D one sum, which XLA fuses; in 3-D a loop over depth taps around it.

  A window of 7 has 343 taps in 3-D: one sum of them takes long to compile.
  """
  spatial = zip(x.shape[1:-1], kernel.shape, strides, dilation, strict=False)
  shape = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in spatial]
  spans = _spans(shape, strides)
  if len(shape) == 2:
    out = jnp.zeros((), x.dtype)
    taps = kernel.reshape(-1, kernel.shape[-1])
    for n, (i, j) in enumerate(_starts(kernel, dilation)):
      # Not x[…]: tracing that takes longer than compiling it.
      limits = (x.shape[0], i + spans[0], j + spans[1], x.shape[-1])
      image = lax.slice(x, (0, i, j, 0), limits, (1, *strides, 1))
      out = out + image * lax.slice_in_dim(taps, n, n + 1)
    return out

  def add(out, tap):
    start, plane = tap
    image = lax.dynamic_slice_in_dim(x, start, spans[0], 1)[:, :: strides[0]]
    image = image.reshape(-1, *image.shape[2:])
    y = _unrolled(image, plane, strides[1:], dilation[1:])
    return out + y.reshape(out.shape), None

  zeros = jnp.zeros((x.shape[0], *shape, x.shape[-1]), x.dtype)
  starts = dilation[0] * jnp.arange(kernel.shape[0])
  return lax.scan(add, zeros, (starts, kernel))[0]


def _starts(kernel, dilation):
  """The first voxel that each tap of a kernel (*window, c) sees."""
  window = zip(kernel.shape[:-1], dilation, strict=True)
  return itertools.product(*(range(0, k * d, d) for k, d in window))


def _spans(shape, strides):
  """Voxels from the first window's start to the last one's, per axis."""
  return [(n - 1) * s + 1 for n, s in zip(shape, strides, strict=True)]
