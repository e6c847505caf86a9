"""Losses weighted by the distance to a border."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.losses import overlap
from medjax.losses.inputs import Logits, Target, Valid

_FAR = 1e12  # squared; beyond any image


def squared_distance(
  mask: Bool[Array, 'b *s K'],
) -> Float[Array, 'b *s K']:
  """Squared distance of each voxel to the nearest of the mask, in voxels.

  Exact, axis by axis (Felzenszwalb & Huttenlocher 2012, section 2), each as a
  loop over shifts: the work is voxels × (sum of the sides), and nothing is
  gathered. 1e12 where the mask is empty.
  """
  squared = jnp.where(mask, 0.0, _FAR)
  for axis in range(1, mask.ndim - 1):
    squared = _along(squared, axis)
  return squared


def _along(squared, axis):
  size = squared.shape[axis]
  index = jax.lax.broadcasted_iota(jnp.float32, squared.shape, axis)

  def closer(shift, best):
    line = jax.lax.dynamic_index_in_dim(squared, shift, axis)
    return jnp.minimum(best, line + (index - shift) ** 2)

  return jnp.minimum(jax.lax.fori_loop(0, size, closer, squared), _FAR)


def border_distance(mask: Bool[Array, 'b *s K']) -> Float[Array, 'b *s K']:
  """Distance to the other side of the mask's border, in voxels.

  From 1 on: of the outside to the nearest inside, and the other way round. 0
  everywhere for a mask that is empty or all.
  """
  squared = squared_distance(mask) + squared_distance(~mask)
  return jnp.where(squared >= _FAR, 0.0, jnp.sqrt(squared))


def hausdorff(
  logits: Logits,
  target: Target,
  *,
  alpha=2.0,
  multi_label: bool = False,
  background: bool = False,
  class_weights=(),
  valid: Valid = None,
) -> Float[Array, 'b']:
  """Squared errors weighted by the distance to both borders, to the alpha.

  Karimi & Salcudean 2020, eq. 8: Σ (p - y)² (d_p^alpha + d_y^alpha) over
  positions, the mean. What is wrong far from the border counts most, as in a
  Hausdorff distance. Distances are in voxels and carry no gradient; add dice,
  for it starts slowly. Agrees with MONAI's HausdorffDTLoss, but for a mask that
  fills the image, whose distances are 0 here.

  Raises:
    ValueError: for logits without space.
  """
  if logits.ndim < 3:
    raise ValueError('hausdorff needs a map (b, *s, K), not a vector')
  m = overlap.masks(
    logits, target, valid=valid, multi_label=multi_label, background=background
  )
  weights = sum(
    border_distance(jax.lax.stop_gradient(mask) > 0.5) ** alpha
    for mask in (m.p, m.y)
  )
  losses = (m.p - m.y) ** 2 * weights  # 0 where not valid
  axes = tuple(range(1, losses.ndim - 1))
  number = math.prod(losses.shape[1:-1])
  if valid is not None:
    valid = valid.reshape(*losses.shape[:-1], -1)
    number = jnp.maximum(valid.sum(axes), 1)
  losses = losses.sum(axes) / number
  return overlap.over_classes(losses, m, class_weights, logits.shape[-1])
