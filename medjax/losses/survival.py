"""Losses of survival: per case, (b,), to be averaged over the batch.

A case has a `time` > 0 and an `event`, 0 if it is censored. `valid` (b,) says
which cases count; the others are in no risk set. Partial likelihoods are of the
whole batch: its cases at risk are the risk set.

The sum of `cox` is minus the log partial likelihood of R's coxph.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_Any = Array | np.ndarray
Numbers = Float[_Any, 'b']
Matrix = Float[_Any, 'b m']
Counts = Int[_Any, 'b']
Truths = Bool[_Any, 'b']

_LOW = -1e9  # the log risk of who is in no risk set
_TINY = 1e-7


def cox(
  risk: Numbers,
  time: Numbers,
  event: Truths,
  valid: Truths,
  *,
  ties: str = 'efron',
) -> Float[Array, 'b']:
  """Minus the log partial likelihood, in the terms of each case; Cox 1972.

  risk: log hazards. ties: 'efron' (1977), or 'breslow' (1974). In b log b
  steps.
  """
  hit = event & valid
  order = jnp.argsort(time)
  t, d = time[order], hit[order]
  r = jnp.where(valid, risk, _LOW)[order]
  first = jnp.searchsorted(t, t, side='left')
  at_risk = jax.lax.cumlogsumexp(r, reverse=True)[first]
  if ties == 'efron':
    # Of the events at one time the k-th sees k/d of them gone.
    share = jnp.where(d, jnp.exp(r - at_risk), 0.0)
    count = d.astype(r.dtype)
    last = jnp.searchsorted(t, t, side='right') - 1
    total = _of_group(share, first, last)
    events = jnp.maximum(_of_group(count, first, last), 1)
    before = jnp.cumsum(count) - count
    place = before - before[first]
    # Of one event alone nothing is taken away, and nothing may be.
    gone = jnp.minimum(place / events * total, 1 - _TINY)
    at_risk = at_risk + jnp.log1p(-gone)
  each = jnp.where(d, at_risk - r, 0.0)
  return jnp.zeros_like(each).at[order].set(each)


def _of_group(x, first, last):
  """The sum over the cases of one time, at each of them."""
  total = jnp.cumsum(x)
  return total[last] - total[first] + x[first]


def cox_time(
  risk: Matrix,
  time: Numbers,
  event: Truths,
  valid: Truths,
) -> Float[Array, 'b']:
  """As `cox` of risks that change in time, by some of those at risk.

  Case i is compared with itself and with the m − 1 cases after it in the batch,
  as far as they are at risk: batches are shuffled, so these are drawn at random
  (Cox-Time, Kvamme et al. 2019). risk[j, s]: of case j at the time of the case
  s places before it, `earlier_times`. With m = b it is the partial likelihood
  of the batch. Ties as Breslow.
  """
  b, m = risk.shape
  shift = jnp.arange(m)
  other = (jnp.arange(b)[:, None] + shift) % b
  still = (time[other] >= time[:, None]) & valid[other]
  drawn = jnp.where(still, risk[other, shift], _LOW)
  at_risk = jax.nn.logsumexp(drawn, 1)
  return jnp.where(event & valid, at_risk - risk[:, 0], 0.0)


def earlier_times(time: Numbers, m: int) -> Matrix:
  """The times at which `cox_time` wants the risks of each case."""
  place = jnp.arange(len(time))[:, None] - jnp.arange(m)
  return time[place % len(time)]


def logistic_hazard(
  logits: Matrix, survived: Counts, event: Truths
) -> Float[Array, 'b']:
  """Discrete time: cross-entropy of the hazard of each interval lived in.

  survived: intervals outlived; an event is in the next one (Gensheimer &
  Narasimhan 2019). Of one interval it is the binary cross-entropy.
  """
  place = jnp.arange(logits.shape[1])
  lived = place < survived[:, None]
  here = (place == survived[:, None]) & event[:, None]
  alive = jnp.where(lived, jax.nn.softplus(logits), 0.0)
  return (alive + jnp.where(here, jax.nn.softplus(-logits), 0.0)).sum(1)


def deephit(
  logits: Matrix,
  survived: Counts,
  event: Counts,
  valid: Truths,
  *,
  causes: int,
  alpha: float = 0.2,
  sigma: float = 0.1,
) -> Float[Array, 'b']:
  """alpha · likelihood + (1 − alpha) · ranking; Lee et al. 2018.

  logits: of each cause and interval, and of none of them: (b, causes · t + 1).
  Ranking: who has the event had the higher incidence by then, of all that live
  on; exp(−difference / sigma), its mean over all pairs of valid cases.
  """
  p = jax.nn.softmax(logits, -1)
  mass = p[:, :-1].reshape(len(p), causes, -1)
  place = jnp.arange(mass.shape[2])
  hit = (event[:, None] == 1 + jnp.arange(causes)) & valid[:, None]
  own = ((place == survived[:, None])[:, None] & hit[:, :, None]) * mass
  lived = (place < survived[:, None])[:, None] * mass
  likelihood = jnp.where(hit.any(1), own.sum((1, 2)), 1 - lived.sum((1, 2)))
  likelihood = -jnp.log(jnp.maximum(likelihood, _TINY))
  # [i, j, k]: incidence of cause k in case j by the interval of case i.
  by = (place <= survived[:, None]).astype(mass.dtype)
  incidence = jnp.einsum('it,jkt->ijk', by, mass)
  itself = jnp.einsum('iik->ik', incidence)[:, None]
  later = (survived[:, None] < survived[None]) & valid[None]
  pairs = later[:, :, None] & hit[:, None]
  rank = jnp.where(pairs, jnp.exp((incidence - itself) / sigma), 0.0)
  rank = rank.sum((1, 2)) / jnp.maximum(valid.sum(), 1)
  return jnp.where(valid, alpha * likelihood, 0.0) + (1 - alpha) * rank
