"""How sure a prediction is: entropies of one model's or several's; host.

In nats. Total uncertainty of an ensemble is the entropy of its mean; the part
that its members agree on is that of the data, the rest that of the model
(mutual information of prediction and member; Depeweg et al. 2018, eq. 10).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Uncertainty(NamedTuple):
  """entropy = expected_entropy + mutual_information, nats, (…,) each."""

  entropy: np.ndarray  # of the members' mean: all of it
  expected_entropy: np.ndarray  # mean of the members': noise in the data
  mutual_information: np.ndarray  # the members' disagreement


def entropy(
  probability: Float[np.ndarray, '*s k'], *, exclusive: bool = True
) -> Float[np.ndarray, '*s']:
  """-Σ p log p over classes; 0 log 0 is 0.

  With exclusive=False the columns are labels of their own, and this is the mean
  of their binary entropies.
  """
  if not exclusive:
    pairs = np.stack([probability, 1 - probability], -1)
    return np.asarray(entropy(pairs).mean(-1))
  logs = np.log(np.where(probability > 0, probability, 1))
  # Not below zero where rounding has left a probability above one.
  return np.asarray(np.maximum(-(probability * logs).sum(-1), 0))


def uncertainty(
  probability: Float[np.ndarray, 'm *s k'], *, exclusive: bool = True
) -> Uncertainty:
  """Entropies of m members' probabilities and of their mean."""
  total = entropy(probability.mean(0), exclusive=exclusive)
  each = entropy(probability, exclusive=exclusive).mean(0)
  return Uncertainty(total, each, np.maximum(total - each, 0))
