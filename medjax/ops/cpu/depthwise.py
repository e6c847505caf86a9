"""Depthwise convolution: products of shifted images and kernel taps."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from medjax.ops.cpu import windows


def depthwise(lhs, rhs, *, window_strides, padding, rhs_dilation, **_):
  """(b, *spatial, c), (*window, 1, c) → (b, *out, c), options as in lax."""
  rhs = rhs.reshape(*rhs.shape[:-2], -1)
  return _sum_of_taps(
    windows.padded(lhs, padding), rhs, tuple(window_strides), rhs_dilation
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
  spans = windows.spans(out.shape[1:-1], strides)
  steps = (slice(None), *(slice(None, None, s) for s in strides))

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def add(total, tap):
    start, weights = tap
    size = (x.shape[0], *spans, x.shape[-1])
    image = lax.dynamic_slice(x, (0, *start, 0), size)[steps]
    return total + image * weights, None

  starts = jnp.asarray(list(windows.starts(kernel.shape[:-1], dilation)))
  taps = dkernel.reshape(-1, kernel.shape[-1])
  dout = _unrolled(dx, kernel, strides, dilation)
  return out, lax.scan(add, dout, (starts, taps))[0]


def _unrolled(x, kernel, strides, dilation):
  """In 2-D one sum, which XLA fuses; in 3-D a loop over depth taps around it.

  A window of 7 has 343 taps in 3-D: one sum of them takes long to compile.
  """
  spatial = zip(x.shape[1:-1], kernel.shape, strides, dilation, strict=False)
  shape = [windows.count(n, (0, 0), k, s, d) for n, k, s, d in spatial]
  spans = windows.spans(shape, strides)
  if len(shape) == 2:
    out = jnp.zeros((), x.dtype)
    taps = kernel.reshape(-1, kernel.shape[-1])
    for n, (i, j) in enumerate(windows.starts(kernel.shape[:-1], dilation)):
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
