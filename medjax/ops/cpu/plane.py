"""A 2-D convolution without groups, as CPUs are fast at it."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from medjax.ops.cpu import windows
from medjax.ops.cpu.kernel_gradient import add_by_rows

_CHANNELS = 16  # fewer, of either side, do not fill a vector: lax is faster
_VECTOR = 16  # floats, of the widest registers
_WIDE = 16  # fewer, of either side, are not worth a copy
_PARTS = 16  # of a row, for threads

_lax = functools.partial(
  lax.conv_general_dilated, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
)


def conv2d(lhs, rhs, *, feature_group_count=1, **options):
  """A convolution (b, h, w, c), (i, j, c, o) → (b, h', w', o).

  Options are those of `lax.conv_general_dilated`: window_strides, padding as
  (low, high) of both axes, rhs_dilation and precision. With groups it is lax.
  """
  if feature_group_count > 1:
    return _lax(lhs, rhs, feature_group_count=feature_group_count, **options)
  return _conv(lhs, rhs, tuple(options.items()))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _conv(x, kernel, options):
  """The convolution; `options` are items, because they must hash."""
  options = dict(options)
  width = windows.count(
    x.shape[2], options['padding'][1], kernel.shape[1],
    options['window_strides'][1], options['rhs_dilation'][1],
  )  # fmt: skip
  if (voxels := _voxels(kernel, **options)) > 1:
    form = functools.partial(_widened, voxels=voxels)
  else:
    form = _plain
  images = _images_in_a_row(len(x), width, kernel.shape, voxels)
  return _side_by_side(x, kernel, images, form, **options)


@functools.partial(_conv.defjvp, symbolic_zeros=True)
def _conv_jvp(options, primals, tangents):
  """The gradients of image and kernel each go the way that is best for them."""
  (x, kernel), (dx, dkernel) = primals, tangents
  out, options = _conv(x, kernel, options), dict(options)
  zero = lambda t: isinstance(t, jax.custom_derivatives.SymbolicZero)
  dout = jnp.zeros_like(out)
  if not zero(dx):
    # Its gradient convolves too: channels change places, strides are blocks.
    down, across = options['window_strides']
    high, wide, channels, features = kernel.shape
    blocks = down * across * channels
    shape = -(-high // down), -(-wide // across), features, blocks
    images = _images_in_a_row(len(x), x.shape[2] // across, shape)
    dout = _side_by_side(dx, kernel, images, _blocks, **options)
  if not zero(dkernel) and min(kernel.shape[-2:]) < _CHANNELS:
    dout = dout + _plain(x, dkernel, **options)
  elif not zero(dkernel):
    dout = add_by_rows(dout, x, dkernel, **options)
  return out, dout


def _images_in_a_row(batch, width, kernel, voxels=1):
  """How many images make a row that is long enough for several threads.

  XLA (YNNPACK) gives threads parts of one row of one image, never rows. A part
  doubles until its voxels and features, times the taps, are 64 k: most images
  are no wider than one.

  Args:
    batch: images.
    width: of an output image.
    kernel: shape (i, j, c, o).
    voxels: neighbours that are computed as channels of one.
  """
  high, wide, channels, features = kernel
  # Devices that share a batch are at work already, and would exchange it.
  if high * wide == 1 or min(channels, features) < _WIDE:
    return 1
  if jax.device_count() > 1:
    return 1
  width, features = width / voxels, features * voxels
  taps, part = min(high * (wide + voxels - 1) * channels, 1024), 16
  while (part + min(features, 64)) * taps < 2**16:
    part *= 2
  if width > part or (part == 16 and features > 64):
    return 1
  part = max(part, 64)
  able = [n for n in range(1, batch + 1) if batch % n == 0 and n * width > part]
  enough = [n for n in able if n * width >= _PARTS * part]
  return min(enough) if enough else max(able, default=1)


def _side_by_side(
  x, kernel, images, form, *, window_strides, padding, **options
):
  """The convolution of `images` at a time in one row, zeros between them.

  `form` is the convolution of such rows: the arguments of `_plain`.
  """
  options |= dict(window_strides=window_strides)
  if images == 1:
    return form(x, kernel, padding=padding, **options)
  stride, (low, high) = window_strides[1], padding[1]
  taps, dilation = kernel.shape[1], options['rhs_dilation'][1]
  reach = (taps - 1) * dilation
  found = windows.count(x.shape[2], padding[1], taps, stride, dilation)
  pitch = max(x.shape[2] + max(low, high), found * stride)
  pitch += -pitch % stride
  x = windows.padded(x, ((0, 0), (low, pitch - low - x.shape[2])))
  x = x.reshape(-1, images, *x.shape[1:]).swapaxes(1, 2)
  x = x.reshape(*x.shape[:2], images * pitch, -1)
  x = windows.padded(x, ((0, 0), (0, reach + 1 - stride)))
  out = form(x, kernel, padding=(padding[0], (0, 0)), **options)
  out = out.reshape(*out.shape[:2], images, pitch // stride, -1)
  out = lax.slice_in_dim(out, 0, found, axis=3).swapaxes(1, 2)
  return out.reshape(-1, *out.shape[2:])


def _plain(x, kernel, *, window_strides, padding, **options):
  """lax, but a matrix product for a kernel of one voxel."""
  one = (*kernel.shape[:2], *window_strides) == (1, 1, 1, 1)
  if one and padding == ((0, 0), (0, 0)):
    return jnp.matmul(x, kernel[0, 0], precision=options['precision'])
  return _lax(x, kernel, window_strides, padding, **options)


def _voxels(kernel, *, window_strides, rhs_dilation, precision, **_):
  """How many neighbours are computed as channels of one output, to fill two
  vectors, not more: 1 where that would not do."""
  plain = window_strides[1] == rhs_dilation[1] == 1 and by_default(precision)
  if not plain or kernel.shape[1] == 1:
    return 1
  return max(
    v for v in (1, 2, 4) if v * kernel.shape[-1] <= 2 * _VECTOR or v == 1
  )


def by_default(precision):
  """Whether no higher precision was asked for, here or around."""
  precision = precision or jax.config.jax_default_matmul_precision
  return precision in (None, lax.Precision.DEFAULT, 'default')


def _widened(x, kernel, *, voxels, window_strides, padding, **options):
  """Neighbouring voxels of the last axis as channels of one output.

  A convolution of few output channels leaves a vector of the CPU half empty.
  Here the window is wide enough for several voxels and strides over them; its
  kernel holds a shifted copy for each, and zeros. Where input channels are few
  as well, their neighbours are channels too, and nothing strides.
  """
  taps, channels, features = kernel.shape[1:]
  window = voxels + taps - 1
  merged = voxels * max(channels, features) <= _VECTOR
  if merged:
    window += -window % voxels
  x = windows.padded(x, padding)
  width = x.shape[2] - taps + 1
  columns = width + -width % voxels - voxels + window
  x = windows.padded(x, ((0, 0), (0, columns - x.shape[2])))
  shifted = [
    lax.pad(
      kernel,
      jnp.zeros((), kernel.dtype),
      [(0, 0, 0), (i, window - taps - i, 0), (0, 0, 0), (0, 0, 0)],
    )
    for i in range(voxels)
  ]
  kernel, stride = jnp.concatenate(shifted, -1), voxels
  if merged:
    x = x.reshape(*x.shape[:2], -1, voxels * channels)
    kernel = kernel.reshape(
      len(kernel), -1, *(voxels * n for n in (channels, features))
    )
    stride = 1
  out = _plain(
    x,
    kernel,
    window_strides=(window_strides[0], stride),
    padding=((0, 0), (0, 0)),
    **options,
  )
  out = out.reshape(*out.shape[:2], -1, features)
  return lax.slice_in_dim(out, 0, width, axis=2)


def _blocks(x, kernel, *, window_strides, padding, rhs_dilation, precision):
  """A strided convolution as one of stride 1 over blocks of voxels, so that
  its transpose is one too: XLA's convolves an image that is mostly zeros."""
  options = dict(rhs_dilation=rhs_dilation, precision=precision)
  if max(rhs_dilation) > 1 or max(window_strides) == 1:
    return _plain(
      x, kernel, window_strides=window_strides, padding=padding, **options
    )
  x = windows.padded(x, padding)
  for axis, stride in enumerate(window_strides):
    taps = -(-kernel.shape[axis] // stride)  # blocks that a window covers
    count = (x.shape[axis + 1] - kernel.shape[axis]) // stride + taps
    rest = [(0, 0)] * 2
    rest[axis] = (0, count * stride - x.shape[axis + 1])
    x = windows.padded(x, rest)
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
  return _plain(
    x.reshape(*x.shape[:3], -1),
    kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1]),
    window_strides=(1, 1),
    padding=((0, 0), (0, 0)),
    **options,
  )
