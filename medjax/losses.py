"""Losses: pure, per example, unreduced; 2-D or 3-D by the rank of the logits.

Every loss is `(logits (b, *s, K), target, …) -> (b,)`: s is empty for
classification. The target is an integer label map (b, *s), or soft / one-hot /
multi-hot (b, *s, K). Softmax by default; `multi_label=True` reads the K outputs
as independent sigmoids. The arithmetic is float32 whatever the logits are.
Value and gradient are finite for any finite logits, empty masks included.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Real

from medjax.ops.softmax import softmax

Target = Integer[Array, 'b *s'] | Real[Array, 'b *s K'] | Bool[Array, 'b *s K']


def _float(logits):
  return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _dense(target, logits):
  """Target as (b, *s, K): comparison instead of a gather, which XLA fuses."""
  if target.ndim == logits.ndim:
    return target.astype(logits.dtype)
  return jax.nn.one_hot(target, logits.shape[-1], dtype=logits.dtype)


def _probabilities(logits, multi_label):
  return jax.nn.sigmoid(logits) if multi_label else softmax(logits)


def _per_example(values):
  return values.reshape(values.shape[0], -1).mean(-1)


def cross_entropy(
  logits: Float[Array, 'b *s K'],
  target: Target,
  *,
  class_weights=(),
  label_smoothing=0.0,
) -> Float[Array, 'b']:
  """Softmax cross-entropy, the mean over the positions of an example.

  Class k is weighted by class_weights[k]; the sum is not divided by the
  weights met, so that an example's loss does not depend on its neighbours.
  Agrees with torch.nn.functional.cross_entropy(reduction='none').
  """
  logits = _float(logits)
  target = _dense(target, logits)
  if label_smoothing:
    target = target * (1 - label_smoothing) + label_smoothing / target.shape[-1]
  if len(class_weights):
    target = target * jnp.asarray(class_weights, logits.dtype)
  return _per_example(-(target * jax.nn.log_softmax(logits)).sum(-1))


def binary_cross_entropy(
  logits: Float[Array, 'b *s K'],
  target: Target,
  *,
  class_weights=(),
  label_smoothing=0.0,
) -> Float[Array, 'b']:
  """Sigmoid cross-entropy of K independent labels, the mean over all of them.

  Smoothing moves a target towards one half. Agrees with torch.nn.functional
  .binary_cross_entropy_with_logits(weight=class_weights, reduction='none').
  """
  logits = _float(logits)
  target = _dense(target, logits)
  if label_smoothing:
    target = target * (1 - label_smoothing) + label_smoothing / 2
  losses = -(
    target * jax.nn.log_sigmoid(logits)
    + (1 - target) * jax.nn.log_sigmoid(-logits)
  )
  if len(class_weights):
    losses = losses * jnp.asarray(class_weights, logits.dtype)
  return _per_example(losses)


def focal(
  logits: Float[Array, 'b *s K'],
  target: Target,
  *,
  gamma=2.0,
  class_weights=(),
  multi_label: bool = False,
) -> Float[Array, 'b']:
  """Focal loss: cross-entropy weighted by (1 - p)^gamma of the true class.

  Lin et al. 2017, eq. 4. Softmax: the mean over positions of the sum over
  classes. Sigmoid: the mean over positions and labels. gamma=0 is
  cross_entropy or binary_cross_entropy. A balance of classes (the paper's
  alpha) is class_weights.
  """
  logits = _float(logits)
  target = _dense(target, logits)

  def modulated(log_p):
    # The floor keeps the gradient finite where p rounds to 1 and gamma < 1.
    return -(jnp.maximum(-jnp.expm1(log_p), 1e-12) ** gamma) * log_p

  if multi_label:
    positive = modulated(jax.nn.log_sigmoid(logits))
    negative = modulated(jax.nn.log_sigmoid(-logits))
    losses = target * positive + (1 - target) * negative
  else:
    losses = target * modulated(jax.nn.log_softmax(logits))
  if len(class_weights):
    losses = losses * jnp.asarray(class_weights, logits.dtype)
  return _per_example(losses if multi_label else losses.sum(-1))


def _soft_counts(logits, target, *, multi_label, background, batch):
  """Sums over space (and the batch) of p·y, p and y: each (b or 1, K)."""
  logits = _float(logits)
  target = _dense(target, logits)
  p = _probabilities(logits, multi_label)
  if not multi_label and not background:
    p, target = p[..., 1:], target[..., 1:]
  axes = tuple(range(0 if batch else 1, p.ndim - 1))
  return (x.sum(axes, keepdims=True) for x in (p * target, p, target))


def _over_classes(score, size):
  """1 - mean over classes; a score pooled over the batch is everyone's."""
  loss = 1 - score.reshape(score.shape[0], -1).mean(-1)
  return jnp.broadcast_to(loss, (size,))


def dice(
  logits: Float[Array, 'b *s K'],
  target: Target,
  *,
  multi_label: bool = False,
  background: bool = False,
  batch: bool = False,
  smooth=1e-5,
) -> Float[Array, 'b']:
  """Soft Dice loss, 1 - (2 Σpy + smooth) / (Σp + Σy + smooth), class mean.

  As nnU-Net's (v2, MemoryEfficientSoftDiceLoss, there without the "1 -") and
  MONAI's DiceLoss with equal smoothing terms. Class 0 is left out unless
  `background`; with `multi_label` all K count. batch=True sums over the whole
  batch before dividing, and gives every example that one value.
  """
  overlap, p, y = _soft_counts(
    logits, target, multi_label=multi_label, background=background, batch=batch
  )
  score = (2 * overlap + smooth) / (p + y + smooth)
  return _over_classes(score, logits.shape[0])


def tversky(
  logits: Float[Array, 'b *s K'],
  target: Target,
  *,
  alpha=0.3,
  beta=0.7,
  multi_label: bool = False,
  background: bool = False,
  batch: bool = False,
  smooth=1e-5,
) -> Float[Array, 'b']:
  """Tversky loss: alpha weighs false positives, beta false negatives.

  Salehi et al. 2017, eq. 3; alpha = beta = 0.5 is the Dice loss. Options as
  dice(); agrees with MONAI's TverskyLoss with equal smoothing terms.
  """
  overlap, p, y = _soft_counts(
    logits, target, multi_label=multi_label, background=background, batch=batch
  )
  wrong = alpha * (p - overlap) + beta * (y - overlap)
  score = (overlap + smooth) / (overlap + wrong + smooth)
  return _over_classes(score, logits.shape[0])
