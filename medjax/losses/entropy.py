"""Cross-entropies: the mean over positions of the log of a probability."""

import jax
from jaxtyping import Array, Float

from medjax.losses import inputs
from medjax.losses.inputs import Logits, Target, Valid


def cross_entropy(
  logits: Logits,
  target: Target,
  *,
  class_weights=(),
  label_smoothing=0.0,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Softmax cross-entropy, the mean over the positions of an example.

  Class k is weighted by class_weights[k]; the sum is not divided by the
  weights met, so that an example's loss does not depend on its neighbours.
  Agrees with torch.nn.functional.cross_entropy(reduction='none').
  """
  logits, target, valid, _, fault = inputs.read(logits, target, valid=valid)
  if label_smoothing:
    target = target * (1 - label_smoothing) + label_smoothing / target.shape[-1]
  weights = inputs.per_class(class_weights, target.shape[-1])
  if weights is not None:
    target = target * weights
  losses = -(target * jax.nn.log_softmax(logits)).sum(-1, keepdims=True)
  return inputs.mean(losses, valid) + fault


def binary_cross_entropy(
  logits: Logits,
  target: Target,
  *,
  class_weights=(),
  pos_weight=(),
  label_smoothing=0.0,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Sigmoid cross-entropy of K independent labels, the mean over all of them.

  class_weights (K,) weigh a label, pos_weight (K,) its positives alone, e.g.
  negatives / positives of a rare one. Smoothing moves a target towards one
  half. Agrees with torch.nn.functional.binary_cross_entropy_with_logits(
  weight=class_weights, pos_weight=pos_weight, reduction='none').
  """
  logits, target, valid, _, fault = inputs.read(
    logits, target, valid=valid, multi_label=True
  )
  if label_smoothing:
    target = target * (1 - label_smoothing) + label_smoothing / 2
  positive = target * jax.nn.log_sigmoid(logits)
  more = inputs.per_class(pos_weight, target.shape[-1], name='pos_weight')
  if more is not None:
    positive = positive * more
  losses = -(positive + (1 - target) * jax.nn.log_sigmoid(-logits))
  weights = inputs.per_class(class_weights, target.shape[-1])
  if weights is not None:
    losses = losses * weights
  return inputs.mean(losses, valid) + fault
