"""Agreement beyond chance, from confusion matrices: MCC and Cohen's kappa.

Matrices are (*r, K, K) counts, rows the truth, as medjax.metrics.classification
.confusion_matrix gives them; leading axes give as many results at once.
"""

import numpy as np
from jaxtyping import Float, Real

from medjax.metrics.bootstrap import ratio
from medjax.metrics.classification import Counts

Matrix = Real[np.ndarray, '*r K K']
Result = Float[np.ndarray, '...']


def one_against_rest(c: Counts) -> Float[np.ndarray, '*r k 2 2']:
  """Counts (*r, k) as one matrix of two classes per column."""
  cells = np.stack([c.tn, c.fp, c.fn, c.tp], -1).astype(float)
  return cells.reshape(*cells.shape[:-1], 2, 2)


def _checked(matrix):
  matrix = np.asarray(matrix, float)
  if not (matrix >= 0).all():  # nor NaN
    raise ValueError('a confusion matrix must not be negative or NaN')
  return matrix


def mcc(matrix: Matrix) -> Result:
  """Matthews correlation coefficient, (*r,): -1 to 1, 0 is chance.

  Of K classes Gorodkin's (2004, eq. 8). NaN where the truth or the prediction
  is of one class, which correlates with nothing (scikit-learn: 0).
  """
  matrix = _checked(matrix)
  true, predicted = matrix.sum(-1), matrix.sum(-2)
  n = true.sum(-1)
  right = np.trace(matrix, axis1=-2, axis2=-1)
  covariance = right * n - (true * predicted).sum(-1)
  spread = [n**2 - (x**2).sum(-1) for x in (true, predicted)]
  return ratio(covariance, np.sqrt(spread[0] * spread[1]))


def cohen_kappa(matrix: Matrix, *, weights: str | None = None) -> Result:
  """Cohen's kappa, (*r,): agreement of two raters beyond chance.

  Of ordered classes, grades say, a disagreement weighs by how far apart they
  are: weights='linear', or 'quadratic' for the square (Cohen 1968). NaN where
  chance explains all: both always give one class. As scikit-learn's
  cohen_kappa_score.
  """
  if weights not in (None, 'linear', 'quadratic'):
    raise ValueError(f"weights is 'linear' or 'quadratic', not {weights!r}")
  matrix = _checked(matrix)
  index = np.arange(matrix.shape[-1])
  apart = np.abs(index[:, None] - index).astype(float)
  cost = {None: apart > 0, 'linear': apart, 'quadratic': apart**2}[weights]
  n = matrix.sum((-2, -1))
  chance = matrix.sum(-1)[..., :, None] * matrix.sum(-2)[..., None, :]
  seen, expected = ((m * cost).sum((-2, -1)) for m in (matrix, chance))
  return np.asarray(1 - ratio(seen * n, expected))
