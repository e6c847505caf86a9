"""Softmax over classes, few and last."""

import jax
from jaxtyping import Array, Float

from medjax.ops import platform

_FEW = 4  # with more, moving them costs as much as it saves


def softmax(logits: Float[Array, '*b k']) -> Float[Array, '*b k']:
  """`jax.nn.softmax` over the last axis, of few classes fast on a CPU too.

  Maxima and sums over two or three classes leave most of a CPU's vector empty.
  There the classes change places with the axis before them.

  Args:
    logits: (*b, k).
  """
  if logits.ndim < 3 or logits.shape[-1] > _FEW or not platform.is_cpu():
    return jax.nn.softmax(logits)
  return jax.nn.softmax(logits.swapaxes(-1, -2), -2).swapaxes(-1, -2)
