"""Several paths at once: each its own target, none too near to another."""

import itertools

import numpy as np

from medjax.surgery import distance

_NODES = 200_000


def apart(a, b):
  """The least distance of two segments (2, 3), mm; exact.

  Where neither end is nearest, the segments' lines are: the solution within.
  """
  found = [
    distance.segment_to_points(*a, np.asarray(b))[0],
    distance.segment_to_points(*b, np.asarray(a))[0],
  ]
  u, v, w = a[1] - a[0], b[1] - b[0], a[0] - b[0]
  uu, uv, vv, uw, vw = u @ u, u @ v, v @ v, u @ w, v @ w
  det = uu * vv - uv**2
  if det > 1e-9 * uu * vv:
    s, t = (uv * vw - vv * uw) / det, (uu * vw - uv * uw) / det
    if 0 <= s <= 1 and 0 <= t <= 1:
      found.append(np.linalg.norm(w + s * u - t * v))
  return float(min(found))


def chosen(segments, scores, distance_apart):
  """One path for each target, (k,) indices: the highest sum of scores.

  segments: for each target (n, 2, 3); scores: for each (n,). None where no
  choice keeps `distance_apart` mm between any two. Branch and bound, exact
  within 200,000 nodes.
  """
  near = {}
  for i, j in itertools.combinations(range(len(segments)), 2):
    near[i, j] = np.array(
      [[apart(a, b) for b in segments[j]] for a in segments[i]]
    )
  order = [np.argsort(-np.asarray(s), kind='stable') for s in scores]
  most = [float(np.max(s)) if len(s) else -np.inf for s in scores]
  best, nodes = (-np.inf, None), 0

  def descend(taken, value):
    nonlocal best, nodes
    k = len(taken)
    nodes += 1
    if nodes > _NODES or value + sum(most[k:]) <= best[0]:
      return
    if k == len(segments):
      best = value, tuple(taken)
      return
    for i in order[k]:
      if all(near[j, k][taken[j], i] >= distance_apart for j in range(k)):
        descend([*taken, int(i)], value + float(scores[k][i]))

  descend([], 0.0)
  return best[1]
