"""Losses without labels: of embeddings of two views, and of hidden blocks.

Rows of `a` and `b` (n, d) are two views of the same image, in the same order.
Losses are per image, (n,), to be averaged over the batch; what is one number of
the batch is given to each. All are float32. Under `jit` over a mesh n is that
of the global batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.ops.normalization import unit

_Any = Array | np.ndarray
Rows = Float[_Any, 'n d']
Queue = Float[_Any, 'q d']
Each = Float[Array, 'n']

_LOW = -1e9  # the logit of what is no candidate
_EPSILON = 1e-4  # of variances, as in VICReg


def contrast(
  query: Rows,
  keys: Rows,
  others: Rows,
  *,
  temperature=0.2,
  queue: Queue | None = None,
  filled=None,
) -> Each:
  """Cross-entropy of finding a query's own key among all candidates.

  InfoNCE (van den Oord et al. 2018) of cosines over temperature. The key of
  query i is keys[i]; candidates are all keys, those of `others`, the queries'
  own view, but the i-th, and the first `filled` rows of `queue`, by default
  all of them.
  """
  query, keys, others = map(unit, (query, keys, others))
  dot = lambda other: jnp.matmul(query, other.T, precision='highest')
  positive = dot(keys)
  own = jnp.where(jnp.eye(len(query), dtype=bool), _LOW, dot(others))
  logits = [positive / temperature, own / temperature]
  if queue is not None and len(queue):
    known = jnp.arange(len(queue)) < (len(queue) if filled is None else filled)
    logits.append(jnp.where(known, dot(unit(queue)) / temperature, _LOW))
  total = jax.nn.logsumexp(jnp.concatenate(logits, 1), 1)
  return total - jnp.diag(positive) / temperature


def nt_xent(a: Rows, b: Rows, *, temperature=0.2) -> Each:
  """NT-Xent of SimCLR (Chen et al. 2020, equation 1).

  The mean over an image's two views; candidates of a view are the 2n − 1 other
  views of the batch.
  """
  options = dict(temperature=temperature)
  return (contrast(a, b, a, **options) + contrast(b, a, b, **options)) / 2


def cosine_distance(a: Rows, b: Rows) -> Each:
  """2 − 2 cos(a, b), the squared distance of unit vectors.

  Of BYOL (Grill et al. 2020, equation 2).
  """
  return 2 - 2 * (unit(a) * unit(b)).sum(-1)


def vicreg(
  a: Rows, b: Rows, *, invariance=25.0, variance=25.0, covariance=1.0
) -> Each:
  """Distance of views, spread of each dimension, and no two alike.

  VICReg (Bardes et al. 2022, equations 1 to 6): the squared distance is a mean
  over dimensions; a standard deviation below 1 costs what it lacks; covariances
  are squared, their sum divided by d. Of the second the mean over views counts,
  of the third the sum, as in the authors' code.
  """
  a, b = (jnp.asarray(x, jnp.float32) for x in (a, b))
  distance = ((a - b) ** 2).mean(-1)
  spread = jnp.mean(_lacking(a) + _lacking(b)) / 2
  alike = _off_diagonal(_covariance(a)) + _off_diagonal(_covariance(b))
  return (
    invariance * distance + variance * spread + covariance * alike / a.shape[1]
  )


def _covariance(x):
  x = x - x.mean(0)
  return jnp.matmul(x.T, x, precision='highest') / max(len(x) - 1, 1)


def _lacking(x):
  deviation = jnp.sqrt(x.var(0, ddof=1 if len(x) > 1 else 0) + _EPSILON)
  return jnp.maximum(1 - deviation, 0)


def _off_diagonal(matrix):
  """Sum of the squares off the diagonal."""
  return (jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix) ** 2).sum()


def barlow_twins(a: Rows, b: Rows, *, redundancy=5e-3) -> Each:
  """Correlations across views: 1 of a dimension with itself, 0 with others.

  Zbontar et al. 2021, equation 1: dimensions are standardised over the batch.
  """
  a, b = map(_standardised, (a, b))
  found = jnp.matmul(a.T, b, precision='highest') / len(a)
  loss = ((1 - jnp.diag(found)) ** 2).sum() + redundancy * _off_diagonal(found)
  return jnp.full(len(a), loss)


def _standardised(x):
  x = jnp.asarray(x, jnp.float32)
  return (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + 1e-5)


def distillation(
  student: Rows,
  teacher: Rows,
  centre: Float[_Any, 'd'],
  *,
  student_temperature=0.1,
  teacher_temperature=0.04,
) -> Each:
  """Cross-entropy of the student's distribution and the centred teacher's.

  DINO (Caron et al. 2021, algorithm 1), of one pair of views. Rows are logits.
  """
  student, teacher = (jnp.asarray(x, jnp.float32) for x in (student, teacher))
  target = jax.nn.softmax((teacher - centre) / teacher_temperature)
  return -(target * jax.nn.log_softmax(student / student_temperature)).sum(-1)


def hidden_blocks(
  predicted: Float[_Any, 'n blocks voxels'],
  target: Float[_Any, 'n blocks voxels'],
  hidden: Bool[_Any, 'n blocks'],
  *,
  normalise=True,
) -> Each:
  """Mean squared error of the hidden blocks of each image.

  MAE (He et al. 2022, section 3): with `normalise` of blocks whose mean is 0
  and whose variance is 1; one of a single value is then 0. An image of which
  nothing is hidden has loss 0.
  """
  predicted, target = (jnp.asarray(x, jnp.float32) for x in (predicted, target))
  if normalise:
    variance = target.var(-1, keepdims=True)
    target = target - target.mean(-1, keepdims=True)
    target = target * jax.lax.rsqrt(variance + 1e-6)
  error = ((predicted - target) ** 2).mean(-1)
  count = jnp.maximum(hidden.sum(-1), 1)
  return jnp.where(hidden, error, 0).sum(-1) / count
