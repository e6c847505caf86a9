"""A population: trials that fall behind go on from the weights of those ahead.

Jaderberg et al., Population Based Training of Neural Networks, 2017. What a
rate should be changes while a network trains: a population finds a schedule.
All are compared at the same steps, in generations, so that what is found does
not depend on who was killed or on how many processes work.
"""

import itertools
import shutil

import numpy as np

from medjax.search import ledger, space

_FACTORS = 0.8, 1.2  # of a number that is changed
_ANEW = 0.25  # chance of a parameter to be drawn anew
_TAKEN = 'checkpoints', 'metrics.jsonl'


def levels(steps, *, count):
  """The steps at which a population is compared; the last is all of them.

  Raises ValueError where it would never be, or more often than it has steps.
  """
  if count < 2 or count > steps:
    raise ValueError(
      f'--population compares its trials on the way, 2 to {steps} times in '
      f'{steps} steps: --rungs={count} is not'
    )
  return tuple(round(steps * (k + 1) / count) for k in range(count))


def check(config, draw):
  """Raises ValueError for a space of runs that cannot share their weights.

  draw(seed) → overrides. What the weights and the optimizer's state depend on
  must not differ, nor a part of them be absent in some, as at an average of 0;
  nor may a run end before its next comparison, or spend a budget.
  """
  first = None
  for seed in range(space.DRAWS):
    made = space.configured(config, draw(seed))
    for field, value in (
      ('train.patience', made.train.patience),
      ('privacy.epsilon', made.privacy.epsilon),
    ):
      if value:
        raise ValueError(
          f'--population: {field}={value}, but all are compared at the same '
          'steps, and a successor goes on with weights that it did not train: '
          f'set {field}=0, or search without --population'
        )
    now = _shape(made)
    first = first or now
    for field in first.keys() | now.keys():
      if first.get(field) != now.get(field):
        raise ValueError(
          f'--population: {field} differs between trials in what they keep '
          '(another model or optimizer, or a part that only some have, as '
          'train.ema_decay=0 and 0.9), and one could not go on from the '
          'weights of another: leave it out of the space, or search without '
          '--population'
        )


def _shape(config):
  """{field: value} of what the state of a run depends on."""
  said = {
    'model': config.model.to_dict(),
    'adapt': config.adapt.to_dict(),
    'data.preprocess': config.data.preprocess,
    'train.ema_decay': bool(config.train.ema_decay),
  }
  for name, value in config.optimizer.items():
    is_number = isinstance(value, int | float)
    said[f'optimizer.{name}'] = bool(value) if is_number else value
  return said


def job(workdir, trials, study, found, *, size, steps, eta, seed):
  """((trial, step to go on to) or None, whether others are at work).

  found: the space. A generation is compared when all of it have come to a step;
  before anyone goes on, those behind are succeeded by trials that begin with
  the state of one ahead.
  """
  group = [t for t in trials if t.parent is None]
  number = ledger.following(trials)
  if len(group) < size:
    overrides, params = study.suggest(number, found)
    return (ledger.Trial(number, overrides, params), steps[0]), True
  running = any(t.state == 'running' for t in trials)
  for here, there in itertools.pairwise(steps):
    if not all(t.state == 'failed' or here in t.values for t in group):
      return None, running
    ahead, behind = compared(group, here, eta=eta)
    born = [t for t in trials if t.parent is not None and t.since == here]
    # Of those who have gone on the state of this step is no longer there: whose
    # folder was deleted since is not succeeded again.
    ahead = [t for t in ahead if t.aim == here]
    for _ in behind[len(born) :] if ahead else ():
      born.append(
        _successor(workdir, number, ahead, here, there, study, found, seed)
      )
      number += 1
    group = [t for t in group if t not in behind] + born
    for trial in group:
      if trial.is_free and there not in trial.values:
        return (trial, there), True
  return None, running


def compared(trials, step, *, eta):
  """(those ahead, those behind) at a step: the best and the worst 1/η.

  At least one each, the best first. Who has failed before it is behind.
  """
  scored = [t for t in trials if step in t.values]
  scored.sort(key=lambda t: (-t.values[step], t.number))
  count = max(len(scored) // eta, 1)
  ahead = scored[:count]
  behind = [t for t in scored[-count:] if t not in ahead]
  return ahead, behind + [t for t in trials if step not in t.values]


def _successor(workdir, number, ahead, here, there, study, found, seed):
  """A new trial with the state of one ahead, and other parameters."""
  rng = np.random.default_rng((seed, number))
  parent = ahead[rng.integers(len(ahead))]
  fixed = changed(parent.params, study.known(parent.params), rng)
  overrides, params = study.suggest(number, found, fixed=fixed)
  take_over(
    ledger.folder(workdir, parent.number), ledger.folder(workdir, number)
  )
  trial = ledger.Trial(
    number, overrides, params, parent=parent.number, since=here, aim=there,
    state='paused',
  )  # fmt: skip
  ledger.write(workdir, trial)
  return trial


def changed(params, distributions, rng):
  """Parameters a little lower or higher; one that is left out is drawn anew.

  A choice of words stays, if it is not drawn anew.
  """
  found = {}
  for name, value in params.items():
    known, anew, factor = (
      distributions[name],
      rng.random(),
      rng.choice(_FACTORS),
    )
    if anew < _ANEW:
      continue
    if hasattr(known, 'low'):
      value = float(np.clip(value * factor, known.low, known.high))
      if known.step:
        place = round((value - known.low) / known.step)
        value = known.low + place * known.step
    found[name] = value
  return found


def take_over(parent, folder):
  """Copies the state of a trial to the folder of another, which is made."""
  part = folder.with_name(f'.{folder.name}')
  for left in (part, folder):  # of one whose process died while it copied
    shutil.rmtree(left, ignore_errors=True)
  part.mkdir(parents=True)
  for name in _TAKEN:
    path = parent / name
    if path.is_dir():
      shutil.copytree(path, part / name)
    elif path.exists():
      shutil.copy2(path, part / name)
  part.rename(folder)


def schedule(trials, trial):
  """[(step, overrides)] of a trial and those before it: what held up to there.

  trials: all of the search; the last step is what it came to. Raises ValueError
  where the folder of one of them was deleted.
  """
  by_number = {t.number: t for t in trials}
  until, found = max(trial.values), []
  while True:
    found.append((until, trial.overrides))
    if trial.parent is None:
      return found[::-1]
    if trial.parent not in by_number:
      raise ValueError(
        f'trial {trial.number} took over from trial {trial.parent} at step '
        f'{trial.since}, and the folder of that is gone: the schedule up to '
        'there is not known; take a new --workdir to find another'
      )
    until, trial = trial.since, by_number[trial.parent]
