"""One run, be it the only one or a member of several."""

import math
import pathlib

import jax
from absl import logging

from medjax import config as config_lib
from medjax import engine
from medjax.data import pipeline
from medjax.run.checkpoint import Checkpointer
from medjax.run.writer import Writer


def stalled(history, patience):
  """Whether the last `patience` scores all fail to beat the best before."""
  scores = [-math.inf if math.isnan(s) else s for _, s in history]
  if not patience or len(scores) <= patience:
    return False
  return max(scores[-patience:]) <= max(scores[:-patience])


class Member:
  """The data, keys, state and files of one run.

  Attributes: what a step takes and gives, `state`, `metrics`, `batches`, `key`;
  `step`; `history`, [step, validation score], newest last; `checkpoints`;
  `inputs`, what the model is called with; `experiment`; after `begin` also
  `writer`.
  """

  def __init__(self, experiment, workdir, samples, validation, mesh):
    self.workdir = pathlib.Path(workdir)
    self.workdir.mkdir(parents=True, exist_ok=True)
    self.validation = validation
    self.experiment, self._mesh = experiment, mesh
    self._stream = experiment.stream(
      samples,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    self.inputs = self._stream.inputs
    self.init_key, key = jax.random.split(jax.random.key(experiment.seed))
    self.key = engine.replicate(key, mesh)
    self.checkpoints = Checkpointer(self.workdir)
    self.metrics, self.history = engine.empty_metrics(mesh), []

  def begin(self, state):
    """Goes on from the newest checkpoint; without one, begins with `state`.

    Without a checkpoint, nothing in the folder belongs to an older config yet.
    """
    experiment, main_process = self.experiment, not jax.process_index()
    if self.checkpoints.latest_step() is not None:
      config_lib.compare(experiment.config, self.workdir)
    elif (self.workdir / 'metrics.json').exists():
      raise ValueError(
        f'{self.workdir} holds the results of a run whose checkpoints are '
        'gone: take a new --workdir'
      )
    elif main_process:
      experiment.store(self.workdir)
    found = self.checkpoints.restore_newest(state, self.metrics)
    if found:
      state, self.metrics, self.history = found
      logging.info('resumed at step %d', int(state.step))
    self.state, self.step = state, int(state.step)
    self.writer = Writer(
      self.workdir,
      experiment.train.steps,
      main_process,
      step=self.step,
      monitor=experiment.task.monitor,
    )
    batches = pipeline.train_batches(
      self._stream,
      local_batch_size=experiment.data.batch_size // jax.process_count(),
      start_step=self.step,
    )
    self.batches = pipeline.to_device(batches, engine.sharded(self._mesh))

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
