"""Scores straight paths: many at once, in one compiled program.

A path is safe where the lower bound of its distance (`distance`), less half a
voxel, is at least the clearance: what rounds, interpolates or lies between
samples makes a path look worse, never better.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax.surgery import distance

_CHUNK, _CHUNKS = 256, 32  # the first so that its samples stay in the cache
_BEFORE = 3.0  # mm of a path at the skin that may be outside of the body


class Limits(NamedTuple):
  """What a path must keep: clearance and length, mm; angle, degrees."""

  clearance: float = 5.0
  length: float = 120.0
  angle: float = 60.0


class Fields(NamedTuple):
  """What paths are scored on.

  avoid: of all structures to avoid together.
  outside: (x, y, z) float32, 1 outside of the body.
  grey: (x, y, z) float32, what a path should sample; None.
  spacing: of the two (3,).
  """

  avoid: distance.Field
  outside: jnp.ndarray
  grey: jnp.ndarray | None
  spacing: jnp.ndarray


class Paths(NamedTuple):
  """Straight paths in mm on the grid, each (n, 3); normal: into the body."""

  entry: np.ndarray
  normal: np.ndarray
  target: np.ndarray


class Scores(NamedTuple):
  """What is known of each path, (n,).

  score: 0 to 1, the higher the better, whether or not the path is allowed.
  clearance: the estimate, to the surface of what is nearest; mm.
  bound: what it is at least.
  length, angle: mm; degrees between the path and the normal.
  risk: ∫ max(0, 1 - clearance along the path / twice the clearance wanted); mm.
  outside: mm of the path outside of the body, after its first 3 mm.
  grey: the mean along the path; 0 where there is no such map.
  """

  score: np.ndarray
  clearance: np.ndarray
  bound: np.ndarray
  length: np.ndarray
  angle: np.ndarray
  risk: np.ndarray
  outside: np.ndarray
  grey: np.ndarray

  def allowed(self, limits):
    """Which constraints each path keeps: {name: (n,) bool}."""
    return {
      'clearance': self.bound >= limits.clearance,
      'length': self.length <= limits.length,
      'angle': self.angle <= limits.angle,
      'body': self.outside <= 0.0,
    }

  def safe(self, limits):
    """Which paths keep all of them, (n,) bool."""
    return functools.reduce(np.logical_and, self.allowed(limits).values())


def samples_for(length, spacing):
  """How many samples a path needs: no farther apart than 1 ¼ voxels."""
  return max(16, 8 * math.ceil(length / (1.25 * float(np.min(spacing))) / 8))


def profile(fields, limits, points, step):
  """(clearance, bound, risk, least half voxel) of lines (…, n, 3); jitted.

  `step` (…): mm between the samples of a line.
  """
  estimate, square, row = distance.around(fields.avoid, points)
  worst = jnp.argmin(estimate, -1)
  nearest = jnp.take_along_axis(row, worst[..., None], -1)[..., 0]
  half = fields.avoid.half.at[nearest].get(mode='promise_in_bounds')
  bound = _root(distance.between(square, step)).min(-1) - half
  # Samples may miss the nearest place, by as much as `between` overdoes it
  # beside what is flat: the middle of both.
  close = _root(distance.between(estimate**2, step)).min(-1)
  close = 0.5 * (close + estimate.min(-1)) - half
  near = jnp.maximum(estimate - half[..., None], 0.0)
  wanted = jnp.maximum(limits.clearance, 1e-3)
  share = jnp.maximum(1 - near / (2 * wanted), 0.0)
  ends = share[..., 0] + share[..., -1]
  risk = (share.sum(-1) - 0.5 * ends) * step
  return jnp.maximum(close, bound), bound, risk


def _root(x):
  """√x whose gradient at 0 is 0."""
  return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def at_nearest(volume, points, spacing):
  """Values of a volume (x, y, z) at the voxels of points (…, 3), mm."""
  size = jnp.array(volume.shape)
  index = jnp.rint(points / spacing).astype(jnp.int32)
  index = jnp.clip(index, 0, size - 1)
  row = (index[..., 0] * size[1] + index[..., 1]) * size[2] + index[..., 2]
  return volume.ravel().at[row].get(mode='promise_in_bounds')


def weigh(limits, bound, length, angle, grey):
  """The score of a path; `grey` None where there is no such map.

  Half of it is the clearance, up to twice what is wanted; a quarter each the
  shortness and the steepness. A map takes a fifth of all.
  """
  wanted = jnp.maximum(limits.clearance, 1e-3)
  score = (
    0.5 * jnp.clip(bound / (2 * wanted), 0.0, 1.0)
    + 0.25 * (1 - length / limits.length)
    + 0.25 * (1 - angle / limits.angle)
  )
  return score if grey is None else 0.8 * score + 0.2 * grey


def score(fields, limits, paths, *, samples):
  """The `Scores` of paths (n, 3); pure, to be jitted."""
  entry, normal, target = paths
  along = target - entry
  length = jnp.sqrt((along**2).sum(-1) + 1e-12)
  cosine = (along * normal).sum(-1) / length
  # Its slope is infinite at 1.
  angle = jnp.degrees(jnp.arccos(jnp.clip(cosine, -1.0, 1 - 1e-7)))
  t = jnp.linspace(0.0, 1.0, samples)
  points = entry[..., None, :] + along[..., None, :] * t[:, None]
  step = length / (samples - 1)
  clearance, bound, risk = profile(fields, limits, points, step)
  out = at_nearest(fields.outside, points, fields.spacing)
  after = t * length[..., None] > _BEFORE
  outside = jnp.where(after, out, 0.0).sum(-1) * step
  grey = None
  if fields.grey is not None:
    grey = at_nearest(fields.grey, points, fields.spacing).mean(-1)
  value = weigh(limits, bound, length, angle, grey)
  if grey is None:
    grey = jnp.zeros_like(length)
  return Scores(value, clearance, bound, length, angle, risk, outside, grey)


@functools.partial(jax.jit, static_argnames='samples')
def _batch(fields, limits, paths, samples):
  rows = jax.tree.map(lambda x: x.reshape(-1, _CHUNK, 3), paths)
  one = functools.partial(score, fields, limits, samples=samples)
  found = jax.lax.map(one, rows)
  return jax.tree.map(lambda x: x.reshape(-1), found)


def score_all(fields, limits, paths, *, samples):
  """The `Scores` of any number of paths, as numpy arrays.

  In batches of one shape, so that one program does all.
  """
  size, count = _CHUNK * _CHUNKS, len(paths.entry)
  limits = Limits(*map(jnp.float32, limits))
  found = []
  for start in range(0, max(count, 1), size):
    part = [np.asarray(x[start : start + size], np.float32) for x in paths]
    short = size - len(part[0])
    part = [np.pad(x, ((0, short), (0, 0))) for x in part]
    found.append(_batch(fields, limits, Paths(*part), samples=samples))
  return Scores(
    *(
      np.concatenate([np.asarray(x) for x in xs])[:count]
      for xs in zip(*found, strict=True)
    )
  )
