"""FROC: lesions found against false alarms per image, over all thresholds.

A candidate has a score and the lesion that it hits, or none. A lesion counts as
found at the best of its hits; more hits of it are no false alarms (LUNA16).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from medjax.metrics import inputs, lesions
from medjax.metrics.inputs import Mask

# False alarms per image at which LUNA16 reads the curve.
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


class Candidates(NamedTuple):
  """Of one image: scores, the lesion hit by each (-1: none), true lesions."""

  score: Float[np.ndarray, 'm']
  lesion: Integer[np.ndarray, 'm']
  lesions: int


def candidates(
  probability: Mask, reference: Mask, *, level=0.1, faces: bool = False
) -> Candidates:
  """Components of a probability map (*s) above `level`, scored by their peaks.

  One hits the lesion of the reference (*s) with which it shares most voxels.
  """
  p = inputs.probabilities(probability)
  reference = np.asarray(inputs.mask(reference, name='reference'))
  inputs.same_shape(p, reference, names=('probability', 'reference'))
  found, n = lesions.components(p > level, faces=faces)
  true, number = lesions.components(reference, faces=faces)
  score = np.zeros(n)
  np.maximum.at(score, found[found > 0] - 1, p[found > 0])
  if not (n and number):
    return Candidates(score, np.full(n, -1), number)
  pair = found.ravel().astype(np.int64) * (number + 1) + true.ravel()
  shared = np.bincount(pair, minlength=(n + 1) * (number + 1))
  shared = shared.reshape(n + 1, number + 1)[1:, 1:]
  hit = np.where(shared.any(1), shared.argmax(1), -1)
  return Candidates(score, hit, number)


def curve(
  images: Sequence[Candidates],
) -> tuple[Float[np.ndarray, 't'], Float[np.ndarray, 't']]:
  """False alarms per image and sensitivity, from (0, 0), by falling threshold.

  Raises:
    ValueError: without an image or a lesion, or for a score that is NaN.
  """
  total = sum(c.lesions for c in images)
  if not total:
    raise ValueError('FROC needs at least one lesion')
  true, false = [], []
  for c in images:
    score, lesion = inputs.scores(c.score), np.asarray(c.lesion)
    if lesion.size and lesion.max() >= c.lesions:
      raise ValueError(f'lesion {lesion.max()} of an image with {c.lesions}')
    false.append(score[lesion < 0])
    best = np.full(c.lesions, -np.inf)
    np.maximum.at(best, lesion[lesion >= 0], score[lesion >= 0])
    true.append(best[np.isfinite(best)])
  true, false = np.sort(np.concatenate(true)), np.sort(np.concatenate(false))
  steps = np.unique(np.concatenate([true, false]))[::-1]
  above = [len(x) - np.searchsorted(x, steps) for x in (false, true)]
  alarms, found = (np.concatenate([[0], x]).astype(float) for x in above)
  return alarms / len(images), found / total


def score(images: Sequence[Candidates], *, rates=RATES) -> float:
  """Mean sensitivity at these false alarms per image, interpolated (LUNA16)."""
  return float(np.mean(np.interp(rates, *curve(images))))
