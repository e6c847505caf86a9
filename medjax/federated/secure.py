"""Secure aggregation: what may be summed, and the arithmetic of the sum.

The protocol is Flower's SecAgg+ (Bell et al. 2020); this is the guard around
it. Sites send steps, w − w₀, of a range that is declared; Flower would clip
what lies outside, and add in 32 bits where it is not told otherwise.
"""

import dataclasses

import numpy as np

WIDTH = 48  # bits of the sum, the fewest that are allowed


@dataclasses.dataclass(frozen=True)
class Range:
  """What sites declare: steps lie in ±limit, and have at most `most` cases.

  levels: into which the range is divided; width: bits of the sum.

  Raises ValueError for what could overflow, or be clipped.
  """

  limit: float
  most: int
  levels: int = 2**26
  width: int = WIDTH

  def __post_init__(self):
    if not (self.limit > 0 and np.isfinite(self.limit)):
      raise ValueError(f'secure aggregation: a range of ±{self.limit}')
    if self.width < WIDTH:
      raise ValueError(
        f'secure aggregation: a sum of {self.width} bits overflows: {WIDTH} or '
        'more'
      )
    if self.width > 62 or not 2 <= self.levels < 2**31 or self.most < 1:
      raise ValueError('secure aggregation: levels < 2³¹, width ≤ 62, most ≥ 1')

  def check(self, leaves, n):
    """Raises ValueError for steps or a number of cases outside the range."""
    if not 0 < n <= self.most:
      raise ValueError(
        f'has {n} cases, more than the {self.most} that were declared'
      )
    for path, leaf in leaves.items():
      largest = np.abs(leaf).max(initial=0.0)
      if not largest <= self.limit:  # NaN too
        raise ValueError(
          f'moved {path} by {largest:.3g}, beyond the declared '
          f'±{self.limit:g}: a larger --range, or optimizer.clip_norm'
        )

  def check_sum(self, sites):
    """Raises ValueError where a sum over so many sites could overflow."""
    if sites * (self.levels + 1) >= 2**self.width:
      raise ValueError(
        f'secure aggregation: {sites} sites of {self.levels} levels overflow '
        f'{self.width} bits'
      )

  def step(self, ns):
    """The largest error of a mean over sites of `ns` cases.

    A level of each site, and the rounding of their weights.
    """
    levels, shares = 2 * self.limit / self.levels, sum(ns) / self.most
    weights = len(ns) * self.limit / self.levels
    return (len(ns) * levels + 2 * weights) / shares


def means(declared, sent, *, seed):
  """A function of replies that gives their mean leaves as `mean_of` would.

  sent: {path: array} that the sites began with. It raises ValueError for a step
  outside the range.
  """

  def mean(replies):
    steps = [
      {path: np.subtract(leaf, sent[path], dtype=np.float64)
       for path, leaf in reply.leaves.items()}
      for reply in replies
    ]  # fmt: skip
    found = mean_of(
      steps, [reply.n for reply in replies], declared,
      rng=np.random.default_rng(seed),
    )  # fmt: skip
    return {k: (sent[k] + v).astype(sent[k].dtype) for k, v in found.items()}

  return mean


def mean_of(steps, ns, declared, *, rng):
  """The mean of steps by cases as SecAgg+ finds it, without its masks.

  steps: [{path: array}] of the sites; ns: their cases. Weighted steps are
  rounded to levels at random, as integers; masks would cancel in their sum.
  """
  declared.check_sum(len(ns))
  total, weight = {}, 0
  scale = declared.levels / (2 * declared.limit)
  for leaves, n in zip(steps, ns, strict=True):
    declared.check(leaves, n)
    level = round(n / declared.most * declared.levels)
    weight += level
    for path, leaf in leaves.items():
      scaled = np.asarray(leaf, np.float64) * (level / declared.levels)
      exact = (scaled + declared.limit) * scale
      whole = np.floor(exact + rng.random(exact.shape)).astype(np.int64)
      total[path] = total.get(path, 0) + whole
  mask = (1 << declared.width) - 1
  return {
    path: ((whole & mask) / scale - len(ns) * declared.limit)
    * declared.levels
    / weight
    for path, whole in total.items()
  }
