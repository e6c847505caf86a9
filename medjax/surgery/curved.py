"""Curved ways: of a needle that can be steered, and of a wire in a vessel."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from medjax.metrics.surface import bounding_box
from medjax.surgery import chance, distance, lines, march, targets

_TRIED = 8  # ways for each that is shown
_SNAP = 10.0  # mm from a given point to the vessel


class Ways(NamedTuple):
  """Curved paths.

  lines: (n, samples, 3), mm on the grid, evenly spaced.
  scores: as of straight ones.
  bend: the least radius of each, mm.
  best: (m,) of each voxel of the surface a score; 0 where no way was kept.
  tried: ways that were drawn.
  binding: why there is none: a sentence; ''.
  """

  lines: np.ndarray
  scores: lines.Scores
  bend: np.ndarray
  best: np.ndarray
  tried: int
  binding: str


def search(setting, limits, *, radius, count=10, apart=10.0):
  """The `Ways` of a `plan.Setting` that bend at no less than `radius` mm.

  Ways of least cost from the target to the skin, drawn straight as far as the
  clearance allows. The cost of a mm is 1, and up to 4 where the clearance is
  just kept.
  """
  spacing = tuple(float(s) for s in setting.spacing)
  fields = setting.fields
  time = _times(setting, limits, spacing)
  surface = setting.surface
  at = time[tuple(surface.voxels.T)] if len(surface.voxels) else np.empty(0)
  reached = np.isfinite(at)
  if not reached.any():
    return _none(
      setting,
      f'clearance: no way of {limits.clearance:g} mm clearance leads from the '
      'target to the entry surface',
    )
  order = np.argsort(at, kind='stable')[: int(reached.sum())]
  chosen = targets.farthest_apart(
    surface.points, order, _TRIED * count, apart / 2
  )
  ways = [
    _way(fields, limits, time, surface.voxels[i], spacing, setting.samples)
    for i in chosen
  ]
  normals = surface.normals[chosen]
  scores = _scored(fields, limits, np.stack(ways), normals)
  bends = np.array([march.bend(way) for way in ways])
  allowed = {**scores.allowed(limits), 'bend': bends >= radius}
  safe = np.logical_and.reduce([*allowed.values()])
  if not safe.any():
    worst = min(allowed, key=lambda k: allowed[k].sum())
    said = {
      'bend': f'; the widest bend is {bends.max():.0f} mm of {radius:g}',
      'length': f'; the shortest is {scores.length.min():.0f} mm of '
      f'{limits.length:g}',
      'clearance': f'; the best keeps {scores.bound.max():.1f} mm of '
      f'{limits.clearance:g}',
    }.get(worst, '')
    few = int(allowed[worst].sum())
    return _none(
      setting, f'{worst}: {few} of {len(ways)} curved ways keep it{said}'
    )
  best = np.zeros(len(surface.points), np.float32)
  best[np.array(chosen)[safe]] = scores.score[safe]
  value = np.where(safe, scores.score, -np.inf)
  order = np.argsort(-value, kind='stable')[: int(safe.sum())]
  kept = targets.farthest_apart(surface.points[chosen], order, count, apart)
  return Ways(
    np.stack(ways)[kept],
    lines.Scores(*(x[kept] for x in scores)),
    bends[kept],
    best,
    len(ways),
    '',
  )


def _times(setting, limits, spacing):
  """What the way from each voxel to the target costs, on the whole box."""
  fields, shape = setting.fields, setting.shape
  grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
  points = jnp.asarray((grid * setting.spacing).reshape(-1, 3), jnp.float32)
  _, square, row = _around(fields.avoid, points)
  kept = np.asarray(jnp.sqrt(square) - fields.avoid.half[row]).reshape(shape)
  inside = np.ones(shape, bool)
  if fields.outside.shape == tuple(shape):
    inside = np.asarray(fields.outside) == 0
  # A voxel more than the clearance, lest the way cut a corner.
  wanted = limits.clearance + 0.5 * float(np.min(spacing))
  near = np.maximum(1 - kept / (2 * limits.clearance + 1e-3), 0)
  cost = np.where(inside & (kept >= wanted), 1 + 12 * near**2, np.inf)
  seeds = np.zeros(shape, bool)
  index = np.rint(setting.targets / setting.spacing).astype(int)
  seeds[tuple(index.T)] = True
  return np.asarray(
    march.arrival(
      jnp.asarray(cost, jnp.float32), jnp.asarray(seeds), spacing=spacing
    )
  )


_around = jax.jit(distance.around)


def _way(fields, limits, time, voxel, spacing, samples):
  way = march.descend(time, voxel, spacing)
  way = chance.sampled(way, samples)
  way = np.asarray(_straightened(fields, limits.clearance, way))
  return chance.sampled(way, samples)


@jax.jit
def _straightened(fields, clearance, way):
  def allowed(points):
    _, square, row = distance.around(fields.avoid, points)
    out = lines.at_nearest(fields.outside, points, fields.spacing)
    bound = jnp.sqrt(square) - fields.avoid.half[row]
    # Half a mm more, for what lies between the points.
    return (bound >= clearance + 0.5) & (out <= 0)

  return march.smoothed(way, allowed)


@jax.jit
def _profiles(fields, limits, ways):
  step = jnp.linalg.norm(jnp.diff(ways, axis=1), axis=-1).max(-1)
  found = lines.profile(fields, limits, ways, step)
  out = lines.at_nearest(fields.outside, ways, fields.spacing)
  late = step[:, None] * jnp.arange(ways.shape[1]) > 3.0
  return *found, jnp.where(late, out, 0.0).sum(-1) * step


def _scored(fields, limits, ways, normals):
  """The `Scores` of curved ways (n, samples, 3)."""
  length = np.linalg.norm(np.diff(ways, axis=1), axis=-1).sum(-1)
  # Over the first centimetre or so.
  ahead = np.argmax(np.linalg.norm(ways - ways[:, :1], axis=-1) > 8.0, axis=1)
  first = ways[np.arange(len(ways)), np.maximum(ahead, 1)] - ways[:, 0]
  first /= np.linalg.norm(first, axis=-1, keepdims=True)
  angle = np.degrees(np.arccos(np.clip((first * normals).sum(-1), -1, 1)))
  found = _profiles(
    fields,
    lines.Limits(*map(jnp.float32, limits)),
    jnp.asarray(ways, jnp.float32),
  )
  clearance, bound, risk, outside = (np.asarray(x) for x in found)
  score = np.asarray(lines.weigh(limits, bound, length, angle, None))
  return lines.Scores(
    score, clearance, bound, length, angle, risk, outside, np.zeros_like(score)
  )


def _none(setting, why):
  none = np.empty(0, np.float32)
  return Ways(
    np.empty((0, setting.samples, 3), np.float32),
    lines.Scores(*[none] * len(lines.Scores._fields)),
    none,
    np.zeros(len(setting.surface.points), np.float32),
    0,
    why,
  )


class Lumen(NamedTuple):
  """A way inside of a vessel.

  line: (n, 3), mm on the grid, a mm apart.
  width: (n,), mm to the wall along it.
  length, chord: mm along it, and straight from end to end.
  bend: the least radius, mm.
  """

  line: np.ndarray
  width: np.ndarray
  length: float
  chord: float
  bend: float


def lumen(mask, spacing, start, end):
  """The `Lumen` between two points (mm on the grid), in the middle of a vessel.

  The cost of a mm is 1 over the square of the distance to the wall. Raises
  ValueError for points that are far from the vessel, and where its pieces do
  not hang together.
  """
  spacing = tuple(float(s) for s in spacing)
  box = bounding_box(mask)
  first = np.array([s.start for s in box]) * spacing
  mask, start, end = mask[box], start - first, end - first
  depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
  depth = depth[1:-1, 1:-1, 1:-1]
  ends = [
    _snapped(mask, spacing, point, name)
    for point, name in ((start, 'entry'), (end, 'target'))
  ]
  half = float(np.min(spacing)) / 2
  with np.errstate(divide='ignore'):
    cost = np.where(mask, (depth.max() / depth) ** 2, np.inf)
  seeds = np.zeros(mask.shape, bool)
  seeds[ends[1]] = True
  time = march.arrival(
    jnp.asarray(cost, jnp.float32), jnp.asarray(seeds), spacing=spacing
  )
  try:
    way = march.descend(time, ends[0], spacing)
  except ValueError:
    raise ValueError(
      'the vessel does not lead from one point to the other: it has several '
      'pieces'
    ) from None
  count = max(2, round(np.linalg.norm(np.diff(way, axis=0), axis=-1).sum()))
  way = chance.sampled(way, count + 1)
  inside, wide = jnp.asarray(mask, jnp.float32), jnp.asarray(spacing)
  way = np.asarray(_kept_within(inside, wide, way))
  way = chance.sampled(way, count + 1)
  index = np.rint(way / spacing).astype(int)
  steps = np.linalg.norm(np.diff(way, axis=0), axis=-1)
  return Lumen(
    way + first,
    depth[tuple(index.T)] - half,
    float(steps.sum()),
    float(np.linalg.norm(way[-1] - way[0])),
    march.bend(way),
  )


@jax.jit
def _kept_within(inside, spacing, way):
  allowed = lambda points: lines.at_nearest(inside, points, spacing) > 0
  return march.smoothed(way, allowed, rounds=40)


def _snapped(mask, spacing, point, name):
  """The voxel of a mask that is nearest to a point."""
  voxels = np.argwhere(mask)
  away = np.linalg.norm(voxels * np.asarray(spacing) - point, axis=-1)
  if away.min() > _SNAP:
    raise ValueError(
      f'the {name} is {away.min():.0f} mm from the vessel; give a point within '
      f'{_SNAP:g} mm of it'
    )
  return tuple(int(i) for i in voxels[away.argmin()])
