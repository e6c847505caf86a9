"""How far two predictions of one image agree, and what one teaches another."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Values = Float[Array, 'b *s k']


def squared(ours: Values, theirs: Values, keep=None) -> Float[Array, 'b']:
  """Mean squared difference of probabilities, of each case.

  keep: (b, *s) bool, the places that count; 0 where there are none.
  """
  each = ((ours - theirs) ** 2).mean(-1)
  axes = tuple(range(1, each.ndim))
  if keep is None:
    return each.mean(axes)
  kept = keep.astype(each.dtype)
  return (each * kept).sum(axes) / jnp.maximum(kept.sum(axes), 1)


def pseudo_labelled(
  logits: Values,
  probabilities: Values,
  *,
  exclusive: bool,
  threshold: float = 0.0,
) -> Float[Array, 'b']:
  """Cross-entropy with what `probabilities` decide for, where they are sure.

  Sure is the likelier side of a decision of at least `threshold`. Where it is
  not, the loss is 0, and counts in the mean over places (and labels), as in
  FixMatch (Sohn et al. 2020, equation 4). The decisions have no gradient.
  """
  probabilities = jax.lax.stop_gradient(probabilities)
  logits = logits.astype(jnp.float32)
  if exclusive:
    label = probabilities.argmax(-1, keepdims=True)
    sure = probabilities.max(-1) >= threshold
    logs = jax.nn.log_softmax(logits)
    each = -jnp.take_along_axis(logs, label, -1)[..., 0]
  else:
    sure = jnp.maximum(probabilities, 1 - probabilities) >= threshold
    sign = jnp.where(probabilities > 0.5, 1.0, -1.0)
    each = -jax.nn.log_sigmoid(sign * logits)
  return jnp.where(sure, each, 0).mean(tuple(range(1, each.ndim)))


def entropy(probabilities: Values) -> Float[Array, 'b *s']:
  """Entropy of a distribution over classes, nats."""
  logs = jnp.log(jnp.maximum(probabilities, 1e-12))
  return -(probabilities * logs).sum(-1)


def ramp(index, steps: int) -> Float[Array, 'b']:
  """How much of a weight counts at the places `index` (b,) of a stream.

  exp(-5 (1 - t / steps)²), 1 from step `steps` on (Laine & Aila 2017).
  """
  step = (index // len(index)).astype(jnp.float32)
  left = 1 - jnp.minimum(step / max(steps, 1), 1)
  return jnp.where(steps > 0, jnp.exp(-5 * left**2), 1.0)
