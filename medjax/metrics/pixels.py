"""AUROC and average precision of the pixels of big maps, without sorting them.

Probabilities are counted in bins, which add up over cases and devices:

    total = sum(pixels.histogram(t, p) for t, p in cases)
    pixels.auroc(total)

Scores of one bin count as ties: with 65,536 bins the AUROC is off by less than
half of the share of pairs that share a bin, which resolution() gives.
"""

import numpy as np
from jaxtyping import Float, Real

from medjax.metrics import classification, inputs
from medjax.metrics.inputs import Mask

Histogram = Real[np.ndarray, '2 bins']


def histogram(
  truth: Mask, probability: Mask, *, bins: int = 2**16, valid=None
) -> Float[np.ndarray, '2 bins']:
  """Pixels (*s) of negatives and of positives by probability; bins of [0, 1].

  Pixels outside `valid` (*s) are left out.
  """
  truth = np.asarray(inputs.mask(truth, name='truth'))
  p = inputs.probabilities(probability, dtype=np.float32)
  inputs.same_shape(truth, p, names=('truth', 'probability'))
  if valid is not None:
    valid = np.asarray(inputs.mask(valid, name='valid'))
    inputs.same_shape(truth, valid, names=('truth', 'valid'))
    truth, p = truth[valid], p[valid]
  index = np.clip((p * bins).astype(np.int64), 0, bins - 1) + bins * truth
  return np.bincount(index.ravel(), minlength=2 * bins).reshape(2, -1) * 1.0


def _areas(h):
  bins = h.shape[-1]
  score = np.tile(np.arange(bins), 2)[:, None]
  truth = np.repeat([False, True], bins)[:, None]
  roc, prc = classification.areas(truth, score, weights=h.reshape(-1) * 1.0)
  return float(roc[0]), float(prc[0])


def auroc(h: Histogram) -> float:
  """Area under the ROC curve; NaN without a positive or a negative."""
  return _areas(h)[0]


def average_precision(h: Histogram) -> float:
  """Σ (recall step · precision) over bins; NaN without a positive."""
  return _areas(h)[1]


def resolution(h: Histogram) -> float:
  """The most by which auroc(h) may be off, for what ties in a bin hide."""
  pairs = h[0].sum() * h[1].sum()
  return float((h[0] * h[1]).sum() / pairs / 2) if pairs else float('nan')
