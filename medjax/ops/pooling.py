"""Max and average pooling, channels last, without select-and-scatter."""

import functools
import math
import operator

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from medjax.ops import platform


def max_pool(
  x: Float[Array, 'b *spatial c'], window, *, strides=None, padding=0
) -> Float[Array, 'b *out c']:
  """Maximum over windows, exact, as pairwise maxima of strided slices.

  Its gradient splits a tie evenly over pairs, where `reduce_window` gives all
  of it to one voxel; that one is also several times slower on a CPU.

  Args:
    x: (b, *spatial, c).
    window: size per spatial axis, or one integer for all.
    strides: step per spatial axis; the window's size if None.
    padding: voxels added on both sides of each spatial axis; they never win.
      A rest that fills no window is dropped, as 'VALID' does.

  Traced for 'onnx' it is `reduce_window`, which has a name there.

  Raises:
    ValueError: if the window does not fit into the padded input.
  """
  if platform.is_for('onnx'):
    rank = x.ndim - 2
    window = _per_axis(window, rank)
    strides = _per_axis(window if strides is None else strides, rank)
    pads = [(pad, pad) for pad in _per_axis(padding, rank)]
    return lax.reduce_window(
      x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1),
      ((0, 0), *pads, (0, 0)),
    )  # fmt: skip
  return _pool(x, jnp.maximum, -jnp.inf, window, strides, padding)


def avg_pool(
  x: Float[Array, 'b *spatial c'], window, *, strides=None, padding=0
) -> Float[Array, 'b *out c']:
  """Mean over windows; arguments as in `max_pool`.

  Padding is zeros, and they count (torch's count_include_pad).
  """
  size = math.prod(_per_axis(window, x.ndim - 2))
  return _pool(x, operator.add, 0.0, window, strides, padding) / size


def adaptive_avg_pool(
  x: Float[Array, 'b *spatial c'], size
) -> Float[Array, 'b *out c']:
  """Mean over bins that cover the image: exactly torch's AdaptiveAvgPool.

  Bin i of m over n voxels is floor(i n / m) … ceil((i + 1) n / m): bins
  overlap where m does not divide n, and repeat voxels where n < m. Half
  precision is averaged in float32.

  Args:
    x: (b, *spatial, c).
    size: bins per spatial axis, or one integer for all.
  """
  for axis, m in enumerate(_per_axis(size, x.ndim - 2), start=1):
    n = x.shape[axis]
    if n == m:
      continue
    bins = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
    x = jnp.concatenate(
      [
        lax.slice_in_dim(x, low, high, axis=axis).mean(axis, keepdims=True)
        for low, high in bins
      ],
      axis,
    )
  return x


def _per_axis(value, rank):
  return (value,) * rank if isinstance(value, int) else tuple(value)


def _pool(x, combine, fill, window, strides, padding):
  """Folds `combine` over the windows, one spatial axis after the other."""
  rank = x.ndim - 2
  window = _per_axis(window, rank)
  strides = _per_axis(window if strides is None else strides, rank)
  padding = _per_axis(padding, rank)
  for axis, size, stride, pad in zip(
    range(1, rank + 1), window, strides, padding, strict=True
  ):
    count = (x.shape[axis] + 2 * pad - size) // stride + 1
    if count < 1:
      raise ValueError(
        f'a pooling window of {window} does not fit into {x.shape[1:-1]}'
      )
    if pad:
      config = [(0, 0, 0)] * x.ndim
      config[axis] = (pad, pad, 0)
      x = lax.pad(x, jnp.asarray(fill, x.dtype), config)
    span = (count - 1) * stride + 1
    x = functools.reduce(
      combine,
      [lax.slice_in_dim(x, k, k + span, stride, axis) for k in range(size)],
    )
  return x
