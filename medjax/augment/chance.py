"""The draw that every augmentation begins with."""

import jax
from jaxtyping import Array, Bool, PRNGKeyArray


def chance(key: PRNGKeyArray, p, shape=()) -> Bool[Array, '...']:
  """True with probability `p`.

  Raises:
    ValueError: `p` is no probability (a percentage, say).
  """
  if not 0 <= p <= 1:
    raise ValueError(f'p is a probability, between 0 and 1, not {p}')
  return jax.random.bernoulli(key, float(p), shape)
