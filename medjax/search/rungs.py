"""Steps at which trials are compared, and who goes on: asynchronous halving.

Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), MLSys
2020: a trial that is among the best 1/η of those at its rung goes on to the
next; whoever asks for work promotes first, and begins a new trial else.
"""


def rungs(steps, *, count=1, eta=3):
  """The steps of `count` rungs, each η times the one before; the last is all.

  Raises ValueError where the first would have no step.
  """
  check(eta)
  found = [round(steps / eta**k) for k in reversed(range(count))]
  if count < 1 or found[0] < 1 or len({*found}) < count:
    raise ValueError(
      f'{count} rungs of a run of {steps} steps, each {eta} times the one '
      'before, leave the first without a step: take fewer'
    )
  return tuple(found)


def check(eta):
  """Raises ValueError for an η that leaves nobody behind."""
  if eta < 2:
    raise ValueError(f'--eta={eta}: one in so many goes on; give 2 or more')


def promoted(values, *, eta=3):
  """The keys of {key: value} that are among the best 1/η, the best first."""
  order = sorted(values, key=lambda k: (-values[k], k))
  return order[: len(order) // eta]


def candidate(trials, levels, *, eta=3):
  """(trial, its next rung) of the first that may go on, None for nobody.

  trials: objects with `number`, `values` {rung: score} and `is_free`. From the
  highest rung down, so that what is nearly done is done.
  """
  for k in reversed(range(len(levels) - 1)):
    here, there = levels[k], levels[k + 1]
    scored = {t.number: t.values[here] for t in trials if here in t.values}
    best = promoted(scored, eta=eta)
    by_number = {t.number: t for t in trials}
    for number in best:
      trial = by_number[number]
      if trial.is_free and there not in trial.values:
        return trial, there
  return None


def foremost(trials, levels):
  """(trial, its next rung) of the best at the highest rung, None for nobody."""
  free = [t for t in trials if t.is_free and t.values]
  if not free:
    return None
  trial = max(free, key=lambda t: (max(t.values), t.value, -t.number))
  return trial, levels[levels.index(max(trial.values)) + 1]
