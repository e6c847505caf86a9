"""One run, be it the only one or a member of several."""

import math
import pathlib

import jax
from absl import logging

from medjax import config as config_lib
from medjax import engine, optim
from medjax.build import lookup
from medjax.data import pipeline
from medjax.run import divided, writer
from medjax.run.checkpoint import Checkpointer
from medjax.run.writer import Writer


def stalled(history, patience):
  """Whether the last `patience` scores all fail to beat the best before."""
  scores = [-math.inf if math.isnan(s) else s for _, s in history]
  if not patience or len(scores) <= patience:
    return False
  return max(scores[-patience:]) <= max(scores[:-patience])


def check_goes_on(config, workdir, step):
  """Checks that a run at `step` may go on with this config.

  All of it must be as it was, but train.steps may change where the schedule
  does not depend on it, which is said. Returns whether it did. Raises
  ValueError for what may not change.
  """
  steps = config['train']['steps']
  before = config_lib.load(workdir).train.steps
  as_before = {**config, 'train': {**config['train'], 'steps': before}}
  config_lib.compare(as_before, workdir)
  if steps == before:
    return False
  schedule, where = config['schedule'], f'{workdir}: train.steps'
  if optim.knows_the_end(schedule):
    raise ValueError(
      f'{where} {before} → {steps}: the {schedule["name"]} schedule let the '
      f'learning rate fall as of a run of {before} steps, so this is another '
      'run: take a new --workdir, with --config.pretrained.path to begin with '
      "these weights (a run with schedule.name='constant' can go on)"
    )
  if steps < step:
    raise ValueError(f'{where}={steps}, but it has had {step} already')
  if jax.process_index() == 0:
    print(
      f'{where} {before} → {steps}: goes on from step {step}, as the '
      f'{schedule["name"]} schedule does not depend on the end'
    )
  return True


class Member:
  """The data, keys, state and files of one run.

  Attributes: what a step takes and gives, `state`, `metrics`, `batches`, `key`;
  `step`; `history`, [step, validation score], newest last; `checkpoints`;
  `inputs`, what the model is called with; `batch_size`, cases of a step;
  `experiment`; after `begin` also `writer`. `private`, or None, says how
  patients are drawn, and has a key that nobody knows (medjax.dp.private).
  """

  def __init__(
    self, experiment, workdir, samples, validation, mesh, private=None
  ):
    self.workdir = pathlib.Path(workdir)
    self.workdir.mkdir(parents=True, exist_ok=True)
    self.validation = validation
    self.experiment, self._mesh = experiment, mesh
    self.private = private
    self._stream = experiment.stream(
      samples,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      parts=mesh.size,
      draws=private.draws if private else None,
    )
    self.inputs = self._stream.inputs
    self.batch_size = self._stream.batch_size
    self.init_key, key = jax.random.split(jax.random.key(experiment.seed))
    key = private.key if private else key
    self.key = engine.replicate(key, mesh)
    self.checkpoints = Checkpointer(self.workdir)
    self.metrics, self.history = engine.empty_metrics(mesh), []

  def begin(self, state):
    """Goes on from the newest checkpoint; without one, begins with `state`.

    Without a checkpoint, nothing in the folder belongs to an older config yet.
    """
    experiment, main_process = self.experiment, not jax.process_index()
    if (step := self.checkpoints.latest_step()) is not None:
      changed = check_goes_on(experiment.config, self.workdir, step)
      divided.check(experiment, self.workdir)
      if changed and main_process:
        experiment.store(self.workdir)
    elif (self.workdir / 'metrics.json').exists():
      raise ValueError(
        f'{self.workdir} holds the results of a run whose checkpoints are '
        'gone: take a new --workdir'
      )
    elif main_process:
      experiment.store(self.workdir)
      divided.store(experiment, self.workdir)
    found = self.checkpoints.restore_newest(state, self.metrics)
    if found:
      state, self.metrics, self.history = found
      logging.info('resumed at step %d', int(state.step))
    self.state, self.step = state, int(state.step)
    if found and main_process and not self.ended:
      divided.extend(experiment, self.workdir)
    self.writer = Writer(
      self.workdir,
      experiment.train.steps,
      main_process,
      step=self.step,
      monitor=experiment.task.monitor,
      spoken=getattr(experiment.task, 'spoken', ()),
      hook=self._hook() if main_process else None,
    )
    batches = pipeline.train_batches(
      self._stream,
      local_batch_size=self.batch_size // jax.process_count(),
      start_step=self.step,
    )
    self.batches = pipeline.to_device(batches, engine.sharded(self._mesh))

  def _hook(self):
    """What the config names to be told the scalars too.

    A class, called with the workdir and the config, a dict; with methods
    scalars(step, {name: number}) and close().
    """
    name = self.experiment.train.writer
    if not name:
      return None
    return lookup(writer, name)(self.workdir, dict(self.experiment.config))

  @property
  def ended(self):
    """Whether all steps are done, or the score has long not been better."""
    settings = self.experiment.train
    done = self.step >= settings.steps
    return done or stalled(self.history, settings.patience)

  def save(self):
    """Starts writing a checkpoint."""
    self.checkpoints.save(self.state, self.metrics, self.history)

  def clear_metrics(self):
    """Begins to sum up train metrics anew."""
    self.metrics = engine.empty_metrics(self._mesh)

  def check_finite(self):
    """Raises FloatingPointError that names the first step gone wrong."""
    bad = int(self.metrics.bad_step.compute())
    if bad < engine.FirstBadStep.empty().step:
      raise FloatingPointError(
        f'{self.workdir}: loss or gradient is not finite at step {bad + 1} '
        f'(seen at step {self.step}); the last good checkpoint is kept. Try a '
        'lower optimizer.learning_rate, or optimizer.clip_norm=1'
      )

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.writer.close()
    self.checkpoints.close()
