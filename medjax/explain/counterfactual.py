"""The smallest change found that flips a model's answer. Never a cause.

It is a counterfactual of the model: what the image would have to be for the
model to say otherwise, not what the patient would have to be.
"""

import jax
import jax.numpy as jnp
import numpy as np

_ROUNDS = 100
_STEP = 0.05  # of an image's contrast, at most
_HALVINGS = 12
_BEYOND = 1.02  # of the way to where the score would change, were it straight


def counterfactual(score, images, about, *, goal):
  """Images on the other side of `goal` (n,), and whether they got there.

  Newton's steps along the gradient, whose sum is near to the smallest change
  (DeepFool, Moosavi-Dezfooli et al. 2016), within the range of each image;
  then the shortest part of the way that is enough. Of a linear score it is the
  smallest change there is.

  Returns:
    (changed (n, *s, C), passed (n,) bool), numpy. One that has not passed is
    where it came to.
  """
  images = jnp.asarray(images, jnp.float32)
  goal = jnp.asarray(goal, jnp.float32)
  start = score(images, about)
  side = jnp.sign(start - goal)
  axes = tuple(range(1, images.ndim))
  low = images.min(axes, keepdims=True)
  high = images.max(axes, keepdims=True)
  changed = images
  for _ in range(_ROUNDS):
    changed, passed = _towards(score, changed, about, goal, side, low, high)
    if bool(passed.all()):
      break
  for_sure = _shortest(score, images, changed, about, goal, side)
  passed = (score(for_sure, about) - goal) * side <= 0
  kept = jnp.where(passed.reshape(-1, *[1] * len(axes)), for_sure, changed)
  return np.asarray(kept), np.asarray(passed)


@jax.jit
def _towards(score, images, about, goal, side, low, high):
  """A step of those that have not passed yet.

  Newton's, but no longer than _STEP: further off the slope is another.
  """

  axes = tuple(range(1, images.ndim))

  def total(x):
    values = score(x, about)
    return values.sum(), values

  slopes, values = jax.grad(total, has_aux=True)(images)
  left = values - goal
  # What the range holds back counts for nothing of the length.
  free = jnp.where(
    -slopes * left.reshape(-1, *_ones(images)) > 0, images < high, images > low
  )
  slopes = jnp.where(free, slopes, 0)
  squares = (slopes**2).sum(axes)
  passed = left * side <= 0
  contrast = jnp.sqrt(
    ((images - images.mean(axes, keepdims=True)) ** 2).sum(axes)
  )
  most = _STEP * contrast / jnp.sqrt(jnp.maximum(squares, 1e-12))
  newton = _BEYOND * left / jnp.maximum(squares, 1e-12)
  length = jnp.where(passed, 0, jnp.clip(newton, -most, most))
  moved = images - length.reshape(-1, *_ones(images)) * slopes
  return jnp.clip(moved, low, high), passed


def _ones(images):
  return [1] * (images.ndim - 1)


@jax.jit
def _shortest(score, images, changed, about, goal, side):
  """The shortest part of the way from images to changed ones that passes."""
  low = jnp.zeros(len(images))
  high = jnp.ones(len(images))
  at = lambda t: images + t.reshape(-1, *_ones(images)) * (changed - images)
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    passed = (score(at(middle), about) - goal) * side <= 0
    low, high = jnp.where(passed, low, middle), jnp.where(passed, middle, high)
  return at(high)
