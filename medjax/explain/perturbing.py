"""What a score loses where the image is covered: occlusion and RISE."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.explain import places


def occlusion(score, images, about, baseline, *, batch, window, stride):
  """Mean fall of the score over the windows that cover a voxel: (n, *s).

  A window (rank,) voxels wide moves by `stride` and shows the baseline (Zeiler
  & Fergus 2014). Those at the far border are cut off by it, as Captum's are.
  """
  shape = np.shape(images)[1:-1]
  counts = [
    -(-max(n - w, 0) // s) + 1
    for n, w, s in zip(shape, window, stride, strict=True)
  ]
  starts = np.array([*itertools.product(*map(range, counts))]) * stride
  widths = np.broadcast_to(window, starts.shape)
  details = {'start': jnp.asarray(starts), 'width': jnp.asarray(widths)}
  extra = {'baseline': baseline}
  run = lambda place, each: places.scores(
    score, images, about, place, extra, each, batch=batch
  )
  whole = run(_unchanged, jnp.zeros((1,)))
  fall = whole - run(_occluded, details)
  covered = np.stack([fall, np.ones_like(fall)]).reshape(-1, len(starts))
  total, count = places.total_of_masks(
    shape, covered, _covered, details, batch=batch
  ).reshape(2, len(images), *shape)
  return total / np.maximum(count, 1)


def _covered(shape, detail):
  """1 inside of a window, else 0."""
  inside = jnp.ones(shape, bool)
  for axis in range(len(shape)):
    place = jax.lax.broadcasted_iota(jnp.int32, shape, axis)
    after = place - detail['start'][axis]
    inside &= (after >= 0) & (after < detail['width'][axis])
  return inside.astype(jnp.float32)


def _occluded(image, extra, detail):
  covered = _covered(image.shape[:-1], detail)
  return places.masked(image, extra, 1 - covered)


def _unchanged(image, extra, detail):
  return image


def rise(score, images, about, baseline, *, batch, samples=1000, seed=0):
  """How much higher the score is where a voxel is seen: (n, *s).

  RISE (Petsiuk et al. 2018): coarse random grids of 0 and 1, of up to 8 cells
  an axis, drawn larger and shifted. Of the weighted mean of the masks, the mean
  over all of them is taken off: the map is the covariance of score and mask
  over the mask's mean, and 0 where nothing depends on it.
  """
  shape = np.shape(images)[1:-1]
  keys = jax.random.split(jax.random.key(seed), samples)
  details = jax.random.key_data(keys)
  extra = {'baseline': baseline}
  values = places.scores(
    score, images, about, _through, extra, details, batch=batch
  )
  centred = values - values.mean(1, keepdims=True)
  weights = np.concatenate([centred, np.ones_like(centred[:1])])
  total = places.total_of_masks(shape, weights, _random, details, batch=batch)
  return total[:-1] / np.maximum(total[-1:], 1)


def _random(shape, key):
  """A smooth mask of cells that are seen with probability one half."""
  cells = [min(8, max(2, n // 3)) for n in shape]
  grid, offset = jax.random.split(jax.random.wrap_key_data(key))
  seen = jax.random.bernoulli(grid, 0.5, [c + 1 for c in cells])
  sizes = [-(-n // c) for n, c in zip(shape, cells, strict=True)]
  large = [s * (c + 1) for s, c in zip(sizes, cells, strict=True)]
  smooth = jax.image.resize(seen.astype(jnp.float32), large, 'linear')
  shifts = jax.random.randint(offset, (len(shape),), 0, jnp.array(sizes))
  return jax.lax.dynamic_slice(smooth, shifts, shape)


def _through(image, extra, key):
  return places.masked(image, extra, _random(image.shape[:-1], key))
