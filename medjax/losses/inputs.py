"""What logits, target, valid positions and class weights mean to every loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Real

from medjax.ops.softmax import softmax

AnyArray = Array | np.ndarray
Logits = Float[AnyArray, 'b *s K']
Target = (
  Integer[AnyArray, 'b *s']
  | Bool[AnyArray, 'b *s']
  | Real[AnyArray, 'b *s K']
  | Bool[AnyArray, 'b *s K']
)
Valid = Bool[AnyArray, 'b *s'] | Bool[AnyArray, 'b *s K'] | None

# Differences, means and weighted sums of such logits still fit into float32.
_FAR = 1e20
# What rounding may leave outside of 0 to 1.
_SLACK = 1e-3


class Pair(NamedTuple):
  """Logits and target (b, *s, K), float32; valid (b, *s, K or 1) or None.

  hard: whether the target is 0 or 1 by its type.
  fault (b,): to be added to the loss. 0, or NaN where a traced target is none.
  """

  logits: jax.Array
  target: jax.Array
  valid: jax.Array | None
  hard: bool
  fault: jax.Array | float


def read(logits, target, *, valid=None, multi_label=False) -> Pair:
  """Logits and target in one form; the target is 0 where it is not valid.

  Raises:
    ValueError: for shapes and types that do not fit, and values that are no
      target. Those of traced arrays cannot be seen: their fault is NaN.
  """
  logits, target = jnp.asarray(logits), jnp.asarray(target)
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(f'logits must be floating, not {logits.dtype}')
  if logits.shape[-1] < 2 and not multi_label:
    raise ValueError('softmax of one output is always 1: give 2, or sigmoids')
  logits = _near(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
  valid = _valid(valid, logits, multi_label)
  if target.shape == logits.shape:
    hard = not jnp.issubdtype(target.dtype, jnp.floating)
    target, fault = _dense(target, valid, logits)
  elif target.shape == logits.shape[:-1]:
    hard = True
    target, fault = _hot(target, valid, logits)
  else:
    raise ValueError(
      f'target {target.shape} fits logits {logits.shape} neither as labels '
      f'{logits.shape[:-1]} nor as one number per output'
    )
  return Pair(logits, target, valid, hard, fault)


@jax.custom_jvp
def _near(logits):
  return jnp.clip(logits, -_FAR, _FAR)


# The gradient of a far logit is that of its probability, as of a near one.
_near.defjvps(lambda tangent, _, logits: tangent)


def _valid(valid, logits, multi_label):
  if valid is None:
    return None
  valid = jnp.asarray(valid)
  if valid.dtype != bool:
    raise ValueError(f'valid must be bool, not {valid.dtype}')
  if valid.shape == logits.shape[:-1]:
    return valid[..., None]
  if valid.shape != logits.shape or not multi_label:
    raise ValueError(
      f'valid has shape {valid.shape}, not {logits.shape[:-1]}: a position '
      'counts or does not'
    )
  return valid


def _dense(target, valid, logits):
  target = target.astype(logits.dtype)
  if valid is not None:
    target = jnp.where(valid, target, 0)
  known = (target >= -_SLACK) & (target <= 1 + _SLACK)
  return target, _fault(target, known, 'targets must be from 0 to 1')


def _hot(target, valid, logits):
  """Comparison instead of a gather, which XLA fuses."""
  classes = logits.shape[-1]
  if jnp.issubdtype(target.dtype, jnp.floating):
    raise ValueError(
      f'labels {target.shape} must be integers, not {target.dtype}'
    )
  if classes < 2:
    raise ValueError('a label map needs 2 outputs; give the target (b, *s, 1)')
  target = target.astype(jnp.int32)
  known = (target >= 0) & (target < classes)
  if valid is not None:
    if valid.shape[-1] > 1:
      raise ValueError('valid (b, *s, K) needs a target (b, *s, K)')
    known |= ~valid[..., 0]
  fault = _fault(target, known, f'labels must be from 0 to {classes - 1}')
  return jax.nn.one_hot(target, classes, dtype=logits.dtype), fault


def _fault(target, known, rule):
  """Raises where values are seen; else NaN for each example with a fault."""
  if isinstance(known, jax.core.Tracer):
    each = known.reshape(known.shape[0], -1).all(-1)
    return jnp.where(each, 0.0, jnp.nan)
  known = np.asarray(known)
  if not known.all():
    raise ValueError(f'{rule}, not {float(np.asarray(target)[~known][0]):g}')
  return 0.0


def per_class(values, classes, *, name='class_weights'):
  """One number per class as an array, or None where none are given."""
  if values is None or not len(values):
    return None
  if len(values) != classes:
    raise ValueError(f'{name} has {len(values)} numbers, not {classes}')
  return jnp.asarray(values, jnp.float32)


def probabilities(logits, multi_label):
  """Sigmoids, or softmax over the last axis."""
  return jax.nn.sigmoid(logits) if multi_label else softmax(logits)


def mean(values, valid):
  """Mean over what is valid of each example, (b, …) → (b,); 0 of nothing."""
  if valid is None:
    return values.reshape(values.shape[0], -1).mean(-1)
  valid = jnp.broadcast_to(valid, values.shape)
  axes = tuple(range(1, values.ndim))
  total = jnp.where(valid, values, 0).sum(axes)
  return total / jnp.maximum(valid.sum(axes), 1)
