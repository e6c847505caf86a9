"""Edges between labels: how often they come together in training, and is-a."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from medjax.metrics import inputs


def cooccurrence(
  labels: Shaped[np.ndarray, 'n k'], names: Sequence[str], *, least: float = 0.2
):
  """Edges (a, b, w) of labels that come together: w the phi coefficient.

  labels: 0 or 1, of training cases only. Edges below `least` are left out, and
  those of labels that all cases or none have.
  """
  x = np.asarray(inputs.mask(labels, name='labels'), float)
  if x.ndim != 2 or x.shape[1] != len(names):
    raise ValueError(f'labels {x.shape} are not (n, {len(names)})')
  spread = x.std(0)
  centred = np.where(spread > 0, (x - x.mean(0)) / np.maximum(spread, 1e-12), 0)
  phi = centred.T @ centred / len(x)
  return tuple(
    (names[i], names[j], round(float(phi[i, j]), 4))
    for i in range(len(names))
    for j in range(i + 1, len(names))
    if phi[i, j] >= least
  )


def parents(names: Sequence[str], ontology):
  """{child: parent} of labels by the is-a of an ontology (`concepts.read`).

  A label is the concept of its meaning or code; its parent the nearest label
  among its ancestors. Labels that the ontology lacks have none.
  """
  by_id = {c.value: c for c in ontology}
  of_name = {c.meaning.lower(): c.value for c in ontology}
  code = {n: n if n in by_id else of_name.get(n.lower()) for n in names}
  label = {c: n for n, c in code.items() if c}
  found = {}
  for name in names:
    level, seen = [code[name]] if code[name] else [], set()
    while level and name not in found:
      level = [p for c in level for p in by_id[c].parents if p in by_id]
      level = [p for p in level if p not in seen]
      seen.update(level)
      near = [label[p] for p in level if p in label]
      if near:
        found[name] = near[0]
  return found


def incoherent(labels, parent_of, names):
  """How many cases (n, k) have a child without its parent."""
  x = np.asarray(labels) > 0
  place = {name: i for i, name in enumerate(names)}
  pairs = [(place[c], place[p]) for c, p in parent_of.items()]
  bad = [x[:, c] & ~x[:, p] for c, p in pairs]
  return int(np.any(bad, 0).sum()) if bad else 0
