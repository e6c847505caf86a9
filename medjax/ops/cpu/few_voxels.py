"""A convolution of few voxels: one matrix product."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from medjax.ops.cpu import windows

_VECTOR = 16  # floats, of the widest registers


def is_fixed(lhs, rhs):
  """Whether the kernel is known where the image is traced.

  So it is in a program of weights that do not change (`prediction.fixed`).
  """
  traced = lambda x: isinstance(x, jax.core.Tracer)
  return traced(lhs) and not traced(rhs)


def one_product(lhs, rhs, *, window_strides, padding, rhs_dilation, precision):
  """A convolution (b, *spatial, c), (*window, c, o) → (b, *out, o).

  Where an image is small its kernel is the larger of the two, and to read that
  once is most of the work. Here it is the right side of a product as it lies in
  memory, and what every window sees is copied. XLA's convolution would copy the
  kernel; Winograd's transforms would write it twice over.

  Options are those of `lax.conv_general_dilated`, without groups.
  """
  options = dict(
    window_strides=window_strides, padding=padding, rhs_dilation=rhs_dilation
  )
  size = windows.counts(lhs, rhs, **options)
  if is_fixed(lhs, rhs) and len(lhs) * math.prod(size) <= _VECTOR:
    return _turned(lhs, rhs, size, precision=precision, **options)
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
  seen = _seen(size, taps, stride, padding, dilation)
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


def _seen(size, taps, stride, padding, dilation):
  """The taps of an axis that see any of the image; the first where none does.

  At one or two voxels a side most see only padding: they stay unread.
  """
  count = windows.count(size, padding, taps, stride, dilation)
  inside = range(padding[0], padding[0] + size)
  starts = range(0, count * stride, stride)
  return [
    tap
    for tap in range(taps)
    if any(tap * dilation + start in inside for start in starts)
  ] or [0]


def _turned(
  lhs, rhs, size, *, window_strides, padding, rhs_dilation, precision
):
  """The product with a fixed kernel, which is turned once to be its left side.

  XLA (YNNPACK) reads a left side as it lies and packs a right one: with the
  kernel there, that was half of the time.
  """
  axes = zip(
    lhs.shape[1:-1], rhs.shape, window_strides, padding, rhs_dilation,
    strict=False,
  )  # fmt: skip
  seen = [_seen(*axis) for axis in axes]
  spans = windows.spans(size, window_strides)
  image, parts = windows.padded(lhs, padding), []
  for tap in itertools.product(*seen):
    start = [t * d for t, d in zip(tap, rhs_dilation, strict=True)]
    limit = [a + n for a, n in zip(start, spans, strict=True)]
    part = lax.slice(
      image,
      (0, *start, 0),
      (len(image), *limit, image.shape[-1]),
      (1, *window_strides, 1),
    )
    parts.append(part.reshape(-1, part.shape[-1]).T)
  kernel = np.asarray(rhs)[np.ix_(*seen)]
  matrix = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]).T)
  out = jnp.matmul(matrix, jnp.concatenate(parts), precision=precision)
  # Without it XLA turns the product round, and the matrix in every call.
  out = lax.optimization_barrier(out).T
  return out.reshape(len(lhs), *size, -1)
