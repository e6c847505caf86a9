"""Answering only where one is sure: risk and coverage; host.

Coverage is the share of cases that are answered, risk the error among these
(El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.metrics import risk_control


class Curve(NamedTuple):
  """Risk (m,) of the `coverage` (m,) most confident; confidence at each.

  count (m,): patients who are answered anything, of whom the risk is the mean.
  """

  coverage: np.ndarray
  risk: np.ndarray
  confidence: np.ndarray
  count: np.ndarray


def curve(
  error: Float[np.ndarray, 'n'],
  confidence: Float[np.ndarray, 'n'],
  patients: Sequence | np.ndarray | None = None,
) -> Curve:
  """The risk–coverage curve: one point for each confidence that occurs.

  error: of each case, 0 to 1. Cases of equal confidence are answered together.
  The risk is the mean over `patients` (n,) of the error of what is answered of
  each; by default every case is one of its own.
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
  who = np.arange(len(error)) if patients is None else np.asarray(patients)
  risk, count = _running(error, who[order])
  last = np.append(confidence[1:] != confidence[:-1], True)
  coverage = (np.flatnonzero(last) + 1) / len(error)
  return Curve(coverage, risk[last], confidence[last], count[last])


def _running(error, patients):
  """(mean over patients of the mean error of each, their number) up to each."""
  _, member = np.unique(patients, return_inverse=True)
  by = np.argsort(member, kind='stable')
  new = np.append(True, np.diff(member[by]) > 0)
  start = np.flatnonzero(new)[np.cumsum(new) - 1]
  own = error[by]
  total = np.cumsum(own)
  mean = (total - total[start] + own[start]) / (np.arange(len(by)) - start + 1)
  # A case moves the mean of its patient, and so the sum over patients.
  moved, begun = np.empty(len(by)), np.empty(len(by), int)
  moved[by] = np.where(new, mean, np.diff(mean, prepend=0))
  begun[by] = new
  count = np.cumsum(begun)
  return np.cumsum(moved) / count, count


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
  patients: Sequence | np.ndarray | None = None,
  *,
  risk: float,
  confidence_of_it: float = risk_control.CONFIDENCE,
) -> Point | None:
  """The most coverage at which the risk is shown to be at most `risk`.

  Shown with `confidence_of_it` (medjax.metrics.risk_control); the curve is
  tested at 50 coverages, each at its share of the doubt, as risk need not grow
  with coverage. None where no coverage passes. The cases of one of `patients`
  are no independent trials: what is tested is the mean over patients (`curve`).
  """
  found = curve(error, confidence, patients)
  places = np.unique(
    np.searchsorted(found.coverage, np.linspace(0.02, 1, 50) - 1e-9)
  )
  p = risk_control.p_value(found.risk[places], found.count[places], bound=risk)
  passed = places[p <= (1 - confidence_of_it) / len(places)]
  if not passed.size:
    return None
  best = passed[-1]
  return Point(
    float(found.confidence[best]),
    float(found.coverage[best]),
    float(found.risk[best]),
  )
