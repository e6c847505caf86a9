"""The loop of a process that searches; several may, on several machines."""

import contextlib
import pathlib
import time

from medjax import cli, files
from medjax.search import lease, ledger, rungs, sampler
from medjax.search import population as population_lib

_WAIT = 2.0  # seconds, where others hold all that is left
_SETTINGS = 'search.json'


def search(
  workdir,
  objective,
  space,
  *,
  trials,
  levels,
  eta=3,
  kind='tpe',
  seed=0,
  population=False,
  interval=lease.INTERVAL,
  show=print,
):
  """Works until a search has `trials` trials, all of them ended.

  objective(overrides, folder, until) → {step: score} so far, of which the best
  counts; `levels` are the steps of its rungs. A trial that ends in an error of
  the user's fails, and the search goes on; at an OSError, which says nothing of
  its settings, it waits, and that is raised. A `population` is of so many
  trials, and has more when some succeed others. Returns all trials.
  """
  rungs.check(eta)
  workdir = pathlib.Path(workdir)
  study = sampler.Study(
    workdir, sampler='random' if population else kind, seed=seed
  )

  def choose(found):
    study.learn(found)
    if population:
      return population_lib.job(
        workdir, found, study, space, size=trials, steps=levels, eta=eta,
        seed=seed,
      )  # fmt: skip
    return _halving(found, study, space, trials, levels, eta)

  while True:
    holding = contextlib.ExitStack()
    trial, busy = _taken(workdir, choose, interval, holding)
    if not trial:
      if not busy:
        return ledger.read(workdir)
      time.sleep(min(_WAIT, interval))
      continue
    place = ledger.folder(workdir, trial.number)
    newest = population and trial.aim != levels[-1]
    try:
      said = _work(objective, trial, place, levels, newest=newest)
    finally:
      # At once: a trial that is free is another's, and so is its lease.
      with sampler.alone(workdir):
        if lease.is_own(place):
          ledger.write(workdir, trial)
        else:  # as of a process that slept
          said = 'another process has taken it on, and says what it found'
        holding.close()
    show(f'trial {trial.number}: {said}  {_short(trial.overrides)}')


def settled(workdir, settings):
  """Keeps the settings of a search, which whoever joins must share.

  Raises ValueError where they differ.
  """
  path = pathlib.Path(workdir) / _SETTINGS
  before = files.read_json(path, mend='take a new --workdir')
  if before is None:
    files.write_json(path, settings, sealed=True)
    return
  # A search may be older than these.
  before = {
    'nested': False,
    'population': 0,
    'digest': settings.get('digest'),
    **before,
  }
  for name, value in files.plain(settings).items():
    if before.get(name) == value:
      continue
    if name == 'digest':
      raise ValueError(
        f'{workdir}: {settings["config"]} or {settings["space"]} does not say '
        'what it did when this search began, and trials of both cannot be '
        'compared: put it back, or take a new --workdir'
      )
    raise ValueError(
      f'{workdir} is a search with {name}={before.get(name)}, not {value}: '
      'join it with the same, or take a new --workdir'
    )


def settings(workdir):
  """The settings of a search. Raises ValueError for a folder that is none."""
  path = pathlib.Path(workdir) / _SETTINGS
  found = files.read_json(path, mend='take a new --workdir')
  if found is None:
    raise ValueError(f'{workdir} is no search: it has no {_SETTINGS}')
  return found


def _taken(workdir, choose, interval, holding):
  """(a trial or None, whether others are at work); `holding` has its lease."""
  with sampler.alone(workdir):
    sampler.mend(workdir)
    job, busy = _next(workdir, choose, interval)
    if not job:
      return None, busy
    trial, until = job
    trial.state, trial.aim = 'running', until
    ledger.write(workdir, trial)
    place = ledger.folder(workdir, trial.number)
    holding.enter_context(lease.held(place, interval=interval))
    return trial, busy


def _next(workdir, choose, interval):
  """((trial, step to go on to) or None, whether others are at work)."""
  found = ledger.read(workdir)
  for trial in found:
    place = ledger.folder(workdir, trial.number)
    if trial.state == 'running' and not lease.is_held(place, interval=interval):
      trial.died()
      ledger.write(workdir, trial)
  # Those whose process died go on where they were.
  for trial in found:
    if trial.is_free and not trial.has_arrived:
      return (trial, trial.aim), True
  return choose(found)


def _halving(found, study, space, most, levels, eta):
  """As `_next`: who goes on to the next rung, or a new trial."""
  alive = [t for t in found if t.state != 'failed']
  if going := rungs.candidate(alive, levels, eta=eta):
    return going, True
  if len(found) < most:
    number = ledger.following(found)
    overrides, params = study.suggest(number, space)
    return (ledger.Trial(number, overrides, params), levels[0]), True
  if busy := any(t.state == 'running' for t in found):
    return None, busy
  # Of few trials, or where some failed, none may have been promoted to the end.
  if not any(t.state == 'done' for t in found):
    return rungs.foremost(alive, levels), False
  return None, False


def _work(objective, trial, place, levels, *, newest):
  """Takes a trial to its aim; returns in words what came of it."""
  began, until = time.monotonic(), trial.aim
  try:
    trial.curve = objective(trial.overrides, place, until)
    value = _score(trial.curve, until, newest=newest)
    trial.values[until] = value
    trial.state = 'done' if until == levels[-1] else 'paused'
    found = 'at' if newest else 'the best up to'
    said = f'{value:.4f}, {found} step {until}'
  except (SystemExit, KeyboardInterrupt):  # told to stop, which is no death
    trial.state = 'paused'
    raise
  except OSError as e:
    # This machine has not its data, or no room, and another may; unless it is
    # the settings that name what nobody has.
    trial.died(cli.said(e) or str(e))
    if trial.state == 'paused':
      raise
    return f'failed {trial.reason}'
  except Exception as e:
    line = cli.said(e)
    if line is None:
      raise
    trial.state, trial.reason, said = 'failed', line, f'failed: {line}'
  finally:
    trial.seconds += time.monotonic() - began
  trial.tries = 0
  return said


def _score(curve, until, *, newest):
  """The best of a curve, as of a run's checkpoints, or the newest.

  Raises ValueError where that is not defined.
  """
  if newest and until not in curve:
    raise ValueError(f'its score at step {until} is not a number')
  return curve[until] if newest else max(curve.values())


def _short(overrides):
  return ', '.join(
    f'{k.rpartition(".")[2]}={v:.3g}' if isinstance(v, float) else
    f'{k.rpartition(".")[2]}={v}'
    for k, v in overrides.items()
  )  # fmt: skip
