"""Gradients of a score: as they are, times the input, integrated, smoothed."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.explain import places

TOLERANCE = 1e-3  # of completeness, relative to what is to be explained
MOST_STEPS = 1600
_NOTHING = 1e-6  # a change of the score that is none, next to the score


def gradient(score, images, about, *, batch):
  """The gradient of each score: (n, *s, C) (Simonyan et al. 2014, signed)."""
  one = jnp.zeros((1,))
  return places.gradients(
    score, images, about, _same, {}, one, [1.0], batch=batch
  )


def _same(image, extra, detail):
  return image


def smoothgrad(score, images, about, *, batch, samples=25, noise=0.15, seed=0):
  """Mean gradient of noisy copies: (n, *s, C) (Smilkov et al. 2017).

  noise: standard deviation over the image's range.
  """
  images = jnp.asarray(images, jnp.float32)
  axes = tuple(range(1, images.ndim))
  extra = {
    'sigma': noise * (images.max(axes) - images.min(axes)),
    'image': jnp.arange(len(images)),
  }
  keys = jax.random.key_data(jax.random.split(jax.random.key(seed), samples))
  weights = np.full(samples, 1 / samples)
  return places.gradients(
    score, images, about, _noisy, extra, keys, weights, batch=batch
  )


def _noisy(image, extra, key):
  key = jax.random.fold_in(jax.random.wrap_key_data(key), extra['image'])
  return image + extra['sigma'] * jax.random.normal(key, image.shape)


def integrated(
  score, images, about, baseline, *, batch, steps=50, most=MOST_STEPS
):
  """Integrated gradients (Sundararajan et al. 2017).

  Gauss–Legendre nodes on the line from the baseline (n, *s, C). Attributions
  must sum to the difference of both scores; where they miss it by more than
  TOLERANCE of it, steps are doubled, up to `most`.

  Returns:
    (attributions (n, *s, C); {'steps', 'difference', 'error'}, each (n,): steps
    taken, score less that of the baseline, and the relative error that stays).
  """
  images, baseline = (jnp.asarray(x, jnp.float32) for x in (images, baseline))
  check_baseline(images, baseline)
  ends = jnp.array([0.0, 1.0])
  extra = {'baseline': baseline}
  low, high = places.scores(
    score, images, about, _between, extra, ends, batch=batch
  ).T.astype(float)
  difference = high - low
  scale = np.maximum(np.abs(difference), _NOTHING * (1 + np.abs(high)))
  result = np.zeros(images.shape, np.float32)
  taken, error = np.zeros(len(images), int), np.full(len(images), np.inf)
  while (todo := np.flatnonzero(error > TOLERANCE)).size:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    part = lambda tree, k=todo: jax.tree.map(lambda x: x[k], tree)
    mean = places.gradients(
      score,
      *part((images, about)),
      _between,
      part(extra),
      jnp.asarray((nodes + 1) / 2, jnp.float32),
      weights / 2,
      batch=batch,
    )
    found = np.asarray(mean * part(images - baseline))
    result[todo], taken[todo] = found, steps
    sums = found.reshape(len(todo), -1).sum(1, dtype=float)
    error[todo] = np.abs(sums - difference[todo]) / scale[todo]
    if steps >= most or np.isnan(sums).any():
      break
    steps = min(2 * steps, most)
  return result, {'steps': taken, 'difference': difference, 'error': error}


def _between(image, extra, t):
  return extra['baseline'] + t * (image - extra['baseline'])


def check_baseline(images, baseline):
  """Raises ValueError for a baseline of another shape."""
  if np.shape(baseline) != np.shape(images):
    raise ValueError(
      f'the baseline is {np.shape(baseline)[1:]}, the image '
      f'{np.shape(images)[1:]}: give one on the grid of the prepared image'
    )
