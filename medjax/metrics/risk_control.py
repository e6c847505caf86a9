"""Thresholds that keep a risk below a bound, with a stated confidence; host.

A risk lies in [0, 1] and is a mean over cases: the share of a lesion's voxels
that is missed, an error among those answered. Its mean on the validation cases
may be luck; what is controlled is its expectation (Bates et al. 2021, risk-
controlling prediction sets; Angelopoulos et al. 2021, learn then test).
"""

import numpy as np
import scipy
from jaxtyping import Bool, Float

# Thresholds of a probability at which risks are measured: even in the logit.
THRESHOLDS = 1 / (1 + np.exp(-np.linspace(-10, 5, 76)))
CONFIDENCE = 0.9  # with which a risk is kept, unless said otherwise


def p_value(risk, n, *, bound):
  """p of a mean `risk` of n cases, if the true one were `bound` or more.

  Hoeffding and Bentkus, the smaller of the two: valid for any risk in [0, 1]
  (Bates et al. 2021, section 3.1). risk and n are numbers or (t,).
  """
  risk, n = np.asarray(risk, float), np.asarray(n, float)
  if not 0 < bound < 1:
    raise ValueError(f'a bound of risk lies between 0 and 1, not {bound}')
  low = np.clip(np.minimum(risk, bound), 0, 1)
  kl = scipy.special.xlogy(low, low / bound)
  kl = kl + scipy.special.xlogy(1 - low, (1 - low) / (1 - bound))
  # ⌈n · risk⌉, from which rounding takes nothing.
  failed = np.ceil(np.round(n * risk, 9))
  bentkus = np.e * scipy.stats.binom.cdf(failed, n, bound)
  return np.minimum(np.minimum(np.exp(-n * kl), bentkus), 1.0)


def largest(risk, n, *, bound, confidence=CONFIDENCE) -> int | None:
  """Index of the last threshold up to which the risk is kept; None: of none.

  risk (t,) are means of n cases, at thresholds in order of growing risk. They
  are tested one after the other, up to the first at which the risk may be above
  the bound: with probability `confidence` the true risk there is no larger.
  """
  if not 0 < confidence < 1:
    raise ValueError(f'confidence lies between 0 and 1, not {confidence}')
  passed = p_value(risk, n, bound=bound) <= 1 - confidence
  count = int(np.argmin(passed)) if not passed.all() else len(passed)
  return count - 1 if count else None


def fewest(bound, confidence=CONFIDENCE) -> int:
  """Cases below which no risk, not even none, can be shown to be kept."""
  return int(np.ceil(np.log(1 - confidence) / np.log(1 - bound) - 1e-9))


def missed(
  probability: Float[np.ndarray, '*s k'], reference: Bool[np.ndarray, '*s k']
) -> Float[np.ndarray, 'k t']:
  """Share of the reference below each of THRESHOLDS: (k, t); NaN without any.

  The false-negative rate of what is found at a threshold or above.
  """
  columns = []
  for k in range(probability.shape[-1]):
    inside = np.asarray(probability[..., k])[np.asarray(reference[..., k])]
    below = np.searchsorted(np.sort(inside), THRESHOLDS, side='left')
    columns.append(below / inside.size if inside.size else np.full(76, np.nan))
  return np.stack(columns)
