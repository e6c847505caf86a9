"""Losses of a region's overlap: sums over space, then a ratio, then classes.

Class 0 is left out unless `background`; with `multi_label` all K count.
batch=True sums over the whole batch before dividing, and gives every example
that one value. class_weights (K,) weigh the classes in the mean over them, and
are not divided by their sum. What two soft masks share is min(p, y): pixel by
pixel p·y where y is 0 or 1, and a loss that is least at p = y where it is not
(Wang et al. 2023, "Dice semimetric losses"). A region without a valid position
counts as empty in both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.losses import inputs
from medjax.losses.inputs import Logits, Target, Valid


class Masks(NamedTuple):
  """Probabilities and target (b, *s, k) of the classes that count."""

  p: jax.Array
  y: jax.Array
  hard: bool  # y is 0 or 1
  fault: jax.Array | float  # (b,), added to a loss; see inputs.Pair


def masks(logits, target, *, valid, multi_label, background) -> Masks:
  """Reads a loss's arguments; both masks are 0 where they are not valid."""
  logits, target, valid, hard, fault = inputs.read(
    logits, target, valid=valid, multi_label=multi_label
  )
  p = inputs.probabilities(logits, multi_label)
  if valid is not None:
    # Of a label map the background is 1 where it is not valid.
    p, target = (jnp.where(valid, x, 0) for x in (p, target))
  if not multi_label and not background:
    p, target = p[..., 1:], target[..., 1:]
  return Masks(p, target, hard, fault)


def _sums(m, batch, *, squared=False):
  """Sums over space (and the batch) of what is shared, p and y: (b or 1, k)."""
  axes = tuple(range(0 if batch else 1, m.p.ndim - 1))
  shared = m.p * m.y if m.hard or squared else jnp.minimum(m.p, m.y)
  p, y = (m.p * m.p, m.y * m.y) if squared else (m.p, m.y)
  return tuple(x.sum(axes).reshape(-1, x.shape[-1]) for x in (shared, p, y))


def over_classes(losses, m, class_weights, classes):
  """Weighted mean over the classes that count, (b or 1, k) → (b,).

  A value pooled over the batch is everyone's.
  """
  weights = inputs.per_class(class_weights, classes)
  if weights is not None:
    losses = losses * weights[classes - losses.shape[-1] :]
  return jnp.broadcast_to(losses.mean(-1), (len(m.p),)) + m.fault


def dice(
  logits: Logits,
  target: Target,
  *,
  multi_label: bool = False,
  background: bool = False,
  batch: bool = False,
  squared: bool = False,
  class_weights=(),
  smooth=1e-5,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Soft Dice loss, 1 - (2 Σpy + smooth) / (Σp + Σy + smooth), class mean.

  As nnU-Net's (v2, MemoryEfficientSoftDiceLoss, there without the "1 -") and
  MONAI's DiceLoss with equal smoothing terms; of soft targets, as its
  soft_label=True. squared=True has Σp² + Σy² below, as V-Net (Milletari et al.
  2016, section 3).
  """
  m = masks(
    logits, target, valid=valid, multi_label=multi_label, background=background
  )
  shared, p, y = _sums(m, batch, squared=squared)
  losses = 1 - (2 * shared + smooth) / (p + y + smooth)
  return over_classes(losses, m, class_weights, logits.shape[-1])


def tversky(
  logits: Logits,
  target: Target,
  *,
  alpha=0.3,
  beta=0.7,
  multi_label: bool = False,
  background: bool = False,
  batch: bool = False,
  class_weights=(),
  smooth=1e-5,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Tversky loss: alpha weighs false positives, beta false negatives.

  Salehi et al. 2017, eq. 3; alpha = beta = 0.5 is the Dice loss. Options as
  dice(); agrees with MONAI's TverskyLoss with equal smoothing terms.
  """
  m = masks(
    logits, target, valid=valid, multi_label=multi_label, background=background
  )
  shared, p, y = _sums(m, batch)
  wrong = alpha * (p - shared) + beta * (y - shared)
  losses = 1 - (shared + smooth) / (shared + wrong + smooth)
  return over_classes(losses, m, class_weights, logits.shape[-1])


def jaccard(
  logits: Logits,
  target: Target,
  *,
  multi_label: bool = False,
  background: bool = False,
  batch: bool = False,
  class_weights=(),
  smooth=1e-5,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Soft Jaccard loss, one less intersection over union: Tversky's with 1, 1.

  Agrees with MONAI's DiceLoss(jaccard=True) of twice the smoothing.
  """
  return tversky(
    logits,
    target,
    alpha=1.0,
    beta=1.0,
    multi_label=multi_label,
    background=background,
    batch=batch,
    class_weights=class_weights,
    smooth=smooth,
    valid=valid,
  )


def generalised_dice(
  logits: Logits,
  target: Target,
  *,
  multi_label: bool = False,
  background: bool = False,
  batch: bool = False,
  smooth=1e-5,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Generalised Dice loss: one ratio over classes weighted by 1 / (Σy)².

  Sudre et al. 2017, eq. 3: classes count alike whatever their volumes. A class
  that is absent weighs as much as the smallest that is there. Agrees with
  MONAI's GeneralizedDiceLoss.
  """
  m = masks(
    logits, target, valid=valid, multi_label=multi_label, background=background
  )
  shared, p, y = _sums(m, batch)
  there = y > 0
  weights = jnp.where(there, 1 / jnp.where(there, y, 1) ** 2, 0)
  most = weights.max(-1, keepdims=True)
  weights = jnp.where(there, weights, jnp.where(most > 0, most, 1))
  above = 2 * (weights * shared).sum(-1) + smooth
  below = (weights * (p + y)).sum(-1) + smooth
  return jnp.broadcast_to(1 - above / below, (len(m.p),)) + m.fault
