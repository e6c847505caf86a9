"""How sure a prediction is: entropies of one model's or several's; host.

In nats. Total uncertainty of an ensemble is the entropy of its mean; the part
that its members agree on is that of the data, the rest that of the model
(mutual information of prediction and member; Depeweg et al. 2018, eq. 10).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real

from medjax.metrics import inputs

Probability = Real[np.ndarray, '...'] | Bool[np.ndarray, '...']


class Uncertainty(NamedTuple):
  """entropy = expected_entropy + mutual_information, nats, (…,) each."""

  entropy: np.ndarray  # of the members' mean: all of it
  expected_entropy: np.ndarray  # mean of the members': noise in the data
  mutual_information: np.ndarray  # the members' disagreement


def entropy(
  probability: Probability, *, exclusive: bool = True
) -> Float[np.ndarray, '...']:
  """-Σ p log p over classes, (*s, k) → (*s,); 0 log 0 is 0.

  With exclusive=False the columns are labels of their own, and this is the mean
  of their binary entropies.

  Raises:
    ValueError: for what is no probability, and exclusive ones that do not sum
      to 1.
  """
  p = _read(probability, exclusive)
  if not exclusive:
    return np.asarray(_entropy(np.stack([p, 1 - p], -1)).mean(-1))
  return _entropy(p)


def _read(probability, exclusive):
  # Maps are large: float32 stays float32.
  dtype = np.float32 if probability.dtype == np.float32 else float
  return inputs.probabilities(probability, exclusive=exclusive, dtype=dtype)


def _entropy(p):
  logs = np.log(np.where(p > 0, p, 1))
  # Not below zero where rounding has left a probability above one.
  return np.asarray(np.maximum(-(p * logs).sum(-1), 0))


def uncertainty(
  probability: Probability, *, exclusive: bool = True
) -> Uncertainty:
  """Entropies of m members' probabilities (m, *s, k) and of their mean."""
  probability = _read(probability, exclusive)
  total = entropy(probability.mean(0), exclusive=exclusive)
  each = entropy(probability, exclusive=exclusive).mean(0)
  return Uncertainty(total, each, np.maximum(total - each, 0))
