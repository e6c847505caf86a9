"""Covers a tumour and a margin with ellipsoids, placed by gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax.surgery import distance

_STARTS, _ROUNDS, _POINTS = 8, 400, 3000
_NEAR = 0.15  # of an ellipsoid's size, over which its border is soft


class Ablation(NamedTuple):
  """Ellipsoids, and what they cover.

  centres: (n, 3), mm on the grid; axes: (n, 3, 3), rows the directions of the
  radii; radii: (3,), mm. zone: (x, y, z) bool. coverage: share of the tumour;
  margin: mm around it that are covered, at least; complete: as wanted.
  """

  centres: np.ndarray
  axes: np.ndarray
  radii: np.ndarray
  zone: np.ndarray
  coverage: float
  margin: float
  complete: bool


def cover(tumour, spacing, radii, *, margin, most=4, spare=None, seed=0):
  """The `Ablation` of the fewest ellipsoids, up to `most`, that cover.

  What is to be covered are the voxels within `margin` mm of the tumour, from
  surface to surface, as of `resect.around`. `radii` (3,) are those that the
  device makes. `spare` (x, y, z) is
  kept out where it can be. Where not even `most` do, the best is returned,
  and `complete` is False.
  """
  away, half = distance.to_centres(tumour, spacing)
  wanted = away <= margin + 2 * half
  rng = np.random.default_rng(seed)
  points = _drawn(wanted, spacing, rng, _POINTS)
  kept = np.empty((0, 3))
  if spare is not None and spare.any():
    near = spare & (away <= margin + 2 * max(radii))
    kept = _drawn(near, spacing, rng, _POINTS) if near.any() else kept
  best = None
  for count in range(1, most + 1):
    found = _placed(points, kept, np.asarray(radii, float), count, rng)
    for centres, axes in found:
      zone = inside(tumour.shape, spacing, centres, axes, radii)
      one = _judged(zone, tumour, wanted, away, half, centres, axes, radii)
      score = (one.complete, (zone & wanted).sum(), -_spoilt(zone, spare))
      if best is None or score > best[0]:
        best = score, one
    if best[1].complete:
      break
  return best[1]


def _judged(zone, tumour, wanted, away, half, centres, axes, radii):
  free = ~zone
  margin = float((away - 2 * half)[free].min()) if free.any() else np.inf
  return Ablation(
    centres,
    axes,
    np.asarray(radii, float),
    zone,
    float((zone & tumour).sum() / tumour.sum()),
    max(0.0, margin),
    bool(zone[wanted].all()),
  )


def _spoilt(zone, spare):
  return 0 if spare is None else int((zone & spare).sum())


def inside(shape, spacing, centres, axes, radii):
  """The voxels whose centres lie in any of the ellipsoids, (x, y, z) bool."""
  grid = [np.arange(n) * s for n, s in zip(shape, spacing, strict=True)]
  found = np.zeros(shape, bool)
  for centre, frame in zip(centres, axes, strict=True):
    away = [g - c for g, c in zip(grid, centre, strict=True)]
    total = 0.0
    for direction, radius in zip(frame, radii, strict=True):
      parts = np.ix_(*[a * d for a, d in zip(away, direction, strict=True)])
      total = total + (sum(parts) / radius) ** 2
    found |= total <= 1
  return found


def _drawn(mask, spacing, rng, count):
  """Up to `count` voxel centres, half of them at the border."""
  border = distance.surface_centres(mask, spacing)
  inner = np.argwhere(mask) * np.asarray(spacing)
  parts = [
    x[rng.choice(len(x), min(len(x), count // 2), replace=False)]
    for x in (border, inner)
  ]
  return np.concatenate(parts)


def _placed(points, spared, radii, count, rng):
  """Yields (centres, axes) of each start's end."""
  centres = points[rng.integers(0, len(points), (_STARTS, count))]
  centres[0] = points.mean(0)
  # Towards the middle, and turned at random.
  centres = 0.5 * (centres + points.mean(0))
  turns = rng.normal(size=(_STARTS, count, 4))
  turns[0] = (1, 0, 0, 0)
  found = _descended(
    *(jnp.asarray(np.float32(x)) for x in (centres, turns, points, spared)),
    jnp.asarray(radii, jnp.float32),
  )
  for c, t in zip(*map(np.asarray, found), strict=True):
    yield c.astype(float), np.asarray(jax.vmap(_frame)(t), float)


def _frame(q):
  """The rotation (3, 3) of a quaternion (4,) of any length."""
  w, x, y, z = q / jnp.linalg.norm(q)
  return jnp.array(
    [
      [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
      [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
      [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
  )


def _levels(centres, turns, points, radii):
  """How far out of ellipsoids points (n, 3) are, (n, k); 1: at the border."""
  frames = jax.vmap(_frame)(turns)
  away = points[:, None] - centres
  along = jnp.einsum('kij,nkj->nki', frames, away) / radii
  return jnp.sqrt((along**2).sum(-1) + 1e-9)


@jax.jit
def _descended(centres, turns, points, spared, radii):
  def loss(state, soft):
    levels = _levels(*state, points, radii)
    # The smallest level, softly: a point needs one ellipsoid only.
    least = -soft * jax.nn.logsumexp(-levels / soft, -1)
    value = jax.nn.softplus((least - 1 + 0.03) / soft).mean() * soft
    if len(spared):
      within = _levels(*state, spared, radii)
      value += 0.2 * soft * jax.nn.softplus((1 - within) / soft).mean()
    return value

  def one(start):
    def step(i, carry):
      state, speed = carry
      share = 1 - i / _ROUNDS
      slope = jax.grad(loss)(state, _NEAR * share + 0.02)
      size = jnp.sqrt(sum((g**2).sum() for g in slope))
      # Centres in mm, turns in shares of a whole.
      step = (2.0 * share + 0.05, 0.1 * share + 0.002)
      speed = tuple(
        0.8 * v - 0.4 * s * g / jnp.maximum(size, 1e-9)
        for v, s, g in zip(speed, step, slope, strict=True)
      )
      return tuple(x + v for x, v in zip(state, speed, strict=True)), speed

    still = jax.tree.map(jnp.zeros_like, start)
    return jax.lax.fori_loop(0, _ROUNDS, step, (start, still))[0]

  return jax.lax.map(one, (centres, turns))
