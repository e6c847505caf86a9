"""What embeddings say of labels that they were not trained on; host, float64.

Embeddings are (n, d), labels (n,) class indices, or (n, K) of several labels
that may be present together. Probabilities are (m, K).
"""

import numpy as np
import scipy  # its optimize takes a quarter of a second: not before it is used

from medjax.metrics import embeddings
from medjax.metrics.classification import one_hot


def targets(label, num_classes):
  """Labels as one column per class, float64."""
  label = np.asarray(label)
  found = one_hot(label, num_classes) if label.ndim == 1 else label
  return np.asarray(found, np.float64)


def linear(known, label, asked, *, num_classes, cost=1.0):
  """Probabilities of `asked` by a logistic regression on `known`.

  Of embeddings standardised by those known. The penalty is half the sum of the
  squared weights, without the intercept, for `cost` times the sum of the
  losses: scikit-learn's LogisticRegression(C=cost).
  """
  known, asked = (np.asarray(x, np.float64) for x in (known, asked))
  target, exclusive = targets(label, num_classes), np.ndim(label) == 1
  mean, spread = known.mean(0), known.std(0)
  spread = np.where(spread > 1e-12 * (1 + np.abs(mean)), spread, 1.0)
  known, asked = (known - mean) / spread, (asked - mean) / spread

  def read(flat):
    weights = flat.reshape(known.shape[1] + 1, num_classes)
    return weights[:-1], weights[-1]

  def objective(flat):
    weights, bias = read(flat)
    logits = known @ weights + bias
    if exclusive:
      total = scipy.special.logsumexp(logits, 1, keepdims=True)
      loss, p = ((total - logits) * target).sum(), np.exp(logits - total)
    else:
      loss = (np.logaddexp(0, logits) - target * logits).sum()
      p = scipy.special.expit(logits)
    residual = cost * (p - target)
    slope = np.vstack([known.T @ residual + weights, residual.sum(0)])
    return cost * loss + (weights**2).sum() / 2, slope.ravel()

  start = np.zeros((known.shape[1] + 1) * num_classes)
  found = scipy.optimize.minimize(
    objective, start, jac=True, method='L-BFGS-B', options={'maxiter': 500}
  )
  weights, bias = read(found.x)
  logits = asked @ weights + bias
  if exclusive:
    return scipy.special.softmax(logits, 1)
  return scipy.special.expit(logits)


def nearest(known, label, asked, *, num_classes, count=20, temperature=0.07):
  """Probabilities of `asked` by the `count` nearest of `known`.

  By the cosine of embeddings less the mean of those known; a neighbour's vote
  is exp(cosine / temperature), as in Wu et al. 2018 (section 3.4) and DINO.
  """
  near, cosine = embeddings.nearest(asked, known, count)
  vote = np.exp((cosine - 1) / temperature)
  found = (vote[..., None] * targets(label, num_classes)[near]).sum(1)
  return found / vote.sum(1, keepdims=True)


def spread(x):
  """How far apart rows (n, d) point: 0 if all alike, 1 if evenly everywhere.

  √d times the mean over dimensions of the standard deviation of rows of length
  1 (Chen & He 2021, section 4.1). NaN of fewer than two rows.
  """
  if len(x) < 2:
    return float('nan')
  x = embeddings.unit(np.asarray(x, np.float64))
  return float(np.sqrt(x.shape[1]) * x.std(0).mean())


def effective_rank(x):
  """exp of the entropy of the singular values of rows (n, d), less their mean.

  How many dimensions are in use (Roy & Vetterli 2007). NaN where all rows are
  alike.
  """
  x = np.asarray(x, np.float64)
  values = np.linalg.svd(x - x.mean(0), compute_uv=False)
  if not values.sum() > 1e-12 * (1 + np.abs(x).sum()):
    return float('nan')
  p = values / values.sum()
  return float(np.exp(scipy.special.entr(p).sum()))
