"""DeLong's test: two AUROCs of the same cases, compared without resampling."""

from typing import NamedTuple

import numpy as np
import scipy  # its stats takes half a second: not before it is used
from jaxtyping import Float

from medjax.metrics import inputs
from medjax.metrics.inputs import Scores, Truth


class DeLong(NamedTuple):
  """Two AUROCs, their difference (b - a) and what is known of it."""

  auroc_a: float
  auroc_b: float
  difference: float
  error: float  # standard error of the difference
  interval: tuple[float, float]
  p: float  # two-sided


def placements(
  truth: Truth, score: Scores
) -> tuple[Float[np.ndarray, 'p'], Float[np.ndarray, 'q']]:
  """How far each case is on its right side: positives (p,), negatives (q,).

  A positive's is the share of negatives that it beats, a negative's the share
  of positives that beat it; a tie is one half. The mean of either is the
  AUROC. From midranks in O(n log n): Sun & Xu 2014, section III.
  """
  truth, score = inputs.truth_and(truth, score, inputs.scores)
  positive, negative = score[truth], score[~truth]
  ranks = scipy.stats.rankdata(score)
  # A rank among all, less that among one's own, counts the others below.
  beaten = ranks[truth] - scipy.stats.rankdata(positive)
  beaten_by = len(positive) - (ranks[~truth] - scipy.stats.rankdata(negative))
  return beaten / max(len(negative), 1), beaten_by / max(len(positive), 1)


def delong(
  truth: Truth,
  score_a: Scores,
  score_b: Scores,
  *,
  level=0.95,
) -> DeLong:
  """Difference of two AUROCs of the same cases, normal interval and test.

  DeLong, DeLong & Clarke-Pearson 1988; agrees with pROC's roc.test. Cases are
  taken as independent: with several per patient it promises too much;
  bootstrap by patient then. AUROCs are NaN without a positive or a negative;
  error, interval and p also with fewer than two of either, and where the
  sample shows a difference but no spread of it. Of two scores that rank all
  alike p is 1.
  """
  by_a, by_b = placements(truth, score_a), placements(truth, score_b)
  sizes = [len(side) for side in by_a]
  nan = float('nan')
  if not all(sizes):
    return DeLong(nan, nan, nan, nan, (nan, nan), nan)
  auroc_a, auroc_b = float(by_a[0].mean()), float(by_b[0].mean())
  moved = [b - a for a, b in zip(by_a, by_b, strict=True)]
  difference = float(moved[0].mean())
  error = nan
  if min(sizes) > 1:
    error = sum(d.var(ddof=1) / len(d) for d in moved) ** 0.5
  if error < 1e-12:
    same = not any(d.any() for d in moved)
    bounds = (0.0, 0.0) if same else (nan, nan)
    return DeLong(
      auroc_a,
      auroc_b,
      difference,
      0.0 if same else nan,
      bounds,
      1.0 if same else nan,
    )
  reach = scipy.stats.norm.ppf((1 + level) / 2) * error
  return DeLong(
    auroc_a,
    auroc_b,
    difference,
    float(error),
    (float(difference - reach), float(difference + reach)),
    float(2 * scipy.stats.norm.sf(abs(difference) / error)),
  )
