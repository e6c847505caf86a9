"""Convolution, channels last, written for the machine it is lowered to."""

import functools

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
  """`lax.conv_general_dilated`, channels last, fast in 3-D on a CPU too.

  Made to be passed as `nn.Conv(conv_general_dilated=conv)`. XLA has no fast
  3-D convolution for CPUs, so there a 3-D convolution becomes one 2-D
  convolution whose channels are those of all depth taps; the platform is
  chosen when the program is lowered. Everywhere else this is lax itself.

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
  if rank != 3:
    return plain(lhs, rhs)
  return lax.platform_dependent(
    lhs, rhs, cpu=functools.partial(_conv3d_as_2d, **options), default=plain
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
