"""A convolution of few voxels: one matrix product."""

import jax.numpy as jnp
from jax import lax

from medjax.ops.cpu import windows


def one_product(lhs, rhs, *, window_strides, padding, rhs_dilation, precision):
  """A convolution (b, *spatial, c), (*window, c, o) → (b, *out, o).

  Where an image is small its kernel is the larger of the two, and to read that
  once is most of the work. Here it is the right side of a product as it lies in
  memory, and what every window sees is copied. XLA's convolution would copy the
  kernel; Winograd's transforms would write it twice over.

  Options are those of `lax.conv_general_dilated`, without groups.
  """
  # The last axis first: channels then lie in the order of the kernel's rows.
  for axis in reversed(range(len(padding))):
    lhs, rhs = _unfolded(
      lhs, rhs, axis, window_strides[axis], padding[axis], rhs_dilation[axis]
    )
  matrix = rhs.reshape(-1, rhs.shape[-1])
  return jnp.matmul(lhs, matrix, precision=precision)


def _unfolded(lhs, rhs, axis, stride, padding, dilation):
  """The taps of one axis as channels, tap by tap, and the kernel of them."""
  size, taps = lhs.shape[axis + 1], rhs.shape[axis]
  count = windows.count(size, padding, taps, stride, dilation)
  span = (count - 1) * stride + 1
  inside = range(padding[0], padding[0] + size)
  # At one or two voxels a side most taps see only padding: they stay unread.
  seen = [
    tap
    for tap in range(taps)
    if any(tap * dilation + i in inside for i in range(0, span, stride))
  ] or [0]
  rhs = lax.slice_in_dim(rhs, seen[0], seen[-1] + 1, axis=axis)
  around = [(0, 0)] * (lhs.ndim - 2)
  around[axis] = padding
  lhs = windows.padded(lhs, around)
  starts = range(seen[0] * dilation, seen[-1] * dilation + 1, dilation)
  parts = [
    lax.slice_in_dim(lhs, start, start + span, stride, axis + 1)
    for start in starts
  ]
  return jnp.concatenate(parts, -1), rhs
