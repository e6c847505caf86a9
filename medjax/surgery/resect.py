"""Takes a tumour out: with a margin all around, or along a plane."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.surgery import distance

_STARTS, _ROUNDS, _MOST = 32, 150, 20_000
_WEIGHT = 5.0  # of a voxel to spare against one of the organ


def remnant(organ, tumour, scene, *, margin=None, plane=None):
  """What of an organ is left, ml and shares.

  Args:
    organ, tumour: (x, y, z) bool; the tumour need not belong to the organ.
    margin: mm around the tumour that go with it.
    plane: (point, normal), RAS; all on the side of the normal goes.

  Raises ValueError unless one of both is given.
  """
  if (margin is None) == (plane is None):
    raise ValueError('a resection needs either --margin or --plane')
  removed = (
    around(tumour, scene.spacing, margin)
    if plane is None
    else beyond(scene, *plane)
  )
  return left(organ, tumour, removed, scene)


def left(organ, tumour, removed, scene):
  """Volumes of an organ, what is removed of it, and what is left.

  The remnant's share is of the organ without the tumour.
  """
  ml = scene.voxel / 1000
  healthy = organ & ~tumour
  kept = healthy & ~removed
  away, half = distance.to_centres(~removed, scene.spacing)
  inside = tumour & removed
  # Half a voxel at the tumour's surface, half at that of what is kept.
  closest = float((away - 2 * half)[inside].min()) if inside.any() else 0.0
  whole = bool(inside.sum() == tumour.sum())
  return {
    'organ_ml': float(healthy.sum() * ml),
    'tumour_ml': float(tumour.sum() * ml),
    'removed_ml': float(((organ | tumour) & removed).sum() * ml),
    'remnant_ml': float(kept.sum() * ml),
    'remnant_share': float(kept.sum() / max(healthy.sum(), 1)),
    'tumour_removed_share': float(inside.sum() / max(tumour.sum(), 1)),
    'margin_mm': max(0.0, closest) if whole else 0.0,
  }


def around(tumour, spacing, margin):
  """All within `margin` mm of a tumour, (x, y, z) bool.

  From surface to surface: half a voxel is the tumour's, half that of what is
  left.
  """
  away, half = distance.to_centres(tumour, spacing)
  return away <= margin + 2 * half


def beyond(scene, point, normal):
  """The voxels whose centres lie beyond a plane, (x, y, z) bool."""
  normal = np.asarray(normal, float) / np.linalg.norm(normal) @ scene.directions
  offset = scene.to_grid(point) @ normal
  axes = [
    np.arange(n) * s for n, s in zip(scene.shape, scene.spacing, strict=True)
  ]
  return (
    sum(a * x for a, x in zip(normal, np.ix_(*axes), strict=True)) >= offset
  )


def best_plane(scene, organ, tumour, *, margin, spare=None, seed=0):
  """(point, normal), RAS, of the plane that costs least of the organ.

  All of the tumour, with its margin, is beyond it; `spare` (x, y, z) bool is
  kept where it can be. From 32 directions downhill by the gradient of the
  volume, whose border is taken as soft; the best by count is returned.
  """
  rng = np.random.default_rng(seed)
  inner = _some(organ & ~tumour, rng) * scene.spacing
  spared = np.empty((0, 3))
  if spare is not None and spare.any():
    spared = _some(spare, rng) * scene.spacing
  target = distance.surface_centres(tumour, scene.spacing)
  points = np.concatenate([inner, spared])
  weights = np.r_[
    np.full(len(inner), 1 / max(len(inner), 1)),
    np.full(len(spared), _WEIGHT / max(len(spared), 1)),
  ]
  starts = rng.normal(size=(_STARTS, 3))
  found, cost = _descended(
    *(jnp.asarray(np.float32(x)) for x in (starts, points, weights, target)),
    jnp.asarray(scene.spacing, jnp.float32),
    margin,
  )
  normal = np.asarray(found[int(np.argmin(cost))], float)
  offset = float(_offset(normal, target, scene.spacing, margin))
  point = target.mean(0)
  point = point + (offset - point @ normal) * normal
  return scene.to_ras(point), scene.directions @ normal


def _some(mask, rng):
  voxels = np.argwhere(mask)
  if len(voxels) > _MOST:
    voxels = voxels[rng.choice(len(voxels), _MOST, replace=False)]
  return voxels


def _offset(normal, target, spacing, margin):
  """Where a plane must lie to have the tumour and its margin beyond it."""
  half = 0.5 * (abs(normal) * spacing).sum()
  return (target @ normal).min() - half - margin


@jax.jit
def _descended(starts, points, weights, target, spacing, margin):
  def cost(direction, soft):
    normal = direction / jnp.linalg.norm(direction)
    offset = _offset(normal, target, spacing, margin)
    beyond = jax.nn.sigmoid((points @ normal - offset) / soft)
    return (weights * beyond).sum()

  def one(start):
    def step(i, state):
      direction, best, least = state
      share = 1 - i / _ROUNDS
      slope = jax.grad(cost)(direction, 2.0 + 8.0 * share)
      slope = slope / jnp.maximum(jnp.linalg.norm(slope), 1e-12)
      direction = direction - 0.1 * share * slope
      direction = direction / jnp.linalg.norm(direction)
      hard = cost(direction, 0.1)
      better = hard < least
      return (
        direction,
        jnp.where(better, direction, best),
        jnp.minimum(hard, least),
      )

    start = start / jnp.linalg.norm(start)
    state = (start, start, cost(start, 0.1))
    return jax.lax.fori_loop(0, _ROUNDS, step, state)[1:]

  return jax.lax.map(one, starts)
