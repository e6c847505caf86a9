"""Convolution, channels last, written for the machine it is lowered to."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from medjax.ops.winograd import winograd

_CACHE = 2**20  # bytes: about a core's second level
_MANY = 256  # channels of either side: their products outweigh all else
_PRODUCTS = 12  # channels times features: fewer are cheaper than transforms
_CHANNELS = 16  # fewer, of either side, do not fill a vector: lax is faster


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

  Made to be passed as `nn.Conv(conv_general_dilated=conv)`. What XLA is slow
  at on CPUs is written differently there. A 3-D convolution becomes 2-D ones:
  by Winograd's method where it has three taps of depth, else one whose channels
  are those of all taps. In 2-D, Winograd's method serves where channels are
  many, neighbours are computed together where features are few, and the
  gradient of a kernel is summed over rows. A convolution of one voxel is a
  matrix product; a depthwise one (a group per channel, one output each) is a
  sum of products over taps. Winograd's method costs a digit; with a higher
  `precision` taps are summed one by one. Half-precision inputs are computed in
  float32: a CPU gains nothing from them. The platform is chosen when the
  program is lowered; everywhere else this is lax itself.

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
    precision: as in lax; None is what `jax.default_matmul_precision` says.

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
  if rank == 1:
    return plain(lhs, rhs)
  if 1 < feature_group_count == lhs.shape[-1] == rhs.shape[-1]:
    form = _depthwise
  elif feature_group_count == 1 and all(k == 1 for k in rhs.shape[:-2]):
    form = _pointwise
  else:
    form = _conv2d if rank == 2 else _conv3d_as_2d

  def on_cpu(lhs, rhs):
    wide = jnp.promote_types(lhs.dtype, jnp.float32)
    out = form(lhs.astype(wide), rhs.astype(wide), **options)
    return out.astype(lhs.dtype)

  return lax.platform_dependent(lhs, rhs, cpu=on_cpu, default=plain)


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


def _padded(x, padding):
  """Zeros around, or cropped where the padding is negative."""
  config = [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)]
  return lax.pad(x, jnp.zeros((), x.dtype), config)


def _pointwise(
  lhs, rhs, *, window_strides, padding, rhs_dilation, feature_group_count,
  precision,
):  # fmt: skip
  """A convolution of one voxel as a matrix product."""
  del rhs_dilation, feature_group_count
  lhs = _padded(lhs, padding)
  lhs = lax.slice(lhs, (0,) * lhs.ndim, lhs.shape, (1, *window_strides, 1))
  return jnp.matmul(lhs, rhs.reshape(rhs.shape[-2:]), precision=precision)


def _conv3d_as_2d(lhs, rhs, **options):
  """A 3-D convolution as 2-D ones: by Winograd's method or of stacked taps."""
  lhs = _padded(lhs, (options['padding'][0], (0, 0), (0, 0)))
  if rhs.shape[-2] * rhs.shape[-1] >= _PRODUCTS and _is_plain(rhs, **options):
    inner = {
      k: options[k][1:] for k in ('window_strides', 'padding', 'rhs_dilation')
    }
    return winograd(lhs, rhs, functools.partial(_planes, inner))
  return _stacked(lhs, rhs, **options)


def _is_plain(
  rhs, *, window_strides, rhs_dilation, feature_group_count, precision, **_
):
  """Whether Winograd's method does for the first axis: it costs a digit."""
  return (
    rhs.shape[0] == 3
    and window_strides[0] == rhs_dilation[0] == feature_group_count == 1
    and _by_default(precision)
  )


def _by_default(precision):
  """Whether no higher precision was asked for, here or around."""
  precision = precision or jax.config.jax_default_matmul_precision
  return precision in (None, lax.Precision.DEFAULT, 'default')


def _planes(options, lhs, rhs):
  """2-D convolution of every plane."""
  batch, depth = lhs.shape[:2]
  out = _direct2d(
    lhs.reshape(-1, *lhs.shape[2:]), rhs,
    feature_group_count=1, precision=None, **options,
  )  # fmt: skip
  return out.reshape(batch, depth, *out.shape[1:])


def _stacked(
  lhs, rhs, *, window_strides, padding, rhs_dilation, feature_group_count,
  precision,
):  # fmt: skip
  """A 3-D convolution as one 2-D convolution over stacked depth taps.

  Depth is folded into the batch, and the shifted copies of the input that the
  depth taps see are stacked as channels.
  """
  taps, (stride, *strides), (dilation, *dilations) = (
    rhs.shape[0], window_strides, rhs_dilation,
  )  # fmt: skip
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
  out = _direct2d(
    stacked.reshape(batch * depth, height, width, taps * channels),
    jnp.moveaxis(rhs, 0, 2).reshape(*rhs.shape[1:3], -1, rhs.shape[-1]),
    window_strides=tuple(strides),
    padding=padding[1:],
    rhs_dilation=tuple(dilations),
    feature_group_count=groups,
    precision=precision,
  )
  return out.reshape(batch, depth, *out.shape[1:])


def _conv2d(lhs, rhs, **options):
  """A 2-D convolution: by Winograd's method where channels are many."""
  if min(rhs.shape[-2:]) >= _MANY and _is_plain(rhs, **options):
    inner = dict(options, padding=((0, 0), options['padding'][1]))
    conv = lambda lhs, rhs: _direct2d(lhs, rhs[None], **inner)
    return winograd(_padded(lhs, (options['padding'][0], (0, 0))), rhs, conv)
  return _direct2d(lhs, rhs, **options)


def _direct2d(lhs, rhs, *, feature_group_count, **options):
  """lax, but for the kernel's gradient where there are no groups."""
  if feature_group_count == 1:
    return _ungrouped(lhs, rhs, tuple(options.items()))
  return _lax2d(lhs, rhs, feature_group_count=feature_group_count, **options)


_lax2d = functools.partial(
  lax.conv_general_dilated, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _ungrouped(x, kernel, options):
  """(b, h, w, c), (i, j, c, o) → (b, *out, o)."""
  options = dict(options)
  voxels = min(4, 32 // kernel.shape[-1])  # two vectors of 16, not more
  if (
    _by_default(options['precision'])
    and min(voxels, kernel.shape[1]) > 1
    and options['window_strides'][1] == options['rhs_dilation'][1] == 1
  ):
    return _widened(x, kernel, 2 ** (voxels.bit_length() - 1), **options)
  return _lax2d(x, kernel, **options)


def _widened(x, kernel, voxels, *, window_strides, padding, **options):
  """Neighbouring voxels of the last axis as channels of one output.

  A convolution of few output channels leaves a vector of the CPU half empty.
  Here the window is wide enough for several voxels and strides over them; its
  kernel holds a shifted copy for each, and zeros.
  """
  x = _padded(x, padding)
  taps = kernel.shape[1]
  width = x.shape[2] - taps + 1
  x = _padded(x, ((0, 0), (0, -width % voxels)))
  shifted = [
    lax.pad(
      kernel,
      jnp.zeros((), kernel.dtype),
      [(0, 0, 0), (i, voxels - 1 - i, 0), (0, 0, 0), (0, 0, 0)],
    )
    for i in range(voxels)
  ]
  out = _lax2d(
    x,
    jnp.concatenate(shifted, -1),
    window_strides=(window_strides[0], voxels),
    padding='VALID',
    **options,
  )
  out = out.reshape(*out.shape[:2], -1, kernel.shape[-1])
  return lax.slice_in_dim(out, 0, width, axis=2)


@functools.partial(_ungrouped.defjvp, symbolic_zeros=True)
def _ungrouped_jvp(options, primals, tangents):
  """The kernel's part goes by rows, so that its gradient does.

  XLA makes of that gradient a convolution whose window is the whole image,
  and transposes image and output for it: up to twice as slow.
  """
  (x, kernel), (dx, dkernel) = primals, tangents
  out = _ungrouped(x, kernel, options)
  zero = lambda t: isinstance(t, jax.custom_derivatives.SymbolicZero)
  dout = jnp.zeros_like(out)
  if not zero(dx):
    dout = _blocks(dx, kernel, **dict(options))
  if not zero(dkernel) and min(kernel.shape[-2:]) < _CHANNELS:
    dout = dout + _lax2d(x, dkernel, **dict(options))
  elif not zero(dkernel):
    dout = _by_rows(dout, x, dkernel, **dict(options))
  return out, dout


def _blocks(x, kernel, *, window_strides, padding, rhs_dilation, precision):
  """A strided convolution as one of stride 1 over blocks of voxels, so that
  its transpose is one too: XLA's convolves an image that is mostly zeros."""
  if max(rhs_dilation) > 1 or max(window_strides) == 1:
    return _lax2d(
      x, kernel, window_strides=window_strides, padding=padding,
      rhs_dilation=rhs_dilation, precision=precision,
    )  # fmt: skip
  x = _padded(x, padding)
  for axis, stride in enumerate(window_strides):
    taps = -(-kernel.shape[axis] // stride)  # blocks that a window covers
    count = (x.shape[axis + 1] - kernel.shape[axis]) // stride + taps
    rest = [(0, 0)] * 2
    rest[axis] = (0, count * stride - x.shape[axis + 1])
    x = _padded(x, rest)
    rest = [(0, 0, 0)] * 4
    rest[axis] = (0, taps * stride - kernel.shape[axis], 0)
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), rest)
  down, across = window_strides
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // down, down, width // across, across, channels)
  kernel = kernel.reshape(
    kernel.shape[0] // down, down, kernel.shape[1] // across, across,
    channels, -1,
  )  # fmt: skip
  x, kernel = x.swapaxes(2, 3), kernel.swapaxes(1, 2)
  return _lax2d(
    x.reshape(*x.shape[:3], -1),
    kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1]),
    window_strides=(1, 1),
    padding='VALID',
    precision=precision,
  )


def _by_rows(
  out, x, kernel, *, window_strides, padding, rhs_dilation, precision
):
  """Adds a convolution to `out`, a few rows of a few images at a time.

  What the windows of a few rows see is a matrix that stays in a core's cache;
  that of the whole batch would come from memory. The images of one step lie
  apart, so that a batch spread over devices stays spread.
  """
  batch, height, width, features = out.shape
  row = width * math.prod(kernel.shape[:3]) * x.dtype.itemsize
  # A large kernel's gradient is not to be added to for little.
  fits = max(_CACHE, 4 * kernel.size * x.dtype.itemsize) // row
  fewest = math.gcd(batch, 8)
  images = max(
    n for n in range(fewest, batch + 1, fewest)
    if batch % n == 0 and n <= max(fewest, fits // height)
  )  # fmt: skip
  steps = -(-height // max(1, fits // images))
  rows = -(-height // steps)
  stride, groups = rows * window_strides[0], batch // images
  corners = list(_starts(kernel.shape[:2], rhs_dilation))
  spans = _spans((rows, width), window_strides)
  seen = corners[-1][0] + spans[0]
  # The last step overhangs where its rows do not divide the height.
  x = _padded(x, padding)
  missing = max(0, (steps - 1) * stride + seen - x.shape[1])
  x = _padded(x, ((0, missing), (0, 0)))
  out = _padded(out, ((0, steps * rows - height), (0, 0)))
  places = jnp.asarray([
    (i * x.shape[1] + j * stride, (i * steps + j) * rows)
    for i in range(groups)
    for j in range(steps)
  ])  # fmt: skip
  # Images that are not computed together, one under the other.
  x = x.reshape(images, -1, *x.shape[2:])
  out = out.reshape(images, -1, *out.shape[2:])

  # Else every step would keep its matrix for the gradient.
  @functools.partial(jax.checkpoint, prevent_cse=False)
  def product(start, kernel):
    part = lax.dynamic_slice_in_dim(x, start, seen, 1)
    strides = (1, *window_strides, 1)
    taps = []
    for i, j in corners:
      limits = (images, i + spans[0], j + spans[1], x.shape[-1])
      taps.append(lax.slice(part, (0, i, j, 0), limits, strides))
    columns = jnp.concatenate(taps, -1).reshape(-1, kernel.shape[-1])
    # Kernels as rows: the gradient then transposes the smaller operand.
    y = lax.dot_general(columns, kernel, (((1,), (1,)), ((), ())), precision)
    return y.reshape(images, rows, width, features)

  def add(out, place):
    # A scatter, because its transpose reads a slice and leaves `out` alone.
    return lax.scatter_add(
      out,
      place[1:],
      product(place[0], matrix),
      lax.ScatterDimensionNumbers((0, 1, 2, 3), (), (1,)),
      indices_are_sorted=True,
      unique_indices=True,
      mode='promise_in_bounds',
    ), None

  matrix = kernel.reshape(-1, features).T
  out = lax.scan(add, out, places)[0]
  out = out.reshape(batch, steps * rows, width, features)
  return lax.slice_in_dim(out, 0, height, axis=1)


def _depthwise(
  lhs, rhs, *, window_strides, padding, rhs_dilation, feature_group_count,
  precision,
):  # fmt: skip
  """A depthwise convolution as products of shifted images and kernel taps."""
  del feature_group_count, precision
  rhs = rhs.reshape(*rhs.shape[:-2], -1)
  return _sum_of_taps(
    _padded(lhs, padding), rhs, tuple(window_strides), tuple(rhs_dilation)
  )


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

  starts = jnp.asarray(list(_starts(kernel.shape[:-1], dilation)))
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
    for n, (i, j) in enumerate(_starts(kernel.shape[:-1], dilation)):
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


def _starts(window, dilation):
  """The first voxel that each tap of a window sees."""
  taps = zip(window, dilation, strict=True)
  return itertools.product(*(range(0, k * d, d) for k, d in taps))


def _spans(shape, strides):
  """Voxels from the first window's start to the last one's, per axis."""
  return [(n - 1) * s + 1 for n, s in zip(shape, strides, strict=True)]
