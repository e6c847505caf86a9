"""The form of a convolution that a CPU is fast at."""

import functools
import math

import jax.numpy as jnp
from jax import lax

from medjax.ops.cpu import windows
from medjax.ops.cpu.depthwise import depthwise
from medjax.ops.cpu.few_voxels import one_product
from medjax.ops.cpu.plane import by_default, conv2d
from medjax.ops.cpu.winograd import winograd

# Voxels of the output: with more, what windows see takes longer to copy than
# the kernel.
_FEW = 64
_MANY = 256  # channels of either side: their products outweigh all else
_PRODUCTS = 12  # channels times features: fewer are cheaper than transforms
# Voxels of the batch, in 2-D and in 3-D: with fewer, Winograd's transforms of
# the kernel cost what its products save, and its six convolutions take three
# times as long to compile.
_VOXELS = {2: 512, 3: 4096}


def conv(lhs, rhs, **options):
  """A convolution of two or three axes, channels last.

  Of few voxels, or of an image smaller than the window, it is one matrix
  product. Else a 3-D convolution becomes 2-D ones: by Winograd's method where
  it has three taps of depth, else one whose channels are those of all taps. In
  2-D, Winograd's method serves where channels are many, neighbours are computed
  together where features are few, and the gradient of a kernel is summed over
  rows. A convolution of one voxel is a matrix product; a depthwise one (a group
  per channel, one output each) is a sum of products over taps. Winograd's
  method costs a digit; with a higher precision taps are summed one by one.
  Half-precision inputs are computed in float32: a CPU gains nothing from them.

  Options are those of `lax.conv_general_dilated`: window_strides, padding as
  (low, high) per axis, rhs_dilation, feature_group_count and precision.
  """
  form = _form(lhs, rhs, **options)
  wide = jnp.promote_types(lhs.dtype, jnp.float32)
  out = form(lhs.astype(wide), rhs.astype(wide), **options)
  return out.astype(lhs.dtype)


def _form(lhs, rhs, *, feature_group_count, **options):
  """The function that computes this convolution."""
  if 1 < feature_group_count == lhs.shape[-1] == rhs.shape[-1]:
    return depthwise
  if feature_group_count == 1 and all(k == 1 for k in rhs.shape[:-2]):
    return _pointwise
  if feature_group_count == 1 and _is_small(lhs, rhs, **options):
    return _product
  return _conv2d if lhs.ndim == 4 else _conv3d_as_2d


def _is_small(lhs, rhs, **options):
  """Whether one product is best: of few voxels, or windows beyond the image.

  Where a window has more voxels than the image, XLA multiplies voxel by voxel:
  at 2 x 2 voxels and 512 channels that takes a hundred times as long.
  """
  voxels = len(lhs) * math.prod(windows.counts(lhs, rhs, **options))
  beyond = math.prod(lhs.shape[1:-1]) < math.prod(rhs.shape[:-2])
  return beyond or voxels <= _FEW


def _product(lhs, rhs, *, feature_group_count, **options):
  """A convolution of few voxels."""
  del feature_group_count
  return one_product(lhs, rhs, **options)


def _pointwise(lhs, rhs, *, window_strides, padding, precision, **_):
  """A convolution of one voxel as a matrix product."""
  lhs = windows.padded(lhs, padding)
  lhs = lax.slice(lhs, (0,) * lhs.ndim, lhs.shape, (1, *window_strides, 1))
  out = conv2d(
    lhs.reshape(len(lhs), -1, *lhs.shape[-2:]),
    rhs.reshape(1, 1, *rhs.shape[-2:]),
    window_strides=(1, 1),
    padding=((0, 0), (0, 0)),
    rhs_dilation=(1, 1),
    precision=precision,
  )
  return out.reshape(*lhs.shape[:-1], -1)


def _conv3d_as_2d(lhs, rhs, **options):
  """A 3-D convolution as 2-D ones: by Winograd's method or of stacked taps."""
  lhs = windows.padded(lhs, (options['padding'][0], (0, 0), (0, 0)))
  products = rhs.shape[-2] * rhs.shape[-1]
  if products >= _PRODUCTS and _is_worth_it(lhs, rhs, **options):
    planes = functools.partial(_planes, **_of_planes(**options))
    return winograd(lhs, rhs, planes)
  return _stacked(lhs, rhs, **options)


def _is_worth_it(
  lhs, rhs, *, window_strides, rhs_dilation, feature_group_count, precision, **_
):
  """Whether Winograd's method does for the first axis, and saves anything.

  It costs a digit.
  """
  return (
    rhs.shape[0] == 3
    and math.prod(lhs.shape[:-1]) > _VOXELS[lhs.ndim - 2]
    and window_strides[0] == rhs_dilation[0] == feature_group_count == 1
    and by_default(precision)
  )


def _of_planes(*, window_strides, padding, rhs_dilation, **options):
  """The options of the axes but the first."""
  return dict(
    window_strides=window_strides[1:],
    padding=padding[1:],
    rhs_dilation=rhs_dilation[1:],
    **options,
  )


def _planes(lhs, rhs, **options):
  """2-D convolution of every plane: (b, d, h, w, c) → (b, d, h', w', o)."""
  out = conv2d(lhs.reshape(-1, *lhs.shape[2:]), rhs, **options)
  return out.reshape(*lhs.shape[:2], *out.shape[1:])


def _stacked(lhs, rhs, *, feature_group_count, **options):
  """A 3-D convolution as a 2-D one whose channels are those of all taps."""
  taps = rhs.shape[0]
  stride, dilation = options['window_strides'][0], options['rhs_dilation'][0]
  depth = windows.count(lhs.shape[1], (0, 0), taps, stride, dilation)
  shifted = [
    lax.slice_in_dim(lhs, start, start + (depth - 1) * stride + 1, stride, 1)
    for start in range(0, taps * dilation, dilation)
  ]
  # Grouped channels stay together: (groups, taps, channels of a group).
  groups = feature_group_count
  stacked = jnp.stack(
    [x.reshape(*x.shape[:-1], groups, -1) for x in shifted], -2
  )
  return _planes(
    stacked.reshape(*stacked.shape[:4], -1),
    jnp.moveaxis(rhs, 0, 2).reshape(*rhs.shape[1:3], -1, rhs.shape[-1]),
    feature_group_count=groups,
    **_of_planes(**options),
  )


def _conv2d(lhs, rhs, **options):
  """A 2-D convolution: by Winograd's method where channels are many."""
  if min(rhs.shape[-2:]) < _MANY or not _is_worth_it(lhs, rhs, **options):
    return conv2d(lhs, rhs, **options)
  above, beside = options['padding']
  options['padding'] = (0, 0), beside
  rows = lambda lhs, rhs: conv2d(lhs, rhs[None], **options)
  return winograd(windows.padded(lhs, (above, (0, 0))), rhs, rows)
