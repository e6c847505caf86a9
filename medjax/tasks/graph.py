"""What is known of several labels: who is alike, and who is whose child."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.build import closest


@dataclasses.dataclass(frozen=True)
class Graph:
  """A graph over the K labels of a multi-label task.

  weight: of the Laplacian penalty Σ w (z_i − z_j)² / K of the logits z, beside
  the losses. edges: (i, j, w). parents: for each label its parent, −1 for none;
  a label's probability is then its own times its parent's, so no child is ever
  likelier than its parent.
  """

  weight: float = 0.0
  edges: tuple[tuple[int, int, float], ...] = ()
  parents: tuple[int, ...] = ()

  @classmethod
  def of(cls, values, names):
    """From config.task.graph, labels by name or index.

    {'weight': …, 'edges': ((a, b, w), …), 'parents': {child: parent}}. Raises
    ValueError for what is none.
    """
    unknown = set(values) - {'weight', 'edges', 'parents'}
    if unknown:
      raise ValueError(f'task.graph has weight, edges, parents, not {unknown}')
    place = lambda name: _place(name, names)
    edges = tuple(
      (place(a), place(b), float(w)) for a, b, w in values.get('edges', ())
    )
    if any(w < 0 for *_, w in edges) or values.get('weight', 0.0) < 0:
      raise ValueError('task.graph: weights are 0 or more')
    given = dict(values.get('parents', {}))
    parents = [-1] * len(names) if given else []
    for child, parent in given.items():
      parents[place(child)] = place(parent)
    made = cls(float(values.get('weight', 0.0)), edges, tuple(parents))
    for i in range(len(parents)):
      made.line(i)  # raises for a circle
    return made

  def line(self, label):
    """The label, its parent, the parent's parent, …"""
    found = [label]
    while self.parents and (parent := self.parents[found[-1]]) >= 0:
      if parent in found:
        raise ValueError('task.graph: a label is its own ancestor')
      found.append(parent)
    return found

  def penalty(self, logits: Float[Array, 'b k']) -> Float[Array, 'b']:
    """The weighted Laplacian of the logits of each case."""
    total = jnp.zeros(logits.shape[0], jnp.float32)
    for i, j, w in self.edges:
      total += w * jnp.square((logits[:, i] - logits[:, j]).astype(jnp.float32))
    return self.weight * total / logits.shape[1]

  def chained(self, logits: Float[Array, 'b k']) -> Float[Array, 'b k']:
    """Logits of each label's probability times those of its ancestors."""
    if not any(p >= 0 for p in self.parents):
      return logits
    own = jax.nn.log_sigmoid(logits.astype(jnp.float32))
    log_p = jnp.stack(
      [sum(own[:, i] for i in self.line(k)) for k in range(logits.shape[1])], -1
    )
    # log(p / (1 − p)); a label without a parent keeps its logit as it is.
    whole = log_p - jnp.log(-jnp.expm1(jnp.minimum(log_p, -1e-7)))
    root = jnp.array([p < 0 for p in self.parents])
    return jnp.where(root, logits.astype(jnp.float32), whole)


def _place(name, names):
  if isinstance(name, int) and 0 <= name < len(names):
    return name
  if name in names:
    return names.index(name)
  raise ValueError(f'task.graph: no label {name!r}{closest(str(name), names)}')
