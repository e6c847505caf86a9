"""Convolution, channels last, written for the platform it is traced for."""

from jax import lax
from jaxtyping import Array, Float

from medjax.ops import platform
from medjax.ops.cpu import convolution as on_cpu


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
  at on CPUs is written differently there (`ops.cpu.convolution`), at the price
  of a digit, unless a higher `precision` is asked for. The platform is that of
  `ops.platform`; on any other, and of one axis, this is lax itself.

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
  if any(d != 1 for d in lhs_dilation or ()):
    raise ValueError(
      f'conv does not dilate its input (lhs_dilation={tuple(lhs_dilation)}); '
      'use medjax.ops.upsampling.transposed_conv'
    )
  if not 1 <= rank <= 3:
    raise ValueError(f'conv takes 1 to 3 spatial axes, got {lhs.shape}')
  axes = 'DHW'[-rank:]
  layout = f'N{axes}C', f'{axes}IO', f'N{axes}C'
  numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, layout)
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
  if rank == 1 or not platform.is_cpu():
    return lax.conv_general_dilated(
      lhs, rhs, dimension_numbers=numbers, **options
    )
  return on_cpu.conv(lhs, rhs, **options)


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
