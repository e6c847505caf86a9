"""Cheapest ways through a map of costs: the eikonal equation |∇T| = cost.

T is what the cheapest way from the seeds costs. It is the solution that fast
marching finds (Sethian 1996), upwind in the same way; here all voxels are
updated at once, over and over until none changes, which suits compiled code.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

_FAR = 1e9


@functools.partial(jax.jit, static_argnames='spacing')
def arrival(cost, seeds, *, spacing):
  """What the cheapest way from the seeds to each voxel costs, (x, y, z).

  Args:
    cost: per mm, above 0; infinite where no way leads.
    seeds: (x, y, z) bool.
    spacing: three numbers, mm; a tuple.

  Infinite where no way leads to.
  """
  open_ = jnp.isfinite(cost)
  price = jnp.where(open_, cost, 0.0)
  start = jnp.where(seeds & open_, 0.0, _FAR)

  def update(state):
    time, _ = state
    low = [_lower(time, axis) for axis in range(3)]
    new = jnp.where(
      open_, jnp.minimum(time, _upwind(low, spacing, price)), _FAR
    )
    return new, (new < time * (1 - 1e-6)).any()

  time, _ = jax.lax.while_loop(lambda s: s[1], update, (start, jnp.bool_(True)))
  return jnp.where(time < _FAR / 2, time, jnp.inf)


def _lower(time, axis):
  """The lesser of the two neighbours along an axis."""
  width = [(1, 1) if a == axis else (0, 0) for a in range(3)]
  x = jnp.pad(time, width, constant_values=_FAR)
  n = x.shape[axis]
  return jnp.minimum(
    jax.lax.slice_in_dim(x, 0, n - 2, axis=axis),
    jax.lax.slice_in_dim(x, 2, n, axis=axis),
  )


def _upwind(low, spacing, price):
  """The T that solves Σ max(0, (T - low) / spacing)² = price².

  Of one, two or three neighbours: more where the others come before it.
  """
  a, h = list(low), [jnp.full_like(price, s) for s in spacing]
  for i, j in ((0, 1), (1, 2), (0, 1)):
    swap = a[j] < a[i]
    a[i], a[j] = jnp.where(swap, a[j], a[i]), jnp.where(swap, a[i], a[j])
    h[i], h[j] = jnp.where(swap, h[j], h[i]), jnp.where(swap, h[i], h[j])
  found = a[0] + h[0] * price
  # Relative to the first, lest the squares of far times lose all digits.
  p, q, r = 1 / h[0] ** 2, 0.0, -(price**2)
  for k in (1, 2):
    d = jnp.minimum(a[k] - a[0], _FAR)
    w = 1 / h[k] ** 2
    p, q, r = p + w, q + w * d, r + w * d**2
    root = jnp.sqrt(jnp.maximum(q**2 - p * r, 0.0))
    found = jnp.where(found > a[k], a[0] + (q + root) / p, found)
  return found


def descend(time, start, spacing):
  """The way (n, 3), mm on the grid, from a voxel down to a seed.

  Steps from voxel to voxel, each the steepest of the 26: it never leaves where
  ways lead. Raises ValueError where none leads.
  """
  time = np.asarray(time)
  at = tuple(int(i) for i in start)
  if not np.isfinite(time[at]):
    raise ValueError('no way leads there')
  spacing = np.asarray(spacing)
  steps = [s for s in itertools.product((-1, 0, 1), repeat=3) if any(s)]
  sizes = [np.linalg.norm(s * spacing) for s in steps]
  way = [at]
  while time[at] > 0:
    best = None
    for step, size in zip(steps, sizes, strict=True):
      to = tuple(np.add(at, step))
      if min(to) < 0 or any(
        i >= n for i, n in zip(to, time.shape, strict=True)
      ):
        continue
      slope = (time[at] - time[to]) / size
      if slope > 0 and (best is None or slope > best[0]):
        best = slope, to
    if best is None:  # of rounding, on a plateau
      break
    at = best[1]
    way.append(at)
  return np.array(way) * spacing


def smoothed(line, allowed, *, rounds=400):
  """A line (n, 3) drawn straight as far as `allowed` lets it; its ends stay.

  `allowed(points)` says of points (n, 3) whether each may lie there; points
  that may not move stay, so that a line that was allowed is so after.
  """
  line = jnp.asarray(line, jnp.float32)

  def pull(_, line):
    middle = 0.5 * (line[:-2] + line[2:])
    moved = line.at[1:-1].set(0.5 * (line[1:-1] + middle))
    return jnp.where(allowed(moved)[:, None], moved, line)

  return jax.lax.fori_loop(0, rounds, pull, line)


def bend(line, *, over=5.0):
  """The least radius (mm) of the circles through points `over` mm apart.

  line: (n, 3), evenly spaced. Infinite where it is straight.
  """
  line = np.asarray(line, float)
  step = np.linalg.norm(line[1] - line[0])
  k = max(1, round(over / max(step, 1e-6)))
  if len(line) < 2 * k + 1:
    return np.inf
  a, b, c = line[: -2 * k], line[k:-k], line[2 * k :]
  sides = [np.linalg.norm(x, axis=-1) for x in (b - a, c - b, c - a)]
  area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)  # twice a triangle's
  with np.errstate(divide='ignore'):
    radius = np.prod(sides, axis=0) / (2 * area)
  return float(radius.min())
