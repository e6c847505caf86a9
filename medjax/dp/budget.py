"""The budget of a run: what it may spend and how, and its privacy.json."""

import dataclasses
import pathlib

from medjax import files
from medjax.dp import accounting

FILE = 'privacy.json'
_MEND = 'take a new --workdir'
_UNIT = 'patient; a case, where its patient is not known'
_CONTRIBUTION = 'one case of each patient who is drawn, at random'
_NEIGHBOURS = 'one patient is added or removed; how many there are is public'
_SAMPLER = 'Poisson: at each step each patient by itself'
_OVERFULL = (
  'who is drawn beyond the room is left out at random; a thousandth of delta '
  'pays for it'
)


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a run may spend, and how it does.

  epsilon, delta: the budget.
  noise: standard deviation of the noise, over clip_norm, the most that a
    patient moves the sum of gradients.
  patients: of the training; batch: how many of them a step draws on average.
  steps: how many may be taken; room: places of a batch.
  """

  epsilon: float
  delta: float
  noise: float
  clip_norm: float
  patients: int
  batch: int
  steps: int
  room: int

  @property
  def rate(self):
    """The chance of a patient to be drawn in a step."""
    return self.batch / self.patients

  def spent(self, steps):
    """{'steps', 'pld', 'rdp'}: epsilon after `steps`, by both accountants."""
    delta = accounting.kept(self.delta)
    spent = accounting.both(self.noise, self.rate, steps, delta)
    return {'steps': steps, **spent}


def calibrated(settings, *, patients, batch, steps, lanes=1):
  """The Budget of config.privacy `settings`, a named tuple.

  Where settings.noise is None it is found for `steps`; where it is given, the
  run may take as many of them as its epsilon allows.
  """
  target, delta = settings.epsilon, accounting.kept(settings.delta)
  rate, noise = batch / patients, settings.noise
  if noise is None:
    noise = accounting.noise_for(target, rate, steps, delta)
    allowed = steps
  else:
    allowed = accounting.steps_within(target, noise, rate, steps, delta)
  if not allowed:
    raise ValueError(
      f'privacy.noise={noise} spends more than privacy.epsilon={target} in the '
      'first step: give more noise, or none, which finds it'
    )
  room = accounting.room(batch, allowed, target, settings.delta)
  return Budget(
    epsilon=target,
    delta=settings.delta,
    noise=noise,
    clip_norm=settings.clip_norm,
    patients=patients,
    batch=batch,
    steps=allowed,
    room=-(-room // lanes) * lanes,
  )


def write(workdir, budget, *, digest, not_covered, run='', spent=None):
  """Writes privacy.json. `digest` stands for patients, `run` for the run."""
  tree = {
    **dataclasses.asdict(budget),
    'rate': budget.rate,
    'unit': _UNIT,
    'contribution': _CONTRIBUTION,
    'neighbours': _NEIGHBOURS,
    'sampler': _SAMPLER,
    'overfull': _OVERFULL,
    'accountant': f'dp-accounting {accounting.version()}',
    'whole': budget.spent(budget.steps),
    'spent': spent,
    'released': 'every step: all checkpoints, the averaged weights, the log',
    'not_covered': list(not_covered),
    'digest': digest,
    'run': run,
  }
  files.write_json(pathlib.Path(workdir) / FILE, tree, sealed=True)


def read(workdir):
  """(Budget, all of privacy.json), or None where there is none.

  Raises ValueError for a file that was damaged or changed.
  """
  path = pathlib.Path(workdir) / FILE
  tree = files.read_json(path, mend=_MEND)
  if tree is None:
    return None
  names = [field.name for field in dataclasses.fields(Budget)]
  try:
    return Budget(**{name: tree[name] for name in names}), tree
  except (KeyError, TypeError) as e:
    raise ValueError(f'{path} is damaged ({e}): {_MEND}') from None
