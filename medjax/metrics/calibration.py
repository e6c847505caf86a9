"""Probabilities as sure as they are right: errors, temperature; host, float64.

Expected calibration error and reliability are in medjax.metrics.classification.

Logits are not needed: log p is the logit but for a constant, which softmax
forgets. Probabilities below float32's resolution count as that, as in
scikit-learn's log_loss of float32.
"""

import numpy as np
from jaxtyping import Float

from medjax.metrics import classification, inputs
from medjax.metrics.bootstrap import weighted_mean
from medjax.metrics.inputs import Scores, Truth, Weights

_LEAST = float(np.finfo(np.float32).eps)
_COLDEST, _HOTTEST = 0.05, 20.0


def _logits(probability, exclusive):
  """(n, j, c): j distributions over c outcomes, up to a constant each."""
  p = inputs.probabilities(probability, exclusive=exclusive)
  if exclusive:
    return np.log(np.maximum(p, _LEAST))[:, None]
  p = np.clip(p, _LEAST, 1 - _LEAST)
  return np.log(np.stack([1 - p, p], -1))


def _outcomes(truth, exclusive):
  truth = np.asarray(inputs.mask(truth, name='truth'))
  if exclusive:
    if (truth.sum(-1) != 1).any():
      raise ValueError('truth of exclusive classes must be one-hot')
    return truth[:, None]
  return np.stack([~truth, truth], -1)


def _pair(truth, probability, exclusive):
  logits, outcomes = (
    _logits(probability, exclusive),
    _outcomes(truth, exclusive),
  )
  inputs.same_shape(outcomes, logits, names=('truth', 'probability'))
  return logits, outcomes


def _log_softmax(x):
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def nll(
  truth: Truth,
  probability: Scores,
  *,
  exclusive: bool = True,
  weights: Weights = None,
) -> Float[np.ndarray, '*r']:
  """Mean negative log-likelihood, nats; of exclusive=False mean over labels."""
  logits, outcomes = _pair(truth, probability, exclusive)
  each = -(_log_softmax(logits) * outcomes).sum(-1).mean(-1)
  return weighted_mean(each, inputs.case_weights(weights, len(truth)))


def classwise_ece(
  truth: Truth,
  probability: Scores,
  *,
  bins: int = 15,
  weights: Weights = None,
) -> Float[np.ndarray, '*r k']:
  """Expected calibration error of each class's own probability, (*r, k).

  Their mean is the class-wise ECE of Kull et al. 2019 (section 2), the static
  calibration error of Nixon et al. 2019: it sees the classes that are not the
  likeliest too. Every column is binned from 0 to 1.
  """
  truth, p = inputs.truth_and(truth, probability, inputs.probabilities)
  each = [
    classification.ece(p[:, k], truth[:, k], bins=bins, weights=weights)
    for k in range(p.shape[1])
  ]
  return np.stack(each, -1)


def mce(
  confidence: Scores,
  correct: Truth,
  *,
  bins: int = 15,
  weights: Weights = None,
) -> Float[np.ndarray, '*r']:
  """Maximum calibration error: the largest gap of a bin that has cases.

  Naeini et al. 2015, section 3; bins as of classification.ece. Of few cases a
  bin with one says little.
  """
  confidence, share, number = classification.reliability(
    confidence, correct, bins=bins, weights=weights
  )
  gap = np.where(number > 0, np.abs(confidence - share), 0)
  return np.asarray(np.where(number.sum(-1) > 0, gap.max(-1), np.nan))


def scaled(
  probability: Scores,
  temperature: float,
  *,
  exclusive: bool = True,
) -> Float[np.ndarray, 'n k']:
  """Probabilities whose logits are divided by the temperature."""
  if not temperature > 0:
    raise ValueError(f'temperature must be positive, not {temperature}')
  p = np.exp(_log_softmax(_logits(probability, exclusive) / temperature))
  return p[:, 0] if exclusive else p[..., 1]


def temperature(
  truth: Truth,
  probability: Scores,
  *,
  exclusive: bool = True,
) -> float:
  """The temperature of least negative log-likelihood (Guo et al. 2017, 4.2).

  From 0.05 to 20; above 1 the probabilities were too sure. One for all labels
  with exclusive=False. Choose on validation, never on the test split. NaN where
  the cases are all decided rightly: the colder the better then, and it would
  make every guess a certainty.
  """
  logits, outcomes = _pair(truth, probability, exclusive)

  def slope(inverse):
    p = np.exp(_log_softmax(inverse * logits))
    return ((p - outcomes) * logits).sum(-1).mean()

  if abs(slope(1.0)) < 1e-12:  # at its best, or all logits alike
    return 1.0
  # The likelihood is concave in 1 / temperature: one root, found by halving.
  if slope(1 / _COLDEST) < 0:
    return float('nan')
  low, high = np.log(1 / _HOTTEST), np.log(1 / _COLDEST)
  for _ in range(50):
    middle = (low + high) / 2
    low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
  return float(np.exp(-(low + high) / 2))
