"""What is known of each trial: trials/0007/trial.json, written whole."""

import dataclasses
import pathlib
from collections.abc import Mapping

from medjax import files

FOLDER = 'trials'
_FILE = 'trial.json'
_TRIES = 3  # of a trial that ends its process, before it counts as failed


@dataclasses.dataclass
class Trial:
  """A trial of a search.

  overrides: fields of the config. params: what the sampler drew. values: {step:
  validation score} at each rung that it reached. aim: the step that it is on
  its way to, or reached last. curve: {step: score} of all validations. state:
  'running', 'paused' at a rung or where it was told to stop, 'done', 'failed'
  with a reason. tries: how often it has ended its process on the way. seconds:
  spent in all. parent: of a population, whose state it took over at step
  `since`.
  """

  number: int
  overrides: Mapping
  params: Mapping
  values: dict = dataclasses.field(default_factory=dict)
  aim: int = 0
  curve: dict = dataclasses.field(default_factory=dict)
  state: str = 'running'
  reason: str = ''
  tries: int = 0
  seconds: float = 0.0
  parent: int | None = None
  since: int = 0

  @property
  def is_free(self):
    """Whether it waits for somebody who takes it on."""
    return self.state == 'paused'

  @property
  def has_arrived(self):
    """Whether it has the score that it was on its way to, or never will."""
    return self.state == 'failed' or self.aim in self.values

  @property
  def value(self):
    """Its score at the highest rung, None before the first."""
    return self.values[max(self.values)] if self.values else None

  def died(self, reason='its process died; out of memory?'):
    """Takes note that its process is gone, or had to stop for this reason."""
    self.tries += 1
    self.state = 'paused'
    if self.tries >= _TRIES:
      self.state = 'failed'
      self.reason = f'{self.tries} times: {reason}'


def folder(workdir, number):
  """The workdir of a trial."""
  return pathlib.Path(workdir) / FOLDER / f'{number:04d}'


def following(trials):
  """The number of the next trial.

  Not how many there are: where the folder of a damaged one was deleted, that
  would be another's.
  """
  return 1 + max((t.number for t in trials), default=-1)


def write(workdir, trial):
  """Writes what is known of a trial."""
  tree = dataclasses.asdict(trial)
  files.write_json(folder(workdir, trial.number) / _FILE, tree, sealed=True)


def read(workdir):
  """All `Trial`s of a search, by number."""
  found = []
  for path in sorted((pathlib.Path(workdir) / FOLDER).glob(f'*/{_FILE}')):
    tree = files.read_json(path, mend='delete the folder of this trial')
    for name in ('values', 'curve'):
      tree[name] = {int(k): v for k, v in tree.get(name, {}).items()}
    found.append(Trial(**tree))
  return found
