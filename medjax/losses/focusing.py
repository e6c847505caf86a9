"""Focal losses: what is already right weighs less than what is wrong."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.losses import inputs
from medjax.losses.inputs import Logits, Target, Valid

# Keeps gradients finite where p rounds to 1 and the exponent is below 1.
_FLOOR = 1e-12


def _modulated(log_p, gamma):
  """-(1 - p)^gamma log p."""
  return -(jnp.maximum(-jnp.expm1(log_p), _FLOOR) ** gamma) * log_p


def focal(
  logits: Logits,
  target: Target,
  *,
  gamma=2.0,
  alpha: float | None = None,
  class_weights=(),
  pos_weight=(),
  multi_label: bool = False,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Focal loss: cross-entropy weighted by (1 - p)^gamma of the true class.

  Lin et al. 2017, eq. 4 and 5. Softmax: the mean over positions of the sum over
  classes. Sigmoid: the mean over positions and labels. gamma=0 is
  cross_entropy or binary_cross_entropy.

  Balance: class_weights (K,) weigh a class, of sigmoids a label with positives
  and negatives alike. Of sigmoids alone, alpha weighs positives and 1 - alpha
  negatives, as in the paper and in torchvision's sigmoid_focal_loss; pos_weight
  (K,) weighs positives, one number per label.
  """
  logits, target, valid, _, fault = inputs.read(
    logits, target, valid=valid, multi_label=multi_label
  )
  classes = logits.shape[-1]
  if multi_label:
    on, off = _balance(alpha, pos_weight, classes)
    losses = target * _modulated(jax.nn.log_sigmoid(logits), gamma) * on
    losses += (
      (1 - target) * _modulated(jax.nn.log_sigmoid(-logits), gamma) * off
    )
  elif alpha is not None or len(pos_weight):
    raise ValueError(
      'alpha and pos_weight are of sigmoids; for softmax give class_weights, '
      'e.g. (1 - alpha, alpha)'
    )
  else:
    losses = target * _modulated(jax.nn.log_softmax(logits), gamma)
  weights = inputs.per_class(class_weights, classes)
  if weights is not None:
    losses = losses * weights
  if not multi_label:
    losses = losses.sum(-1, keepdims=True)
  return inputs.mean(losses, valid) + fault


def _balance(alpha, pos_weight, classes):
  """Weights of positives and of negatives."""
  on = inputs.per_class(pos_weight, classes, name='pos_weight')
  on = 1.0 if on is None else on
  if alpha is None:
    return on, 1.0
  if not 0 <= alpha <= 1:
    raise ValueError(f'alpha must be from 0 to 1, not {alpha}')
  return on * alpha, 1 - alpha


def unified_focal(
  logits: Logits,
  target: Target,
  *,
  weight=0.5,
  delta=0.6,
  gamma=0.5,
  multi_label: bool = False,
  valid: Valid = None,
  smooth=1e-5,
) -> Float[Array, 'b']:
  """Asymmetric unified focal loss: weight · focal + (1 - weight) · Tversky.

  Yeung et al. 2022, eq. 19 to 21: one delta balances foreground against
  background and misses against false positives, one gamma stills the easy
  background in the focal part and lifts the rare foreground in the Tversky
  part. The focal part is the mean over positions of the sum over classes, the
  other a mean over classes, as in the authors' program. Class 0 is the
  background; with `multi_label` each label has its own, and the loss is the
  mean over labels.
  """
  logits, target, valid, _, fault = inputs.read(
    logits, target, valid=valid, multi_label=multi_label
  )
  if multi_label:  # each label is a problem of two classes
    logits = jnp.stack([jnp.zeros_like(logits), logits], -1)
    target = jnp.stack([1 - target, target], -1)
  else:
    logits, target = logits[..., None, :], target[..., None, :]
  log_p = jax.nn.log_softmax(logits)
  part = _focal_part(log_p, target, delta, gamma, valid)
  other = _tversky_part(jnp.exp(log_p), target, delta, gamma, valid, smooth)
  return weight * part + (1 - weight) * other + fault


def _focal_part(log_p, target, delta, gamma, valid):
  back = (1 - delta) * target[..., :1] * _modulated(log_p[..., :1], gamma)
  fore = -delta * target[..., 1:] * log_p[..., 1:]
  return inputs.mean(back.sum(-1) + fore.sum(-1), valid)


def _tversky_part(p, target, delta, gamma, valid, smooth):
  if valid is not None:
    p, target = (jnp.where(valid[..., None], x, 0) for x in (p, target))
  axes = tuple(range(1, p.ndim - 2))
  tp, p, y = (x.sum(axes) for x in (jnp.minimum(p, target), p, target))
  wrong = delta * (y - tp) + (1 - delta) * (p - tp)
  lost = 1 - (tp + smooth) / (tp + wrong + smooth)
  fore = jnp.maximum(lost[..., 1:], _FLOOR) ** (1 - gamma)
  lost = jnp.concatenate([lost[..., :1], fore], -1)
  return lost.mean((-2, -1))
