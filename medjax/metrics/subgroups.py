"""Scores by subgroup: gaps to the rest, and what so few cases could show; host.

A gap is a score of a group less that of all other cases. Its error is that of a
bootstrap by patient, p that of its t with the patients of the smaller side,
adjusted over all groups and scores together (Benjamini & Hochberg 1995). Where
all of a side do alike (20 of 20 are missed), no resample differs, though the
next patient may: its error is then half of Clopper & Pearson's interval.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy
from jaxtyping import Bool

from medjax.metrics import bootstrap
from medjax.metrics.paired import benjamini_hochberg

FEWEST = 10  # cases and patients of a group, or of the rest, that give a number
OF_A_CLASS = 5  # cases with and without the finding, likewise
# An adjusted p below it is a finding. A t of a share near 1 is a little bold:
# at .05 six of a hundred tables of equal groups showed one, at .03 under five.
_FOUND = 0.03
_NORMAL = scipy.special.ndtri(0.975)
# Standard errors of a gap that a test at .05 finds with 80 % power.
_POWER = _NORMAL + scipy.special.ndtri(0.8)
VERDICTS = ('lower', 'higher', 'no difference shown', 'too few')


@dataclasses.dataclass(frozen=True)
class Measured:
  """A score of a group beside that of the rest.

  value, rest: of the group and of all others; interval (2,) of the value.
  gap, gap_interval: value − rest. p, adjusted: of no gap; NaN: not tested.
  smallest: the gap that would be found four times in five.
  """

  value: float
  interval: tuple[float, float]
  rest: float
  gap: float
  gap_interval: tuple[float, float]
  p: float
  smallest: float
  adjusted: float = float('nan')


@dataclasses.dataclass(frozen=True)
class Group:
  """A group: its sizes, its scores by name ({} of too few), and a verdict."""

  attribute: str
  name: str
  n: int
  patients: int
  positives: int | None
  scores: Mapping[str, Measured]
  verdict: str


def compare(
  statistic: Callable[[np.ndarray], dict[str, np.ndarray]],
  groups: Mapping[tuple[str, str], Bool[np.ndarray, 'n']],
  patients: Sequence[str],
  *,
  tested: Mapping[str, bool],
  higher: Mapping[str, bool | None],
  positive: Bool[np.ndarray, 'n'] | None = None,
  n_resamples: int = 500,
  seed: int = 0,
) -> list[Group]:
  """Compares each group with all cases outside of it.

  statistic: weights (r, n) → {score: (r,)}, as of bootstrap.intervals.
  groups: (attribute, name) → its cases. tested: score → whether its gap is
  tested, or only shown: what depends on the size or the prevalence of a group
  is no finding. What is tested lies in 0 to 1. higher: score → whether more is
  better. positive: cases with the finding; a group with fewer than 5 with or
  without it is too small, as is one of fewer than 10 cases or patients, or one
  that leaves as few.
  """
  names, who = [*groups], np.asarray(patients)
  enough = [g for g in names if _enough(groups[g], who, positive)]
  table = {g: {} for g in enough}
  if enough:
    inside, outside = _resampled(
      statistic, [groups[g] for g in enough], who, tested, n_resamples, seed
    )
    for i, g in enumerate(enough):
      sides = groups[g], ~groups[g]
      few = min(len(set(who[side])) for side in sides)
      alike = [_alike(statistic, side, who, positive, tested) for side in sides]
      for score in tested:
        pair = inside[score][:, i], outside[score][:, i]
        doubts = [
          known[score] if tested[score] and _same(drawn[1:]) else 0.0
          for known, drawn in zip(alike, pair, strict=True)
        ]
        table[g][score] = _measured(*pair, doubts, tested[score], few)
  table = _adjusted(table)
  return [
    Group(
      *g,
      int(groups[g].sum()),
      len(set(who[groups[g]])),
      None if positive is None else int((groups[g] & positive).sum()),
      table.get(g, {}),
      _verdict(table[g], higher) if g in table else 'too few',
    )
    for g in names
  ]


def _enough(inside, patients, positive):
  for part in (inside, ~inside):
    if part.sum() < FEWEST or len(set(patients[part])) < FEWEST:
      return False
    for side in () if positive is None else (positive, ~positive):
      if (part & side).sum() < OF_A_CLASS:
        return False
  return True


def _resampled(statistic, groups, patients, scores, n_resamples, seed):
  """({score: (1 + r, g)} of the groups, and of the rests); all cases first."""
  ones = np.ones((1, len(patients)))
  blocks = [ones, *bootstrap.resamples(
    patients, n_resamples=n_resamples, seed=seed)]  # fmt: skip
  found = []
  for side in (lambda g: g, lambda g: ~g):
    parts = [[statistic(w * side(g)) for g in groups] for w in blocks]
    found.append(
      {
        score: np.concatenate(
          [np.stack([p[score] for p in block], -1) for block in parts]
        )
        for score in scores
      }
    )
  return found


def _same(drawn):
  """Whether a score is the same in all resamples that define it."""
  drawn = drawn[~np.isnan(drawn)]
  return len(drawn) > 0 and np.ptp(drawn) < 1e-9


def _alike(statistic, side, patients, positive, scores):
  """{score: how far from 1 it may be truly, all patients of a side having 1}.

  The end of the exact 95 % interval of n of n. Patients count with the cases
  that a score is of: those with the finding of sensitivity, say.
  """
  parts = [side] if positive is None else [side & positive, side & ~positive]
  with np.errstate(invalid='ignore', divide='ignore'):
    alone = statistic(np.array(parts, float))
  counts = np.array([len(set(patients[part])) for part in parts])
  found = {}
  for score in scores:
    # One that needs both kinds, as an area under the ROC, is of the fewer.
    own = counts[np.isfinite(alone[score])]
    n = own.sum() if len(own) else counts.min()
    found[score] = float(1 - 0.025 ** (1 / n))
  return found


def _measured(value, rest, doubts, tested, few):
  """doubts: what _alike says of each side whose resamples are all the same."""
  gap = value - rest
  drawn = gap[1:][~np.isnan(gap[1:])]
  error = float(drawn.std(ddof=1)) if len(drawn) > 1 else np.nan
  doubt = float(np.hypot(*doubts))
  error = float(np.hypot(error, doubt / _NORMAL))
  p = np.nan
  if tested and error > 0 and np.isfinite(gap[0]):
    p = float(2 * scipy.special.stdtr(few - 1, -abs(gap[0]) / error))
  return Measured(
    float(value[0]),
    _bounds(value[1:], doubts[0], 0.0),
    float(rest[0]),
    float(gap[0]),
    _bounds(gap[1:], doubt, -1.0),
    p,
    float(_POWER * error),
  )


def _bounds(drawn, doubt, least):
  """95 % of the resamples in which the score is defined, wider by a doubt.

  With one they end at `least` and 1, between which the score lies.
  """
  drawn = drawn[~np.isnan(drawn)]
  if not len(drawn):
    return (np.nan, np.nan)
  low, high = map(float, np.quantile(drawn, [0.025, 0.975]))
  if doubt:
    low, high = max(low - doubt, least), min(high + doubt, 1.0)
  return low, high


def _adjusted(table):
  places = [(g, score) for g in table for score in table[g]]
  p = benjamini_hochberg(np.array([table[g][s].p for g, s in places], float))
  for (g, score), value in zip(places, p, strict=True):
    one = dataclasses.replace(table[g][score], adjusted=float(value))
    table[g][score] = one
  return table


def _verdict(scores, higher):
  """'lower' where any score is found to be worse, whatever is better."""
  found = [
    (m.gap > 0) == higher[name]
    for name, m in scores.items()
    if m.adjusted < _FOUND and higher.get(name) is not None
  ]
  if not found:
    return 'no difference shown'
  return 'higher' if all(found) else 'lower'


def crossed(
  groups: Mapping[tuple[str, str], Bool[np.ndarray, 'n']],
) -> dict[tuple[str, str], Bool[np.ndarray, 'n']]:
  """The intersections of two groups of different attributes that have cases."""
  names = [g for g in groups if g[1] != 'unknown']
  return {
    (f'{a[0]} × {b[0]}', f'{a[1]}, {b[1]}'): groups[a] & groups[b]
    for i, a in enumerate(names)
    for b in names[i + 1 :]
    if a[0] != b[0] and (groups[a] & groups[b]).any()
  }
