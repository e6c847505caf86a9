"""What to try next: Optuna's sampler over a journal that machines share."""

import contextlib
import fcntl
import json
import math
import pathlib
import warnings
from collections.abc import Mapping

try:
  import optuna
except ImportError as e:
  raise ValueError("searching needs optuna: pip install 'medjax[hpo]'") from e

_JOURNAL = 'journal.log'
_LOCK = 'search.lock'
_STUDY = 'medjax'
SAMPLERS = ('tpe', 'random')


@contextlib.contextmanager
def alone(workdir):
  """One process at a time may choose and take note; ends with its process."""
  path = pathlib.Path(workdir) / _LOCK
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('a') as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    yield


def mend(workdir):
  """Cuts a last line of the journal that a kill left half written.

  It is kept beside as journal.log.bad, and said. To be called `alone`.
  """
  path = pathlib.Path(workdir) / _JOURNAL
  if not path.is_file():
    return
  data = path.read_bytes()
  whole, _, last = data.rstrip(b'\n').rpartition(b'\n')
  try:
    json.loads(last or b'{}')
    if data.endswith(b'\n') or not data:
      return
    path.write_bytes(data + b'\n')  # all of it but the end of the line
    return
  except ValueError:
    pass
  with (path.parent / f'{_JOURNAL}.bad').open('ab') as f:
    f.write(last + b'\n')
  path.write_bytes(whole + b'\n' if whole else b'')
  print(f'{path}: its last line was cut off, and is put aside', flush=True)


def drawn(space, seed=0):
  """The overrides of a trial drawn at random, to see whether they are right."""
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  sampler = optuna.samplers.RandomSampler(seed=seed)
  return _asked(space, optuna.create_study(sampler=sampler).ask())


def _asked(space, trial):
  """What a space says of a trial.

  Raises ValueError for choices that come back from the journal as others, or
  not at all, as tuples do, and for what is no {field: value}.
  """
  suggest = trial.suggest_categorical

  def checked(name, choices):
    for choice in (choices := tuple(choices)):
      if not _is_plain(choice):
        raise ValueError(
          f'the space: suggest_categorical({name!r}, …) chooses among None, '
          f'bool, int, float and str, and {choice!r} is none: give names, and '
          'look up what they stand for, as configs/search/unet.py does'
        )
    return suggest(name, choices)

  trial.suggest_categorical = checked
  found = space(trial)
  if not (
    isinstance(found, Mapping) and all(isinstance(k, str) for k in found)
  ):
    raise ValueError(f'space(trial) must give {{field: value}}, not {found!r}')
  return dict(found)


def _is_plain(choice):
  if isinstance(choice, float):
    return math.isfinite(choice)
  return choice is None or isinstance(choice, bool | int | str)


class Study:
  """The trials so far, and a sampler that learns from them.

  What it suggests is a function of the seed, the number of the trial and of
  what is known by then: a search that was killed goes on as it would have. The
  journal keeps among what each was drawn; the scores are the ledger's.
  """

  def __init__(self, workdir, *, sampler='tpe', seed=0):
    if sampler not in SAMPLERS:
      raise ValueError(f'--sampler={sampler} is none of {", ".join(SAMPLERS)}')
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings(
      'ignore', category=optuna.exceptions.ExperimentalWarning
    )
    path = pathlib.Path(workdir) / _JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = optuna.storages.journal.JournalFileOpenLock(str(path))
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock)
    self._kind, self._seed = sampler, seed
    self._journal = optuna.create_study(
      study_name=_STUDY,
      storage=optuna.storages.JournalStorage(backend),
      direction='maximize',
      load_if_exists=True,
    )
    self.learn(())

  def suggest(self, number, space, *, fixed=None):
    """(overrides, params) of a new trial, which the journal then knows.

    fixed: {parameter: value} of those that are not to be drawn.
    """
    seed = self._seed * 100_003 + number
    self._study.sampler = (
      optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
      if self._kind == 'tpe'
      else optuna.samplers.RandomSampler(seed=seed)
    )
    if fixed:
      self._study.sampler = optuna.samplers.PartialFixedSampler(
        fixed, self._study.sampler
      )
    trial, state = self._study.ask(), optuna.trial.TrialState.FAIL
    try:
      overrides = _asked(space, trial)
    finally:
      self._study.tell(trial.number, state=state)
    self._journal.add_trial(
      optuna.trial.create_trial(
        params=trial.params, distributions=trial.distributions, state=state
      )
    )
    return overrides, dict(trial.params)

  def learn(self, trials):
    """Forgets what was known, and takes the trials of the ledger for it.

    Each counts once, by its score at the highest rung that it reached: the
    same parameters again at a lower one would speak against themselves.
    """
    state = optuna.trial.TrialState
    self._study = optuna.create_study(direction='maximize')
    for trial in trials:
      if not trial.values:
        continue
      is_done = trial.state == 'done'
      self._study.add_trial(
        optuna.trial.create_trial(
          params=dict(trial.params),
          distributions=self.known(trial.params),
          value=trial.value if is_done else None,
          intermediate_values={max(trial.values): trial.value},
          state=state.COMPLETE if is_done else state.PRUNED,
        )
      )

  def known(self, params):
    """The distributions of a trial's parameters, as they were suggested."""
    for trial in reversed(self._journal.get_trials(deepcopy=False)):
      if trial.params == dict(params):
        return trial.distributions
    raise ValueError('a trial of this search is not in its journal')

  def importances(self, trials):
    """{parameter: share of what it explains}; {} of too few trials."""
    if sum(t.state == 'done' for t in trials) < 4:
      return {}
    try:
      self.learn(trials)
      return dict(optuna.importance.get_param_importances(self._study))
    except (ValueError, RuntimeError, ImportError):
      return {}
