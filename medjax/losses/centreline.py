"""clDice: overlap of the centrelines of thin structures, vessels say."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.losses import overlap
from medjax.losses.inputs import Logits, Target, Valid


def _pool(x, window, most):
  """Largest or least over a window of (b, *s, K); the border adds nothing."""
  start, function = (-jnp.inf, jax.lax.max) if most else (jnp.inf, jax.lax.min)
  window = (1, *window, 1)
  ones = (1,) * x.ndim
  return jax.lax.reduce_window(x, start, function, window, ones, 'SAME')


def _eroded(x):
  """Least over the neighbours along each axis: a cross, not a cube."""
  rank = x.ndim - 2
  lines = [
    _pool(x, [3 if a == axis else 1 for a in range(rank)], most=False)
    for axis in range(rank)
  ]
  least = lines[0]
  for line in lines[1:]:
    least = jnp.minimum(least, line)
  return least


def _left(x, eroded):
  """What an opening takes away: the parts one voxel thick."""
  opened = _pool(eroded, (3,) * (x.ndim - 2), most=True)
  return jax.nn.relu(x - opened)


def soft_skeleton(x: Float[Array, 'b *s K'], *, iterations: int):
  """Soft skeleton of masks from 0 to 1, differentiable.

  Shit et al. 2021, algorithm 1: what openings take away from ever more eroded
  masks. `iterations` is at least the radius in voxels of the thickest.
  """

  def peel(state, _):
    x, skeleton = state
    eroded = _eroded(x)
    left = _left(x, eroded)
    return (eroded, skeleton + jax.nn.relu(left - skeleton * left)), None

  # One body, compiled once.
  state = x, jnp.zeros_like(x)
  (_, skeleton), _ = jax.lax.scan(peel, state, length=iterations + 1)
  return skeleton


def cl_dice(
  logits: Logits,
  target: Target,
  *,
  iterations: int = 3,
  multi_label: bool = False,
  background: bool = False,
  class_weights=(),
  smooth=1.0,
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Soft clDice loss: do the centrelines lie in the other mask?

  Shit et al. 2021, eq. 3, the mean over classes: precision of the prediction's
  skeleton in the target, recall of the target's in the prediction, and one less
  their harmonic mean. Add dice: it says nothing of thickness. Agrees with
  MONAI's SoftclDiceLoss of one example.

  Raises:
    ValueError: for logits without space.
  """
  if logits.ndim < 3:
    raise ValueError('cl_dice needs a map (b, *s, K), not a vector')
  m = overlap.masks(
    logits, target, valid=valid, multi_label=multi_label, background=background
  )
  lines_p = soft_skeleton(m.p, iterations=iterations)
  lines_y = soft_skeleton(m.y, iterations=iterations)
  axes = tuple(range(1, m.p.ndim - 1))

  def share(lines, mask):
    inside, whole = (lines * mask).sum(axes), lines.sum(axes)
    return (inside + smooth) / (whole + smooth)

  precision, recall = share(lines_p, m.y), share(lines_y, m.p)
  losses = 1 - 2 * precision * recall / (precision + recall)
  return overlap.over_classes(losses, m, class_weights, logits.shape[-1])
