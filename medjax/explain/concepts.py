"""Concepts in a model: TCAV, with a p value against random concepts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DRAWS = 499  # random concepts
RESAMPLES = 50
FEWEST = 10  # cases on either side of a concept
_RIDGE = 0.1  # of the standardised layer, per case


class Found(NamedTuple):
  """What TCAV says of a concept.

  score: share of the cases whose score rises along the concept. interval: of
  it, 95 %, over resamples of the concept's patients. slope: mean rise of the
  score per standard deviation of the layer along the concept. p: of as large a
  slope along a random concept. r: cross-validated correlation of the concept
  with its direction: whether the layer knows it at all. n: cases that have it.
  """

  score: float
  interval: tuple[float, float]
  slope: float
  p: float
  r: float
  n: int


@functools.partial(jax.jit, static_argnames='layer')
def _layer_means(score, images, about, *, layer):
  """Mean of a layer over its map, and the gradient there: (b, c) both."""
  axes = lambda x: tuple(range(1, x.ndim - 1))
  _, activation = score.tapped(layer, images, about, 0.0)

  def total(change):
    return score.tapped(layer, images, about, change)[0].sum()

  slopes = jax.grad(total)(jnp.zeros_like(activation))
  # The sum: a change of the mean is that change at every place.
  return activation.mean(axes(activation)), slopes.sum(axes(slopes))


def layer_means(score, images, about, *, layer, batch):
  """Means (n, c) of a layer of the first member, and slopes (n, c) along it."""
  one, found = score.alone()[0], []
  for start in range(0, len(images), batch):
    # The last batch is filled up: another shape would be compiled again.
    index = np.minimum(np.arange(start, start + batch), len(images) - 1)
    part = jax.tree.map(lambda x, k=index: np.asarray(x)[k], (images, about))
    means, slopes = _layer_means(one, *part, layer=layer)
    keep = min(batch, len(images) - start)
    found.append((np.asarray(means)[:keep], np.asarray(slopes)[:keep]))
  means, slopes = zip(*found, strict=True)
  return np.concatenate(means).astype(float), np.concatenate(slopes)


def tcav(means, values, slopes, *, patients=None, seed=0):
  """The `Found` of a concept (Kim et al. 2018), or None where it has too few.

  means (n, c) of cases whose concept has the values (n,), NaN unknown; slopes
  (m, c) of cases that are asked about. The concept's direction is that of a
  ridge regression on the means, as Graziani et al. (2020) do for ratings: so
  they need not be made to be yes and no. A random concept is the same values on
  other cases; p is the share of DRAWS of them whose mean slope is as large, a
  permutation test. patients: whose the cases are, by default of one each.
  """
  known = np.isfinite(values)
  x, y = means[known], np.asarray(values, float)[known]
  low, high = (
    (y > y.min(initial=np.inf)).sum(),
    (y < y.max(initial=-np.inf)).sum(),
  )
  if min(low, high) < FEWEST:
    return None
  rng = np.random.default_rng(seed)
  whose = np.arange(len(values)) if patients is None else np.asarray(patients)
  _, member = np.unique(whose[known], return_inverse=True)
  places = [np.flatnonzero(member == k) for k in range(member.max() + 1)]
  spread = x.std(0)
  used = spread > 1e-6 * spread.max()
  z = (x[:, used] - x[:, used].mean(0)) / spread[used]
  rises = slopes[:, used] * spread[used]
  along = rises @ _directions(z, y[None])[0]
  shuffled = np.stack([rng.permutation(y) for _ in range(DRAWS)])
  random = (rises @ _directions(z, shuffled).T).mean(0)
  p = (1 + (np.abs(random) >= abs(along.mean())).sum()) / (1 + DRAWS)
  shares = []
  for _ in range(RESAMPLES):
    drawn = rng.integers(0, len(places), len(places))
    index = np.concatenate([places[k] for k in drawn])
    direction = _directions(z[index], y[index][None])[0]
    shares.append((rises @ direction > 0).mean())
  return Found(
    score=float((along > 0).mean()),
    interval=tuple(np.quantile(shares, [0.025, 0.975]).tolist()),
    slope=float(along.mean()),
    p=float(p),
    r=_predicted(z, y, member, rng),
    n=len(y),
  )


def _ridge(z, y):
  """Slopes (r, c) of values (r, n) on z (n, c)."""
  z = z - z.mean(0)
  normal = z.T @ z + _RIDGE * len(z) * np.eye(z.shape[1])
  return (y - y.mean(1, keepdims=True)) @ np.linalg.solve(normal, z.T).T


def _directions(z, y):
  """Unit directions (r, c) along which z (n, c) says values (r, n) rise."""
  found = _ridge(z, y)
  length = np.linalg.norm(found, axis=1, keepdims=True)
  return found / np.where(length > 0, length, 1)


def _predicted(z, y, patient, rng, folds=5):
  """Correlation of values with what other folds' slopes say of them.

  The cases of a patient (n,) are in one fold; NaN of less than two patients.
  """
  count = patient.max() + 1
  if count < 2:
    return float('nan')
  folds = min(folds, count)
  fold, found = (rng.permutation(count) % folds)[patient], np.zeros(len(y))
  for k in range(folds):
    train = fold != k
    (slope,) = _ridge(z[train], y[train][None])
    found[~train] = (z[~train] - z[train].mean(0)) @ slope + y[train].mean()
  if np.ptp(found) == 0 or np.ptp(y) == 0:
    return 0.0
  return float(np.corrcoef(found, y)[0, 1])
