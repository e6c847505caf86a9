"""Where the windows of a convolution lie."""

import itertools

import jax.numpy as jnp
from jax import lax


def padded(x, padding):
  """Zeros around the spatial axes, or cropped where the padding is negative."""
  config = [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)]
  return lax.pad(x, jnp.zeros((), x.dtype), config)


def starts(window, dilation):
  """The first voxel that each tap of a window sees."""
  taps = zip(window, dilation, strict=True)
  return itertools.product(*(range(0, k * d, d) for k, d in taps))


def spans(shape, strides):
  """Voxels from the first window's start to the last one's, per axis."""
  return [(n - 1) * s + 1 for n, s in zip(shape, strides, strict=True)]


def count(size, padding, taps, stride, dilation):
  """How many windows an axis of `size` voxels has."""
  return (size + sum(padding) - dilation * (taps - 1) - 1) // stride + 1


def counts(lhs, rhs, *, window_strides, padding, rhs_dilation, **_):
  """The voxels of a convolution's output, per axis."""
  axes = zip(
    lhs.shape[1:-1], padding, rhs.shape, window_strides, rhs_dilation,
    strict=False,
  )  # fmt: skip
  return [count(*axis) for axis in axes]
