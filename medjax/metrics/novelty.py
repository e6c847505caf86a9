"""How unlike the training a case is: scores of features; host, float64.

Larger is stranger. A score is fitted on the features of training cases, and
becomes a p value by its rank among validation cases: of cases like these, a
share of .05 has p ≤ .05. Scores of features are the defence; those of
probabilities (energy, msp) know little of what no class is like (OpenMIBOOD,
CVPR 2025, table 21).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float, Int

Features = Float[np.ndarray, 'n d']
SCORES = ('mahalanobis', 'knn', 'residual', 'vim', 'energy', 'msp')
OF_LOGITS = ('vim', 'energy', 'msp')
_NEIGHBOUR = 50  # the k of knn (Sun et al. 2022)
_KEPT = 0.95  # share of the variance that is no residual
_RIDGE = 1e-3  # of the mean variance, so that a covariance has an inverse


@dataclasses.dataclass(frozen=True)
class Fit:
  """What the scores know of the training cases.

  centre, scale: (d,) by which features are standardised.
  means: (c, d) of each class, or of all cases.
  precision: (d, d) of the features about their class's mean.
  nearest: (n, d) training features, standardised, of length 1.
  rest: (d, r) directions that hold the last 5 % of the variance.
  factor: of the residual in ViM, that makes it as large as the logits.
  """

  centre: np.ndarray
  scale: np.ndarray
  means: np.ndarray
  precision: np.ndarray
  nearest: np.ndarray
  rest: np.ndarray
  factor: float = 1.0


def fit(
  features: Features,
  *,
  label: Int[np.ndarray, 'n'] | None = None,
  logits: Float[np.ndarray, 'n k'] | None = None,
) -> Fit:
  """Fits all scores on training cases.

  Raises ValueError for features that are not finite, and for fewer than 10
  cases.
  """
  x = np.asarray(features, float)
  _check(x, 'a feature of a training case')
  if len(x) < 10:
    raise ValueError(f'{len(x)} training cases are too few to know others by')
  centre, scale = x.mean(0), x.std(0)
  # A feature that never varies says, where it does, that a case is strange.
  floor = max(1e-3 * float(np.median(scale)), 1e-6)
  scale = np.maximum(scale, floor)
  x = (x - centre) / scale
  label = np.zeros(len(x), int) if label is None else np.asarray(label)
  classes = np.unique(label)
  means = np.stack([x[label == c].mean(0) for c in classes])
  inside = x - means[np.searchsorted(classes, label)]
  covariance = inside.T @ inside / len(x)
  ridge = _RIDGE * np.trace(covariance) / len(covariance)
  precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
  values, vectors = np.linalg.eigh(x.T @ x / len(x))
  share = np.cumsum(values) / values.sum()
  rest = vectors[:, : max(1, int((share <= 1 - _KEPT).sum()))]
  factor = 1.0
  if logits is not None:
    residual = np.linalg.norm(x @ rest, axis=-1).mean()
    factor = float(np.abs(np.max(logits, -1)).mean() / max(residual, 1e-12))
  return Fit(centre, scale, means, precision, _unit(x), rest, factor)


def _unit(x):
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _check(x, what):
  if not np.isfinite(x).all():
    raise ValueError(
      f'{what} is NaN or infinite: is the image constant, or the model damaged?'
    )


def scores(
  fitted: Fit,
  features: Features,
  *,
  logits: Float[np.ndarray, 'n k'] | None = None,
  names: Sequence[str] = SCORES,
) -> dict[str, np.ndarray]:
  """{name: (n,)} of the scores; those of logits only where there are logits.

  mahalanobis: squared distance to the nearest class, covariance shared (Lee et
  al. 2018). knn: distance to the 50th nearest training case, of features of
  length 1 (Sun et al. 2022). residual: length outside of the directions that
  hold 95 % of the variance, vim the same with the energy (Wang et al. 2022).
  energy: −log Σ exp of the logits (Liu et al. 2020). msp: 1 − the largest
  probability (Hendrycks & Gimpel 2017).
  """
  x = np.asarray(features, float)
  _check(x, 'a feature')
  x = (x - fitted.centre) / fitted.scale
  residual = np.linalg.norm(x @ fitted.rest, axis=-1)
  functions = {
    'mahalanobis': lambda: _mahalanobis(fitted, x),
    'knn': lambda: _neighbour(fitted.nearest, _unit(x)),
    'residual': lambda: residual,
  }
  if logits is not None:
    logits = np.asarray(logits, float)
    _check(logits, 'a logit')
    energy = -scipy.special.logsumexp(logits, axis=-1)
    functions |= {
      'vim': lambda: fitted.factor * residual + energy,
      'energy': lambda: energy,
      'msp': lambda: 1 - scipy.special.softmax(logits, axis=-1).max(-1),
    }
  for name in names:
    if name not in SCORES:
      raise ValueError(f'score {name!r} is none of {", ".join(SCORES)}')
  return {name: functions[name]() for name in names if name in functions}


def _mahalanobis(fitted, x):
  away = x[:, None] - fitted.means
  each = np.einsum('ncd,de,nce->nc', away, fitted.precision, away)
  return each.min(-1)


def _neighbour(nearest, x, block=512):
  """Distance (n,) to the 50th nearest row of `nearest`, all of length 1."""
  k, found = min(_NEIGHBOUR, len(nearest)) - 1, []
  for start in range(0, len(x), block):
    alike = x[start : start + block] @ nearest.T
    kth = np.partition(-alike, k, -1)[:, k]
    found.append(np.sqrt(np.maximum(2 + 2 * kth, 0)))
  return np.concatenate(found) if found else np.zeros(0)


def p_values(
  known: Float[np.ndarray, 'm'], score: Float[np.ndarray, 'n']
) -> Float[np.ndarray, 'n']:
  """Share of known (validation) cases at least as strange, with itself.

  (1 + #{known ≥ score}) / (m + 1): of exchangeable cases P(p ≤ a) ≤ a.
  """
  known = np.sort(np.asarray(known, float))
  above = len(known) - np.searchsorted(known, score, side='left')
  return (1 + above) / (len(known) + 1)


def joint(p: Sequence[Float[np.ndarray, 'n']]) -> Float[np.ndarray, 'n']:
  """The smallest of several p values of a case, to be ranked in its turn."""
  return np.min(np.stack(list(p)), 0)


def joint_p_values(
  known: dict[str, np.ndarray], found: dict[str, np.ndarray]
) -> Float[np.ndarray, 'n']:
  """One p value (n,) of several scores: strange by any is strange.

  known, found: {name: scores} of validation cases and of others. The smallest p
  of a case is ranked among those of the validation cases, each of which is
  ranked among the others, so that no correction for several is needed.
  """
  own = []
  for score in known.values():
    rank = scipy.stats.rankdata(-np.asarray(score, float), method='max')
    own.append(rank / len(score))  # itself counted: as (1 + above) / (m)
  theirs = [p_values(known[name], found[name]) for name in known]
  return p_values(-joint(own), -joint(theirs))
