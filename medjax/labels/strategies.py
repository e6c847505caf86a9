"""Strategies of active learning: which cases to label next, on plain arrays.

Each yields (place, score, why), the first to label first, of the cases that a
`Pool` still has; near duplicates of what was picked are not in it any more.
"""

import numpy as np
from scipy.cluster.vq import kmeans2

from medjax.labels.seen import UNSURE
from medjax.metrics.embeddings import unit

_NEIGHBOURS = 20  # by which typical is meant (Hacohen et al. 2022)
STRATEGIES = (*UNSURE, 'coreset', 'badge', 'typiclust', 'random')
_UNITS = {'entropy': ' nats', 'margin': '', 'bald': ' nats'}


class Pool:
  """The places of n cases that may still be picked.

  twins: pairs of places that show nearly the same image.
  """

  def __init__(self, n, twins=()):
    self.free = np.ones(n, bool)
    self._twins = {}
    for a, b in twins:
      self._twins.setdefault(a, set()).add(b)
      self._twins.setdefault(b, set()).add(a)

  def take(self, place):
    """Takes a place, and those of its near duplicates, out of the pool."""
    self.free[[place, *self._twins.get(place, ())]] = False

  def __bool__(self):
    return bool(self.free.any())


def by_score(pool, scores, name):
  """The highest scores first."""
  scores = np.asarray(scores, float)
  for i in np.argsort(-scores, kind='stable'):
    if pool.free[i]:
      below = int(100 * (scores < scores[i]).mean())  # 100 % is nobody
      yield (
        int(i),
        float(scores[i]),
        f'{name} {scores[i]:.3f}{_UNITS[name]}, above that of {below} % of all',
      )


def at_random(pool, rng):
  """In any order; what others have to beat."""
  for i in rng.permutation(len(pool.free)):
    if pool.free[i]:
      yield int(i), float('nan'), 'at random'


def coreset(pool, embeddings, known):
  """The farthest from all that is labelled or picked (Sener & Savarese 2018).

  Greedy k-centre; without any known one the first is the most central.
  """
  embeddings = np.asarray(embeddings, float)
  distance = np.full(len(embeddings), np.inf)
  for other in known:
    distance = np.minimum(distance, np.linalg.norm(embeddings - other, axis=1))
  while pool:
    if np.isinf(distance).any():
      centre = embeddings.mean(0)
      i = _least(np.linalg.norm(embeddings - centre, axis=1), pool)
      score, why = 0.0, 'the most central, as nothing is labelled'
    else:
      i = _least(-distance, pool)
      score = float(distance[i])
      why = f'{score:.3g} from the nearest that is labelled or picked'
    yield i, score, why
    new = np.linalg.norm(embeddings - embeddings[i], axis=1)
    distance = np.minimum(distance, new)


def badge(pool, embeddings, errors, rng):
  """Unsure and unlike each other, by gradients of the head (Ash et al. 2020).

  The gradient of a case is the embedding times the error (K,) of the
  probabilities from their own decision; cases are drawn as k-means++ draws
  centres, the first the longest.
  """
  errors, h = np.asarray(errors, float), np.asarray(embeddings, float)
  gradient = (errors[:, :, None] * h[:, None]).reshape(len(h), -1)
  square = (gradient**2).sum(1)
  distance = None
  while pool:
    if distance is None:
      i = _least(-square, pool)
    else:
      weight = np.where(pool.free, distance, 0.0)
      total = weight.sum()
      weight = weight / total if total > 0 else pool.free / pool.free.sum()
      i = int(rng.choice(len(weight), p=weight))
    size = float(np.sqrt(square[i]))
    yield i, size, f'gradient of length {size:.3g}, unlike those picked before'
    new = ((gradient - gradient[i]) ** 2).sum(1)
    distance = new if distance is None else np.minimum(distance, new)


def typiclust(pool, embeddings, known, n, rng):
  """The most typical of what is not labelled yet (Hacohen et al. 2022).

  Cases and `known` embeddings, of length 1, are clustered into as many as are
  known and wanted; the largest cluster with the fewest known gives its densest.
  """
  every = np.concatenate(
    [embeddings, np.reshape(known, (-1, len(embeddings[0])))]
  )
  every = unit(every)
  clusters = min(len(known) + n, len(every))
  seed = int(rng.integers(2**31))
  _, member = kmeans2(every, clusters, minit='++', rng=seed)
  labelled = np.bincount(member[len(embeddings) :], minlength=clusters)
  own = member[: len(embeddings)]
  while pool:
    left = np.bincount(own[pool.free], minlength=clusters)
    order = np.lexsort((-left, labelled, left == 0))
    cluster = int(order[0])
    places = np.flatnonzero((own == cluster) & pool.free)
    typical = _density(every[np.flatnonzero(own == cluster)], every[places])
    best = int(np.argmax(typical))
    why = f'most typical of {left[cluster]} alike, {labelled[cluster]} labelled'
    yield int(places[best]), float(typical[best]), why
    labelled[cluster] += 1


def _density(cluster, points):
  """1 / mean distance of points to their nearest in a cluster."""
  apart = np.linalg.norm(points[:, None] - cluster[None], axis=-1)
  nearest = np.sort(apart, axis=1)[:, 1 : _NEIGHBOURS + 1]  # without itself
  if not nearest.shape[1]:
    return np.ones(len(points))
  return 1 / np.maximum(nearest.mean(1), 1e-12)


def _least(values, pool):
  """The free place of the least value."""
  return int(np.where(pool.free, values, np.inf).argmin())
