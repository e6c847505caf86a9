"""Moves the entries of paths uphill: the score never falls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.surgery import lines

_STEPS = (2.0, 1.0, 0.5, 0.25, 0.1)  # mm along the gradient
_ROUNDS, _NEWTON = 20, 3


def refined(fields, limits, depth, paths, *, samples, reach):
  """(paths, scores) whose entries slid along the skin to better ones.

  Each round takes the best of a few steps along the gradient of the score,
  and only if the path is safe and its score higher than before.

  Args:
    fields, limits, samples: as of `lines.score`.
    depth: (x, y, z), mm within the body: `body.Surface.depth`.
    paths: safe ones (n, 3).
    reach: mm that an entry may move.
  """
  before = lines.score_all(fields, limits, paths, samples=samples)
  spacing = np.asarray(fields.spacing)
  skin = np.stack([depth, *np.gradient(depth, *spacing)], -1)
  entry, normal = _climb(
    fields,
    lines.Limits(*map(jnp.float32, limits)),
    jnp.asarray(skin, jnp.float32),
    lines.Paths(*(jnp.asarray(np.float32(x)) for x in paths)),
    jnp.asarray(before.score),
    samples,
    reach,
  )
  moved = paths._replace(entry=np.asarray(entry), normal=np.asarray(normal))
  return moved, lines.score_all(fields, limits, moved, samples=samples)


@functools.partial(jax.jit, static_argnames='samples')
def _climb(fields, limits, skin, paths, best, samples, reach):
  spacing = fields.spacing
  level = _at(skin, spacing, paths.entry)[..., 0]

  def total(entry, normal):
    # The normal is held: what counts is decided by trying.
    path = paths._replace(entry=entry, normal=normal)
    return lines.score(fields, limits, path, samples=samples).score.sum()

  def tried(entry):
    entry, normal = _on_skin(skin, spacing, entry, level)
    path = paths._replace(entry=entry, normal=normal)
    found = lines.score(fields, limits, path, samples=samples)
    far = jnp.linalg.norm(entry - paths.entry, axis=-1) > reach
    safe = functools.reduce(
      jnp.logical_and, found.allowed(limits).values(), ~far
    )
    return entry, normal, jnp.where(safe, found.score, -jnp.inf)

  def climb(_, state):
    entry, normal, best = state
    slope = jax.grad(total)(entry, normal)
    size = jnp.linalg.norm(slope, axis=-1, keepdims=True)
    along = slope / jnp.maximum(size, 1e-9)
    steps = jnp.array(_STEPS)[:, None, None]
    entries, normals, values = jax.vmap(tried)(entry + steps * along)
    first = values.argmax(0)
    pick = lambda x: x[first, jnp.arange(x.shape[1])]
    better = pick(values) > best
    return (
      jnp.where(better[:, None], pick(entries), entry),
      jnp.where(better[:, None], pick(normals), normal),
      jnp.where(better, pick(values), best),
    )

  state = (paths.entry, paths.normal, best)
  return jax.lax.fori_loop(0, _ROUNDS, climb, state)[:2]


def _at(skin, spacing, points):
  """Depth and its slopes (…, 4) at points (…, 3): between eight voxels."""
  size = jnp.array(skin.shape[:3])
  at = jnp.clip(points / spacing, 0.0, size - 1.0)
  low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, size - 2)
  share, total = at - low, 0.0
  for corner in np.ndindex(2, 2, 2):
    i = low + jnp.array(corner)
    weight = jnp.where(jnp.array(corner), share, 1 - share).prod(-1)
    total += weight[..., None] * skin[i[..., 0], i[..., 1], i[..., 2]]
  return total


def _on_skin(skin, spacing, points, level):
  """(points as deep as `level`, normals there), by steps of Newton's."""

  def step(_, points):
    found = _at(skin, spacing, points)
    slope = found[..., 1:]
    square = jnp.maximum((slope**2).sum(-1, keepdims=True), 1e-6)
    return points - (found[..., 0] - level)[..., None] * slope / square

  points = jax.lax.fori_loop(0, _NEWTON, step, points)
  slope = _at(skin, spacing, points)[..., 1:]
  size = jnp.maximum(jnp.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)
  return points, slope / size
