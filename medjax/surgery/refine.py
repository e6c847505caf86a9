"""Moves the entries of paths uphill: the score never falls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import ndimage

from medjax.surgery import lines

_STEPS = (2.0, 1.0, 0.5, 0.25, 0.1)  # mm along the gradient
_ROUNDS = 20


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
  limits = lines.Limits(*map(jnp.float32, limits))
  given = lines.Paths(*(jnp.asarray(np.float32(x)) for x in paths))
  found = _climb(fields, limits, jnp.asarray(depth), given, samples, reach)
  return tuple(jax.tree.map(np.asarray, part) for part in found)


@functools.partial(jax.jit, static_argnames='samples')
def _climb(fields, limits, depth, paths, samples, reach):
  level = _depth(depth, fields.spacing, paths.entry)

  def moved(shift):
    entry, normal = _on_skin(depth, fields.spacing, paths.entry + shift, level)
    return paths._replace(entry=entry, normal=normal)

  def scored(shift):
    found = lines.score(fields, limits, moved(shift), samples=samples)
    far = jnp.linalg.norm(shift, axis=-1) > reach
    allowed = functools.reduce(
      jnp.logical_and, found.allowed(limits).values(), ~far
    )
    return jnp.where(allowed, found.score, -jnp.inf)

  def total(entry, at):
    # The normal is held: what counts is decided by trying.
    path = at._replace(entry=entry)
    return lines.score(fields, limits, path, samples=samples).score.sum()

  def climb(_, state):
    shift, best = state
    at = moved(shift)
    slope = jax.grad(total)(at.entry, at)
    size = jnp.linalg.norm(slope, axis=-1, keepdims=True)
    along = slope / jnp.maximum(size, 1e-9)
    tried = shift + steps[:, None, None] * along
    value = jax.vmap(scored)(tried)
    first = value.argmax(0)
    value = jnp.take_along_axis(value, first[None], 0)[0]
    tried = jnp.take_along_axis(tried, first[None, :, None], 0)[0]
    better = value > best
    shift = jnp.where(better[:, None], tried, shift)
    return shift, jnp.maximum(best, value)

  steps = jnp.array(_STEPS)
  still = jnp.zeros_like(paths.entry)
  before = lines.score(fields, limits, paths, samples=samples)
  shift, _ = jax.lax.fori_loop(0, _ROUNDS, climb, (still, before.score))
  # A path that did not move keeps the normal it came with.
  same = (shift == 0).all(-1, keepdims=True)
  end = jax.tree.map(lambda a, b: jnp.where(same, a, b), paths, moved(shift))
  return end, lines.score(fields, limits, end, samples=samples)


def _depth(depth, spacing, points):
  coordinates = jnp.moveaxis(points / spacing, -1, 0)
  return ndimage.map_coordinates(depth, coordinates, order=1, mode='nearest')


def _on_skin(depth, spacing, points, level):
  """(points as deep as `level`, normals there), by three steps of Newton's."""
  slope = jax.grad(lambda p: _depth(depth, spacing, p).sum())
  for _ in range(3):
    g = slope(points)
    square = jnp.maximum((g**2).sum(-1, keepdims=True), 1e-6)
    gap = (_depth(depth, spacing, points) - level)[..., None]
    points = points - gap * g / square
  g = slope(points)
  size = jnp.maximum(jnp.linalg.norm(g, axis=-1, keepdims=True), 1e-6)
  return points, g / size
