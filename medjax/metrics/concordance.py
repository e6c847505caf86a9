"""Concordance: does who has the event earlier have the higher risk?

There are several, and on the same data they differ by up to .04. Each result
says which it is: `about` holds the horizon tau, the sample that the censoring
distribution is of, how ties count, and how many pairs were used and dropped.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.metrics.bootstrap import ratio
from medjax.metrics.survival_curves import Curve, censoring, checked

_SAME = 1e-8  # risks that differ by less are tied
_TIES = 'tied risks count 1/2; at one time an event comes before a censoring'


class Score(NamedTuple):
  """A value, and what one must know to compare it with another's."""

  value: float
  about: dict


class Pairs(NamedTuple):
  """Who is compared with whom: of the pair (i, j), i has the event first.

  weight: (n, n), 0 where the pair is not compared; better: (n, n), 1 where i
  has the higher risk, 1/2 where they are tied.
  """

  weight: Float[np.ndarray, 'n n']
  better: Float[np.ndarray, 'n n']

  def mean(self, weights=None):
    """Weighted share of better pairs, (*r,) of case weights (*r, n).

    NaN where nothing is compared.
    """
    won = self.weight * self.better
    if weights is None:
      return ratio(won.sum(dtype=float), self.weight.sum(dtype=float))
    w = np.asarray(weights, won.dtype)
    parts = [((w @ m) * w).sum(-1, dtype=float) for m in (won, self.weight)]
    return ratio(*parts)


def comparable(
  time, event, *, cause=1, tau=None, strict=False
) -> Bool[np.ndarray, 'n n']:
  """Pairs (i, j) in which i surely has the event of this cause before j.

  j is still without event when i has it, or is censored at that very time.
  Who had another cause's event never has this one, and is compared with all
  (Wolbers et al. 2014). tau: only events before it. strict: nobody is compared
  with whom he shares his time (R's survC1).
  """
  time, event = checked(time, event)
  first = event == cause
  if tau is not None:
    first &= time < tau
  later = time[:, None] < time[None]
  if not strict:
    later |= (time[:, None] == time[None]) & (event == 0)[None]
  later |= ((event != cause) & (event > 0))[None]
  np.fill_diagonal(later, False)
  return first[:, None] & later


def _better(risk):
  difference = risk[:, None] - risk[None]
  tied = np.abs(difference) <= _SAME
  return np.where(tied, 0.5, difference > 0).astype(np.float32)


def harrell_pairs(time, event, risk, *, cause=1, tau=None) -> Pairs:
  """The pairs of `harrell`."""
  pairs = comparable(time, event, cause=cause, tau=tau)
  return Pairs(pairs.astype(np.float32), _better(np.asarray(risk, float)))


def harrell(time, event, risk, *, cause=1, tau=None) -> Score:
  """Harrell's C of risks (n,): higher is earlier. 1982; as R's survival.

  It depends on how cases were censored. NaN without a pair.
  """
  pairs = harrell_pairs(time, event, risk, cause=cause, tau=tau)
  return Score(float(pairs.mean()), _about(pairs, time, tau))


def uno_pairs(
  time, event, risk, *, censored: Curve | None = None, **which
) -> Pairs:
  """The pairs of `uno`, weighted by the inverse square of G.

  Of who had another cause before, only up to then: 1 / (G(t_i) G(t_j)) (Wolbers
  et al. 2014).
  """
  time, event = checked(time, event)
  pairs = comparable(time, event, **which)
  g = (censored or censoring(time, event)).at(time)
  inverse = 1 / np.where(g > 0, g, np.nan)
  # Of two who were seen: to the earlier of their times.
  earlier = np.minimum(time[:, None], time[None]) == time[None]
  other = np.where(earlier, inverse[None], inverse[:, None])
  # Who cannot be weighted contributes no pair; `about` counts them.
  weight = np.nan_to_num(pairs * inverse[:, None] * other).astype(np.float32)
  return Pairs(weight, _better(np.asarray(risk, float)))


def uno(
  time,
  event,
  risk,
  *,
  cause=1,
  tau=None,
  strict=False,
  censored: Curve | None = None,
  censoring_from='these cases',
) -> Score:
  """Uno's C (2011): pairs are weighted so that censoring cancels out.

  censored: G, of `survival_curves.censoring`; by default of these cases. An
  event where G is 0 is dropped, and counted.
  """
  which = {'cause': cause, 'tau': tau, 'strict': strict}
  pairs = uno_pairs(time, event, risk, censored=censored, **which)
  about = _about(pairs, time, tau)
  about['censoring_from'] = censoring_from
  if strict:
    about['ties'] = 'tied risks count 1/2; cases of one time are not compared'
  return Score(float(pairs.mean()), about)


def antolini_pairs(time, event, survival, grid, *, cause=1) -> Pairs:
  """The pairs of `antolini`."""
  time, event = checked(time, event)
  curves = at_times(survival, grid, time)  # [i, j]: S(t_j | x_i)
  own = np.diag(curves)[:, None]
  difference = curves.T - own  # [i, j]: S(t_i | x_j) − S(t_i | x_i)
  better = np.where(np.abs(difference) <= 1e-12, 0.5, difference > 0)
  pairs = comparable(time, event, cause=cause)
  return Pairs(pairs.astype(np.float32), better.astype(np.float32))


def antolini(time, event, survival, grid, *, cause=1) -> Score:
  """Antolini's C (2005) of curves (n, m) at times `grid` (m,).

  Of a pair, is the survival of who has the event lower at that very time? For
  proportional hazards it is Harrell's. Between the times of the grid curves
  are straight. Where risks compete, `survival` is 1 − the cause's incidence.
  """
  pairs = antolini_pairs(time, event, survival, grid, cause=cause)
  about = _about(pairs, time, None)
  about['ties'] = _TIES.replace('risks', 'survivals')
  return Score(float(pairs.mean()), about)


def at_times(survival, grid, time) -> Float[np.ndarray, 'n k']:
  """Curves (n, m) on `grid` (m,) at other times (k,): straight between.

  1 at time 0; after the last time of the grid they stay as they are there.
  """
  survival, grid = np.asarray(survival, float), np.asarray(grid, float)
  times = np.concatenate([[0.0], grid])
  values = np.concatenate([np.ones((len(survival), 1)), survival], 1)
  right = np.clip(np.searchsorted(times, time, side='left'), 1, len(grid))
  width = times[right] - times[right - 1]
  share = np.clip((time - times[right - 1]) / width, 0, 1)
  return values[:, right - 1] * (1 - share) + values[:, right] * share


def _about(pairs, time, tau):
  n, used = len(time), int((pairs.weight > 0).sum())
  return {
    'tau': None if tau is None else float(tau),
    'censoring_from': 'not used',
    'ties': _TIES,
    'n_pairs': used,
    # Of all pairs that a full follow-up would have compared.
    'n_dropped': n * (n - 1) // 2 - used,
  }
