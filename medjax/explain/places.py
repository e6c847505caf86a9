"""A score and its gradient at many places near each of many images.

All methods that look at a model from outside come to this: images are changed,
one way after the other, and a bounded number of them is computed at a time.

A `score` is (images (b, *s, C), about) → (b,). `about` is a tree of what else
belongs to an image, arrays (b, …); {} of nothing. As a `jax.tree_util.Partial`
its weights are arguments of the compiled program. `place(image, extra, detail)`
makes the changed image (*s, C), of an image, what `extra` holds of it, arrays
(n, …), and one of the `details`, arrays (m, …), which are those of all images.
It is a function of a module, so that what is compiled for it is kept.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np


def scores(score, images, about, place, extra, details, *, batch):
  """Scores (n, m), float32 on the host, of n images at m places."""
  shape = len(images), _length(details)
  found = [
    _scores(score, images, about, extra, details, i, j, place=place)
    for i, j, _ in _chunks(*shape, batch)
  ]
  flat = np.concatenate([np.asarray(x, np.float32) for x in found])
  return flat[: shape[0] * shape[1]].reshape(shape)


def gradients(score, images, about, place, extra, details, weights, *, batch):
  """Sum over m places of weights (m,) times the gradient there: (n, *s, C)."""
  total = jnp.zeros(np.shape(images), jnp.float32)
  weights = jnp.asarray(weights, jnp.float32)
  chunks = _chunks(len(images), _length(details), batch)
  for i, j, valid in chunks:
    parts = images, about, extra, details, weights, i, j, valid, total
    total = _gradients(score, *parts, place=place)
  return total


@functools.partial(jax.jit, static_argnames='place')
def _scores(score, images, about, extra, details, i, j, *, place):
  changed = jax.vmap(place)(*_at(i, (images, extra)), _at(j, details))
  return score(changed, _at(i, about))


@functools.partial(jax.jit, static_argnames='place')
def _gradients(
  score, images, about, extra, details, weights, i, j, valid, total, *, place
):
  changed = jax.vmap(place)(*_at(i, (images, extra)), _at(j, details))
  chosen = _at(i, about)
  slopes = jax.grad(lambda x: score(x, chosen).sum())(changed)
  factors = (weights[j] * valid).reshape(-1, *[1] * (slopes.ndim - 1))
  # What fills up the last chunk is not multiplied by zero: NaN would stay.
  return total.at[i].add(jnp.where(factors == 0, 0, factors * slopes))


def _at(index, tree):
  return jax.tree.map(lambda x: jnp.asarray(x)[index], tree)


def _length(details):
  return len(jax.tree.leaves(details)[0])


def _chunks(images, places, batch):
  """Yields (image, place, whether it counts), each (batch,), filled up."""
  count = images * places
  batch = min(batch, count)
  for start in range(0, count, batch):
    flat = np.arange(start, start + batch)
    valid = flat < count
    flat = np.minimum(flat, count - 1)
    yield flat // places, flat % places, valid


def masked(image, extra, inside):
  """The image where `inside` (*s,) is 1, its baseline where it is 0."""
  inside = inside[..., None]
  return image * inside + extra['baseline'] * (1 - inside)


def total_of_masks(shape, weights, mask, details, *, batch):
  """Sum over m masks of their weights (n, m), numpy float32 (n, *s).

  `mask(shape, detail)` gives one of them.
  """
  total = np.zeros((len(weights), *shape), np.float32)
  for start in itertools.takewhile(
    lambda k: k < _length(details), itertools.count(0, batch)
  ):
    part = jax.tree.map(lambda x, k=start: x[k : k + batch], details)
    masks = _masks(part, shape=shape, mask=mask)
    total += np.tensordot(weights[:, start : start + batch], masks, 1)
  return total


@functools.partial(jax.jit, static_argnames=('shape', 'mask'))
def _masks(details, *, shape, mask):
  return jax.vmap(functools.partial(mask, shape))(details)
