"""Answering only where one is sure: risk and coverage; host.

Coverage is the share of cases that are answered, risk the error among these
(El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.metrics import risk_control


class Curve(NamedTuple):
  """Risk (m,) of the `coverage` (m,) most confident; confidence at each."""

  coverage: np.ndarray
  risk: np.ndarray
  confidence: np.ndarray


def curve(
  error: Float[np.ndarray, 'n'], confidence: Float[np.ndarray, 'n']
) -> Curve:
  """The risk–coverage curve: one point for each confidence that occurs.

  error: of each case, 0 to 1. Cases of equal confidence are answered together.
  """
  error, confidence = np.asarray(error, float), np.asarray(confidence, float)
  if not len(error) or len(error) != len(confidence):
    raise ValueError(
      f'{len(error)} errors and {len(confidence)} confidences: give one of '
      'each for a case'
    )
  if np.isnan(error).any() or np.isnan(confidence).any():
    raise ValueError('an error or a confidence is NaN: evaluate again')
  order = np.argsort(-confidence, kind='stable')
  error, confidence = error[order], confidence[order]
  count = np.arange(1, len(error) + 1)
  last = np.append(confidence[1:] != confidence[:-1], True)
  risk = np.cumsum(error) / count
  return Curve(count[last] / len(error), risk[last], confidence[last])


def area(found: Curve) -> float:
  """Area under the curve (AURC), the mean risk over all coverages."""
  width = np.diff(found.coverage, prepend=0)
  return float((width * found.risk).sum())


class Point(NamedTuple):
  """Where to stop answering: below `confidence`; what that was worth."""

  confidence: float
  coverage: float
  risk: float


def point(
  error: Float[np.ndarray, 'n'],
  confidence: Float[np.ndarray, 'n'],
  *,
  risk: float,
  confidence_of_it: float = risk_control.CONFIDENCE,
) -> Point | None:
  """The most coverage at which the risk is shown to be at most `risk`.

  Shown with `confidence_of_it` (medjax.metrics.risk_control); the curve is
  tested at 50 coverages, each at its share of the doubt, as risk need not grow
  with coverage. None where no coverage passes.
  """
  found = curve(error, confidence)
  n = len(np.asarray(error))
  places = np.unique(
    np.searchsorted(found.coverage, np.linspace(0.02, 1, 50) - 1e-9)
  )
  p = risk_control.p_value(
    found.risk[places], np.rint(found.coverage[places] * n), bound=risk
  )
  passed = places[p <= (1 - confidence_of_it) / len(places)]
  if not passed.size:
    return None
  best = passed[-1]
  return Point(
    float(found.confidence[best]),
    float(found.coverage[best]),
    float(found.risk[best]),
  )
