"""Finds straight paths: from every voxel of the skin to every target point."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from medjax import progress
from medjax.surgery import body as body_lib
from medjax.surgery import distance, lines, refine, targets

TARGETS = 8  # points of a structure that paths aim at
_DEFAULT = lines.Limits()
_ROWS = 200_000  # paths between two words of progress


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked for.

  target: a structure's name, or a point (RAS mm).
  avoid: names of structures.
  entry: 'skin'; or a structure: the part of the skin that lies in it, or,
    where none does, its own surface.
  confidence: of the segmentation, where the scene has probabilities.
  grey: whether the scene's image of grey matter counts: (x, y, z) or None.
  """

  target: str | tuple[float, float, float]
  avoid: tuple[str, ...]
  entry: str = 'skin'
  limits: lines.Limits = _DEFAULT
  confidence: float = 0.95
  grey: np.ndarray | None = None


class Setting(NamedTuple):
  """A request on the part of the grid that paths can reach.

  corner: voxel of the scene that is this part's first.
  surface: where paths enter; targets: (k, 3) mm on this grid.
  """

  corner: np.ndarray
  shape: tuple[int, int, int]
  spacing: np.ndarray
  fields: lines.Fields
  surface: body_lib.Surface
  targets: np.ndarray
  samples: int

  @property
  def box(self):
    """Slices of the scene's arrays."""
    ends = self.corner + self.shape
    return tuple(map(slice, self.corner, ends))


class Found(NamedTuple):
  """What a search gave.

  paths, scores: of the safe ones that are shown, best first.
  best: (n,) of each voxel of the surface the best score of a safe path; 0.
  tried: paths scored; safe: of these.
  binding: why there is none: a sentence; ''. closest: the one path, if any,
    that comes closest to keeping what binds.
  """

  paths: lines.Paths
  scores: lines.Scores
  best: np.ndarray
  tried: int
  safe: int
  binding: str
  closest: lines.Paths | None = None


def prepare(scene, request, inside=None):
  """The `Setting` of a request; `inside`: the body, (x, y, z) bool, or None.

  Raises ValueError for a target that is not there or not in the body, and for
  an entry that no path can have.
  """
  spacing = scene.spacing
  if isinstance(request.target, str):
    mask = scene.mask(request.target)
    aims = targets.points_in(mask, spacing, TARGETS)
  else:
    check_point(scene, request.target, 'the target')
    aims = scene.to_grid(request.target)[None]
  if inside is not None:
    _check_inside(inside, aims, spacing, request.target)
  corner, shape = _reach(scene, aims, request.limits.length)
  box = tuple(map(slice, corner, corner + shape))
  first = corner * spacing
  near = aims - first
  surface = _surface(scene, request, inside, box, near)
  avoid = scene.union(request.avoid, confidence=request.confidence)
  if inside is not None:
    avoid |= unseen(inside)
  avoid = avoid[box]
  outside = np.zeros((2, 2, 2)) if inside is None else ~inside[box]
  grey = None if request.grey is None else request.grey[box]
  fields = lines.Fields(
    distance.field(avoid, spacing),
    jnp.asarray(outside, jnp.float32),
    None if grey is None else jnp.asarray(grey, jnp.float32),
    jnp.asarray(spacing, jnp.float32),
  )
  samples = lines.samples_for(request.limits.length, spacing)
  return Setting(corner, tuple(shape), spacing, fields, surface, near, samples)


def unseen(inside):
  """Where the body goes on beyond the image, (x, y, z) bool: what is not seen.

  A path keeps away from it as from a structure: nobody knows what is there.
  """
  border = np.ones(inside.shape, bool)
  border[1:-1, 1:-1, 1:-1] = False
  return border & inside


def check_point(scene, point, name):
  """Raises ValueError for a point that is off the grid."""
  if not scene.inside(point):
    ends = scene.to_ras(
      [np.zeros(3), (np.array(scene.shape) - 1) * scene.spacing]
    )
    low, high = np.minimum(*ends), np.maximum(*ends)
    span = ', '.join(
      f'{axis} {a:.0f} to {b:.0f}'
      for axis, a, b in zip('xyz', low, high, strict=True)
    )
    raise ValueError(
      f'{name} {_said(point)} lies outside of {scene.path}, which spans {span} '
      'mm (RAS)'
    )


def _check_inside(inside, aims, spacing, target):
  index = np.rint(aims / spacing).astype(int)
  index = np.clip(index, 0, np.array(inside.shape) - 1)
  if not inside[tuple(index.T)].any():
    said = target if isinstance(target, str) else _said(target)
    raise ValueError(
      f'the target {said} lies outside of the body in the image; are image and '
      'target of one patient?'
    )


def _said(point):
  return ','.join(f'{x:g}' for x in point)


def _reach(scene, aims, length):
  """(first voxel, shape) of what paths and what is near them can touch."""
  more = length + distance.FAR
  low = np.floor((aims.min(0) - more) / scene.spacing).astype(int)
  high = np.ceil((aims.max(0) + more) / scene.spacing).astype(int) + 1
  low = np.maximum(low, 0)
  return low, np.minimum(high, scene.shape) - low


def _surface(scene, request, inside, box, aims):
  """The skin, of it the part in a structure, or the structure's own surface."""
  spacing = scene.spacing
  entered = within = None if inside is None else inside[box]
  if request.entry == 'skin':  # what is air within the body is no skin
    within = within & body_lib.solid(scene.image)[box]
  else:
    within = scene.mask(request.entry)[box]
    window = entered is not None and (body_lib.rim(entered) & within).any()
    entered = entered if window else within
  axes = [np.arange(n) * h for n, h in zip(entered.shape, spacing, strict=True)]
  where = np.zeros(entered.shape, bool)
  for aim in aims:
    away = np.ix_(*[x - c for x, c in zip(axes, aim, strict=True)])
    where |= sum(x**2 for x in away) <= request.limits.length**2
  return body_lib.entries(entered, where & within, spacing)


def search(setting, limits, *, count=10, apart=10.0, title='scoring'):
  """The `Found` of a setting: the best `count` paths, entries `apart` mm off.

  Every voxel of the surface is tried with every target point.
  """
  limits = lines.Limits(*limits)
  entries, aims = setting.surface.points, setting.targets
  n, k = len(entries), len(aims)
  if not n:
    why = f'no point of the entry surface is within {limits.length:g} mm'
    return _none(setting, f'length: {why}', 0)
  scores = []
  with progress.bar(title, n * k) as advance:
    for start in range(0, n * k, _ROWS):
      index = np.arange(start, min(start + _ROWS, n * k))
      part = _paths(setting, index // k, index % k)
      scores.append(
        lines.score_all(setting.fields, limits, part, samples=setting.samples)
      )
      advance(len(index))
  scores = lines.Scores(*map(np.concatenate, zip(*scores, strict=True)))
  safe = scores.safe(limits)
  value = np.where(safe, scores.score, -np.inf)
  table = value.reshape(n, k)
  best = np.maximum(table.max(1), 0.0)
  if not safe.any():
    why, row = binding(scores, limits)
    near = _paths(setting, np.array([row // k]), np.array([row % k]))
    return _none(setting, why, n * k)._replace(closest=near)
  aim, order = table.argmax(1), np.argsort(-table.max(1), kind='stable')
  order = order[: int((best > 0).sum())]
  chosen = targets.farthest_apart(entries, order, count, apart)
  paths = _paths(setting, np.array(chosen), aim[chosen])
  paths, found = refine.refined(
    setting.fields,
    limits,
    setting.surface.depth,
    paths,
    samples=setting.samples,
    reach=2 * float(np.max(setting.spacing)),
  )
  order = np.argsort(-found.score, kind='stable')
  paths, found = (type(x)(*(part[order] for part in x)) for x in (paths, found))
  return Found(paths, found, best, n * k, int(safe.sum()), '')


def _paths(setting, entry, aim):
  surface = setting.surface
  return lines.Paths(
    surface.points[entry], surface.normals[entry], setting.targets[aim]
  )


def _none(setting, why, count):
  empty = np.empty((0, 3), np.float32)
  none = np.empty(0, np.float32)
  return Found(
    lines.Paths(empty, empty, empty),
    lines.Scores(*[none] * len(lines.Scores._fields)),
    np.zeros(len(setting.surface.points), np.float32),
    count,
    0,
    why,
  )


def binding(scores, limits):
  """(a sentence, a path) of the constraint that keeps all from being safe.

  The one without which most paths would be; where each has another in its
  way, the one that fewest keep.
  """
  allowed = scores.allowed(limits)
  others = {
    name: np.logical_and.reduce([v for k, v in allowed.items() if k != name])
    for name in allowed
  }
  name = max(others, key=lambda k: others[k].sum())
  kept = others[name]
  if not kept.any():
    name = min(allowed, key=lambda k: allowed[k].sum())
    kept = np.ones(len(scores.score), bool)
  rows = np.flatnonzero(kept)
  row = {
    'clearance': rows[scores.bound[kept].argmax()],
    'length': rows[scores.length[kept].argmin()],
    'angle': rows[scores.angle[kept].argmin()],
    'body': rows[scores.outside[kept].argmin()],
  }[name]
  best = {
    'clearance': f'the best keeps {max(0, scores.bound[kept].max()):.1f} mm of '
    f'{limits.clearance:g}',
    'length': f'the shortest is {scores.length[kept].min():.0f} mm of '
    f'{limits.length:g}',
    'angle': f'the steepest is {scores.angle[kept].min():.0f} degrees of '
    f'{limits.angle:g}',
    'body': 'all leave the body on their way',
  }[name]
  said = 'keep all else' if kept.sum() < len(kept) else 'were tried'
  return f'{name}: {int(kept.sum()):,} paths {said}, and {best}', int(row)
