"""The gradient of a 2-D convolution's kernel, a few rows at a time."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from medjax.ops.cpu import windows

_CACHE = 2**21  # bytes: about a core's second level


def add_by_rows(
  out, x, kernel, *, window_strides, padding, rhs_dilation, precision
):
  """Adds a convolution to `out`: its gradient by the kernel goes by rows.

  What a tap sees of a few rows is a matrix that stays in a core's cache; that
  of the whole batch would come from memory. Where windows lie next to each
  other only the taps of one row are such matrices, and those of the other rows
  shift the output: three copies of either side in place of nine of one.

  Args:
    out: (b, h', w', o).
    x: (b, h, w, c).
    kernel: (i, j, c, o).
    window_strides, rhs_dilation: two integers each.
    padding: two pairs (low, high).
    precision: of the products, as in lax.
  """
  batch, height, width, features = out.shape
  stride, (high, wide) = window_strides[0], kernel.shape[:2]
  inside, outside = (high, 1) if stride > 1 else (1, high)
  taps = list(windows.starts((inside, wide), rhs_dilation))
  shifts = [i for i, _ in windows.starts((outside, 1), rhs_dilation)]
  # Zeros above and below add nothing; those of wide windows are put there.
  reach = shifts[-1]
  near, far = (min(max(p, 0), reach) for p in padding[0])
  beyond = (padding[0][0] - near, padding[0][1] - far)
  x = windows.padded(x, (beyond, padding[1]))
  lines = height + reach - near - far
  width_of_step = len(taps) * kernel.shape[2] + len(shifts) * features
  images, rows, steps = _steps(
    batch, lines, width * width_of_step * x.dtype.itemsize,
    max(_CACHE, 4 * kernel.size * x.dtype.itemsize),
  )  # fmt: skip
  spans = windows.spans((rows, width), window_strides)
  seen = taps[-1][0] + spans[0]
  # The last step overhangs where its rows do not divide the lines.
  missing = (steps - 1) * rows * stride + seen - x.shape[1]
  x = windows.padded(x, ((0, max(0, missing)), (0, 0)))
  top, tall = reach - near, steps * rows + reach
  out = windows.padded(out, ((top, tall - height - top), (0, 0)))
  places = jnp.asarray([
    (i * x.shape[1] + j * rows * stride, i * tall + j * rows)
    for i in range(batch // images)
    for j in range(steps)
  ])  # fmt: skip
  # Images that are not computed together, one under the other.
  x = x.reshape(images, -1, *x.shape[2:])
  out = out.reshape(images, -1, width, features)

  # Devices that share a batch sum the gradient each for itself, in a matrix of
  # its own: else they would exchange it in every step.
  parts = math.gcd(images, jax.device_count())
  matrices = _matrices(kernel, len(shifts), len(taps), parts)
  see = lambda part: _columns(part, taps, spans, window_strides)
  offsets = [reach - shift for shift in shifts]
  shape = rows, width
  out = _scan(out, x, matrices, places, offsets, shape, seen, see, precision)
  out = out.reshape(batch, tall, width, features)
  return lax.slice_in_dim(out, top, top + height, axis=1)


def _scan(out, x, matrices, places, offsets, shape, seen, see, precision):
  """Adds to `out` the product of what is seen at each place of x, in turn."""
  images, features = out.shape[0], out.shape[-1]
  parts = matrices.shape[1]

  # Else every step would keep its matrices for the gradient.
  @functools.partial(jax.checkpoint, prevent_cse=False)
  def product(start, matrices):
    part = lax.dynamic_slice_in_dim(x, start, seen, 1)
    y = sum(
      jnp.matmul(c.reshape(parts, -1, c.shape[-1]), m, precision=precision)
      for c, m in zip(see(part), matrices, strict=True)
    )
    return y.reshape(images, *shape, -1)

  def add(out, place):
    y = product(place[0], matrices)
    # Not slices: the gradient of this is one concatenation.
    shifted = lax.split(y, (features,) * len(offsets), axis=3)
    for offset, part in zip(offsets, shifted, strict=True):
      out = _add_at(out, place[1:] + offset, part)
    return out, None

  return lax.scan(add, out, places)[0]


def _columns(part, taps, spans, strides):
  """What each tap sees of a part of the images."""
  return [
    lax.slice(
      part,
      (0, i, j, 0),
      (part.shape[0], i + spans[0], j + spans[1], part.shape[-1]),
      (1, *strides, 1),
    )
    for i, j in taps
  ]


def _matrices(kernel, shifts, taps, parts):
  """The kernel as a matrix for each tap and device: (taps, parts, c, …)."""
  features = kernel.shape[-1]
  matrices = kernel.reshape(shifts, -1, features).swapaxes(0, 1)
  matrices = matrices.reshape(taps, 1, -1, shifts * features)
  return jnp.broadcast_to(matrices, (taps, parts, *matrices.shape[2:]))


def _steps(batch, lines, line_bytes, step_bytes):
  """(images, rows of each, steps over the lines) of a step that fits.

  The images of one step lie apart, so that a batch that is spread over devices
  stays spread.
  """
  fits = step_bytes // line_bytes
  fewest = math.gcd(batch, max(8, jax.device_count()))
  images = max(
    n for n in range(fewest, batch + 1, fewest)
    if batch % n == 0 and n <= max(fewest, fits // lines)
  )  # fmt: skip
  steps = -(-lines // max(1, fits // images))
  return images, -(-lines // steps), steps


def _add_at(out, row, part):
  """Adds `part` to the rows of `out` that begin at `row`."""
  # A scatter, because its transpose reads a slice and leaves `out` alone.
  return lax.scatter_add(
    out,
    row,
    part,
    lax.ScatterDimensionNumbers((0, 1, 2, 3), (), (1,)),
    indices_are_sorted=True,
    unique_indices=True,
    mode='promise_in_bounds',
  )
