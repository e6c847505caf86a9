"""How likely a path stays safe: tissue sags, and the needle bends.

The planned path stays where it is and the anatomy moves: its distance at a
point is that of the place from which the tissue came, to first order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax.surgery import elastic, lines

_CELLS = 40  # along the longest axis of the grid on which tissue sags
_DIRECTIONS = 16  # of gravity, about the given one
_CONE = 20.0  # degrees


class Shift(NamedTuple):
  """How tissue may sag.

  forms: (k, x, y, z, 3) displacements in directions of the grid, the largest
    of each 1.
  step: mm between its cells (3,); first: the centre of the first (3,).
  """

  forms: jnp.ndarray
  step: jnp.ndarray
  first: jnp.ndarray


class Chance(NamedTuple):
  """Of each path, (n,): see `simulate`.

  safe: the share of draws in which it is; low, high: its 95 % interval.
  clearance_5, clearance_50: percentiles of the clearance, mm.
  miss_50, miss_95: of the distance between the needle's tip and the target.
  """

  safe: np.ndarray
  low: np.ndarray
  high: np.ndarray
  clearance_5: np.ndarray
  clearance_50: np.ndarray
  miss_50: np.ndarray
  miss_95: np.ndarray


def sagging(tissue, fixed, spacing, *, down, seed=0):
  """The `Shift` of tissue (x, y, z bool) under gravity about `down` (3,).

  Directions are drawn within 20 degrees of it: nobody lies exactly.
  """
  longest = max(n * s for n, s in zip(tissue.shape, spacing, strict=True))
  factor = [max(1, round(longest / _CELLS / s)) for s in spacing]
  step = np.multiply(factor, spacing)
  soft, hard = (elastic.coarse(x, factor) >= 0.5 for x in (tissue, fixed))
  hard |= (elastic.coarse(fixed, factor) > 0.2) & ~soft
  basis = elastic.sag(soft, hard, step, down=down)
  rng = np.random.default_rng(seed)
  forms = []
  for direction in _about(np.asarray(down), _DIRECTIONS, rng):
    u = np.tensordot(direction, basis, 1)
    forms.append(u / np.linalg.norm(u, axis=-1).max())
  first = (step - spacing) / 2
  return Shift(*(jnp.asarray(np.float32(x)) for x in (forms, step, first)))


def _about(direction, count, rng):
  """`direction` and others within the cone about it, unit vectors."""
  found, least = [direction], np.cos(np.radians(_CONE))
  while len(found) < count:
    v = rng.normal(size=3)
    v /= np.linalg.norm(v)
    v = direction + np.tan(np.radians(_CONE)) * v
    v /= np.linalg.norm(v)
    if v @ direction >= least:
      found.append(v)
  return found


def simulate(fields, limits, line, *, shift, most, deflection, draws, seed=0):
  """The `Chance` of straight or curved paths.

  Each draw: a size of the shift from 0 to `most` mm, a direction of it, and a
  deflection of the needle's tip from 0 to `deflection` mm to any side, all
  uniform. The needle leaves its path by the square of the depth, as one does
  that a bevelled tip bends evenly.

  Args:
    fields, limits: as of `lines.score`.
    line: (n, samples, 3), mm on the grid, evenly spaced.
    shift: a `Shift`, or None: the tissue stays.
  """
  rng = np.random.default_rng(seed)
  draw = (
    rng.uniform(0, most if shift else 0.0, draws),
    rng.integers(0, len(shift.forms) if shift else 1, draws),
    rng.uniform(0, deflection, draws),
    rng.uniform(0, 2 * np.pi, draws),
  )
  kinds = (np.float32, np.int32, np.float32, np.float32)
  draw = [jnp.asarray(x, kind) for x, kind in zip(draw, kinds, strict=True)]
  limits = lines.Limits(*map(jnp.float32, limits))
  found = []
  for one in np.asarray(line, np.float32):
    found.append(_drawn(fields, limits, jnp.asarray(one), shift, draw))
  bound = np.array([np.asarray(b) for b, _ in found])
  miss = np.array([np.asarray(m) for _, m in found])
  clearance = np.maximum(bound, 0.0)
  safe = bound >= float(limits.clearance)
  low, high = wilson(safe.mean(1), draws)
  return Chance(
    safe.mean(1),
    low,
    high,
    *np.percentile(clearance, (5, 50), axis=1),
    *np.percentile(miss, (50, 95), axis=1),
  )


@jax.jit
def _drawn(fields, limits, line, shift, draw):
  """(bound of the clearance, mm that the target is missed by) of each draw."""
  depth = jnp.linspace(0.0, 1.0, len(line))
  along = line[-1] - line[0]
  along = along / jnp.maximum(jnp.linalg.norm(along), 1e-6)
  # Two directions across; the axis that is least along gives the first.
  axis = jnp.eye(3)[jnp.abs(along).argmin()]
  side = jnp.cross(along, axis)
  side = side / jnp.linalg.norm(side)
  other = jnp.cross(along, side)

  def one(values):
    size, form, bend, turn = values
    across = jnp.cos(turn) * side + jnp.sin(turn) * other
    points = line + bend * depth[:, None] ** 2 * across
    moved = jnp.zeros(3)
    seen = points
    if shift is not None:
      seen = points - size * _moved(shift, form, points)
      moved = size * _moved(shift, form, line[-1])
    step = jnp.linalg.norm(jnp.diff(seen, axis=0), axis=-1).max()
    _, bound, _ = lines.profile(fields, limits, seen, step)
    return bound, jnp.linalg.norm(points[-1] - line[-1] - moved)

  return jax.lax.map(one, draw, batch_size=64)


def _moved(shift, form, points):
  """How a form moves points (…, 3): that of the nearest cell."""
  index = jnp.rint((points - shift.first) / shift.step).astype(jnp.int32)
  index = jnp.clip(index, 0, jnp.array(shift.forms.shape[1:4]) - 1)
  return shift.forms[form, index[..., 0], index[..., 1], index[..., 2]]


def wilson(share, n):
  """The 95 % interval of a share seen in n draws (Wilson 1927)."""
  z = 1.959964
  middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
  spread = np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
  spread *= z / (1 + z**2 / n)
  return middle - spread, middle + spread


def sampled(line, samples):
  """A line (n, 3) as `samples` points evenly spaced along it."""
  line = np.asarray(line, float)
  size = np.linalg.norm(np.diff(line, axis=0), axis=-1)
  at = np.r_[0.0, np.cumsum(size)]
  where = np.linspace(0, at[-1], samples)
  return np.stack([np.interp(where, at, line[:, a]) for a in range(3)], -1)
