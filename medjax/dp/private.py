"""A run that spends a privacy budget: its patients, its chance, its end."""

import dataclasses
import hashlib
import json
import os
import pathlib
import secrets

import jax
import numpy as np
from jax.sharding import Mesh

from medjax import files
from medjax.data.poisson import Draws
from medjax.dp import budget, refusals
from medjax.dp.budget import Budget
from medjax.dp.gradient import PrivateGradient

_KEY = 'privacy.key'
_NOT_COVERED = (
  'patients of validation and test, and what is chosen by them: the best '
  'checkpoint, thresholds, temperature, operating points',
  'other runs on the same patients, a search of settings too: each spends on '
  'its own, and epsilons add up',
  'whoever knows the secret of the run can subtract the noise: keep '
  'privacy.key to yourself',
  'rounding of floating-point noise (Mironov 2012), and how long a step takes',
)


@dataclasses.dataclass(frozen=True)
class Private:
  """What makes a run private.

  budget: what it may spend. patients: of each training case. secret: the bytes
  from which, with what stands for the `run`, draws and noise come. microbatch:
  patients whose gradients are found at once, on each device of the mesh.
  """

  workdir: pathlib.Path
  budget: Budget
  patients: tuple[str, ...]
  secret: bytes = dataclasses.field(repr=False)
  run: str
  microbatch: int
  mesh: Mesh
  log_loss: bool
  not_covered: tuple[str, ...]

  @property
  def draws(self):
    """How a PoissonStream draws."""
    return Draws(
      patients=self.patients,
      rate=self.budget.rate,
      room=self.budget.room,
      secret=_derived(self.secret, b'draws', self.run.encode()),
      lanes=self.microbatch * self.mesh.size,
    )

  @property
  def key(self):
    """The random key of the step: noise, dropout, augmentation."""
    digest = _derived(self.secret, b'noise', self.run.encode())
    words = np.frombuffer(digest[:8], np.uint32)
    return jax.random.wrap_key_data(words, impl='threefry2x32')

  @property
  def gradient(self):
    """That of the train step."""
    return PrivateGradient(
      clip_norm=self.budget.clip_norm,
      noise=self.budget.noise,
      expected=self.budget.batch,
      lanes=self.microbatch,
      mesh=self.mesh,
      log_loss=self.log_loss,
    )

  @property
  def plan(self):
    """A line of what the run may spend, for the console."""
    it = self.budget
    return (
      f'private: epsilon {it.epsilon:g} at delta {it.delta:g} by noise of '
      f'{it.noise:.3f} × {it.clip_norm:g} on {it.batch} of {it.patients} '
      f'patients a step, {it.steps} steps'
    )

  def write(self, steps=None):
    """Writes privacy.json, with what `steps` have spent."""
    budget.write(
      self.workdir,
      self.budget,
      digest=_digest(self.secret, self.patients),
      not_covered=self.not_covered,
      run=self.run,
      spent=None if steps is None else self.budget.spent(steps),
    )

  def say(self, steps):
    """A line of what `steps` have spent, for the console."""
    spent, whole = self.budget.spent(steps), self.budget
    end = ', the whole budget' if steps >= whole.steps else ''
    return (
      f'spent: epsilon {spent["pld"]:.3f} (RDP {spent["rdp"]:.3f}) of '
      f'{whole.epsilon:g} at delta {whole.delta:g} in {steps} steps{end}'
    )


def begin(experiment, workdir, samples, mesh, *, name='', about=None):
  """The Private of an experiment, new or as privacy.json has it.

  `samples` are those of training, `mesh` the devices. A run that goes on has
  the draws and the noise that it had: a step taken again gives away nothing
  new. Of one secret each `name` has chance of its own, as sites need, and so
  has each run: `about` is JSON of how it is trained, by default the config.

  Raises:
    ValueError: for what epsilon could not cover, and for a workdir of another
      budget or of other patients.
  """
  settings, workdir = experiment.privacy, pathlib.Path(workdir)
  refusals.check(experiment, experiment.stream(samples, parts=mesh.size))
  patients = _patients(experiment.cases('train'), samples)
  count = len({*patients})
  refusals.check_patients(experiment, count)
  found = budget.read(workdir)
  if found is None and (workdir / 'config.json').exists():
    raise ValueError(
      f'{workdir} holds a run, but no {budget.FILE} of what it has spent: take '
      'a new --workdir'
    )
  secret = _secret(settings.key, workdir, new=found is None)
  if name:
    secret = _derived(secret, b'site', name.encode())
  if found is None:
    made = budget.calibrated(
      settings,
      patients=count,
      batch=experiment.data.batch_size,
      steps=experiment.train.steps,
      lanes=settings.microbatch * mesh.size,
    )
    run = _run(made, about or experiment.digest, _digest(secret, patients))
  else:
    made = _as_before(workdir, found, experiment, secret, patients)
    run = found[1].get('run', '')  # of one begun before this was written
  private = Private(
    workdir=workdir,
    budget=made,
    patients=patients,
    secret=secret,
    run=run,
    microbatch=settings.microbatch,
    mesh=mesh,
    log_loss=settings.log_loss,
    not_covered=_not_covered(experiment),
  )
  private.write()  # what is spent is not known until the run has ended
  return private


def _as_before(workdir, found, experiment, secret, patients):
  """The Budget of privacy.json, if it is of this run."""
  made, tree = found
  now, alike = experiment.privacy, ('epsilon', 'delta', 'clip_norm')
  same = all(getattr(now, name) == getattr(made, name) for name in alike)
  same &= now.noise in (None, made.noise)
  if not same or experiment.data.batch_size != made.batch:
    raise ValueError(
      f'{workdir}/{budget.FILE} is of another budget, and its noise may not be '
      'used twice: take a new --workdir'
    )
  if tree['digest'] != _digest(secret, patients):
    raise ValueError(
      f'{workdir}/{budget.FILE} is of other patients, or of another '
      'privacy.key: noise that is used twice hides nobody; take a new '
      '--workdir'
    )
  return made


def _patients(cases, samples):
  """The patient of each case; a case is one where none is known."""
  entries = getattr(cases, 'entries', None)
  if entries is not None:  # nothing need be read
    return tuple(e.patient or e.id for e in entries)
  return tuple(samples[i]['patient'] for i in range(len(samples)))


def _secret(path, workdir, *, new):
  """The bytes of a run's secret, made where there is none."""
  given = pathlib.Path(path).expanduser() if path else workdir / _KEY
  if not path and new and not given.exists():
    workdir.mkdir(parents=True, exist_ok=True)
    with open(os.open(given, os.O_CREAT | os.O_WRONLY, 0o600), 'w') as f:
      f.write(secrets.token_hex() + '\n')
  return files.read_secret(
    given,
    called=given,
    lacking='it holds the secret of the noise: make one of 32 random bytes'
    + ('' if path else ', or take a new --workdir'),
    kind='secret',
  )


def _derived(secret, purpose, name=b''):
  digest = hashlib.blake2b(secret, person=purpose, digest_size=32)
  if name:
    digest.update(hashlib.blake2b(name).digest())
  return digest.digest()


def _run(made, about, patients):
  """Stands for a run: what its releases depend on, but for the secret.

  The same noise in two runs is gone from their difference.
  """
  sizes = made.patients, made.batch, made.steps
  text = json.dumps([sizes, patients, files.plain(about)], sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _digest(secret, patients):
  """Stands for the patients, to nobody but who has the secret."""
  key = _derived(secret, b'patients')
  text = '\n'.join(patients).encode('utf-8', 'surrogateescape')
  return hashlib.blake2b(text, key=key, digest_size=16).hexdigest()


def _not_covered(experiment):
  """What epsilon says nothing of, a sentence each."""
  facts, said = experiment.facts, list(_NOT_COVERED)
  told = ('statistics', 'covariate_statistics', 'event_times', 'notes')
  if names := [name for name in told if getattr(facts, name)]:
    said.append(f'facts.json, made of training cases: {", ".join(names)}')
  if path := experiment.config['pretrained']['path']:
    said.append(f'what the weights of pretrained.path={path} were made of')
  if experiment.config['task'].get('teacher'):
    said.append('what the teacher learnt')
  if experiment.privacy.log_loss:
    said.append('the training loss in the log and in checkpoints')
  return tuple(said)
