"""Winograd's minimal filtering, along one axis of a convolution."""

import jax.numpy as jnp
from jax import lax

from medjax.ops.cpu import windows

_INPUT = (
  (4, 0, -5, 0, 1, 0),
  (0, -4, -4, 1, 1, 0),
  (0, 4, -4, -1, 1, 0),
  (0, -2, -1, 2, 1, 0),
  (0, 2, -1, -2, 1, 0),
  (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
  (1 / 4, 0, 0),
  (-1 / 6, -1 / 6, -1 / 6),
  (-1 / 6, 1 / 6, -1 / 6),
  (1 / 24, 1 / 12, 1 / 6),
  (1 / 24, -1 / 12, 1 / 6),
  (0, 0, 1),
)
_OUTPUT = (
  (1, 1, 1, 1, 1, 0),
  (0, 1, -1, 2, -2, 0),
  (0, 1, 1, 4, 4, 0),
  (0, 1, -1, 8, -8, 1),
)


def winograd(lhs, rhs, conv):
  """A convolution whose first axis has three taps, at half the products.

  Six convolutions over the other axes give four planes of the output, where
  three taps would want twelve: Winograd's minimal filtering F(4, 3), in one
  dimension (Lavin & Gray 2016, section 4.3). It costs a digit: in float32
  about 3e-6 of the largest output.

  Args:
    lhs: (b, d + 2, *others, c), padded along its first spatial axis.
    rhs: (3, *window, c, o).
    conv: (b, n, *others, c), (*window, c, o) → (b, n, *out, o), linear in each.

  Returns:
    (b, d, *out, o).
  """
  depth = lhs.shape[1] - 2
  tiles = -(-depth // 4)
  rest = [(0, 0)] * (lhs.ndim - 3)
  lhs = windows.padded(lhs, [(0, 4 * tiles - depth + 2), *rest])
  # Not strided slices: the gradient of these is one concatenation.
  lhs = lhs.reshape(lhs.shape[0], tiles + 1, 4, *lhs.shape[2:])
  rows = [x.squeeze(2) for x in lax.split(lhs, (1,) * 4, axis=2)]
  planes = [lax.slice_in_dim(x, 0, tiles, axis=1) for x in rows]
  planes += [lax.slice_in_dim(x, 1, None, axis=1) for x in rows[:2]]
  parts = [
    conv(_sum(weights, planes), _sum(taps, rhs))
    for weights, taps in zip(_INPUT, _KERNEL, strict=True)
  ]
  out = jnp.stack([_sum(weights, parts) for weights in _OUTPUT], 2)
  out = out.reshape(out.shape[0], 4 * tiles, *out.shape[3:])
  return lax.slice_in_dim(out, 0, depth, axis=1)


def _sum(weights, arrays):
  """Weighted sum that leaves out zeros, which XLA would not."""
  terms = [(w, a) for w, a in zip(weights, arrays, strict=True) if w]
  return sum((w * a for w, a in terms[1:]), terms[0][0] * terms[0][1])
