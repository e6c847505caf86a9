"""What a run has of its own, be it the only one or a member of several."""

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
  after `begin` also `writer`.
  """

  def __init__(self, config, workdir, samples, validation_cases, mesh):
    self.workdir = pathlib.Path(workdir)
    self.workdir.mkdir(parents=True, exist_ok=True)
    self.validation_cases = validation_cases
    self._config, self._mesh = config, mesh
    self._stream = pipeline.TrainStream(
      samples,
      batch_size=config.data.batch_size,
      steps=config.train.steps,
      seed=config.seed,
      patch_size=tuple(config.data.patch_size),
      foreground=config.data.foreground,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    self.image_shape = (1, *self._stream[0]['image'].shape)
    self.init_key, key = jax.random.split(jax.random.key(config.seed))
    self.key = engine.replicate(key, mesh)
    self.checkpoints = Checkpointer(self.workdir)
    self.metrics, self.history = engine.empty_metrics(mesh), []

  def begin(self, state, monitor):
    """Goes on from the newest checkpoint; without one, begins with `state`.

    Without a checkpoint, nothing in the folder belongs to an older config yet.
    """
    step, main_process = self.checkpoints.latest_step(), not jax.process_index()
    if step is not None:
      config_lib.compare(self._config, self.workdir)
      state, self.metrics, self.history = self.checkpoints.restore(
        step, state, self.metrics
      )
      logging.info('resumed at step %d', step)
    elif main_process:
      config_lib.store(self._config, self.workdir)
    self.state, self.step = state, int(state.step)
    self.writer = Writer(
      self.workdir,
      self._config.train.steps,
      main_process,
      step=self.step,
      monitor=monitor,
    )
    batches = pipeline.train_batches(
      self._stream,
      local_batch_size=self._config.data.batch_size // jax.process_count(),
      start_step=self.step,
    )
    self.batches = pipeline.to_device(batches, engine.sharded(self._mesh))

  @property
  def ended(self):
    """Whether all steps are done, or the score has long not been better."""
    settings = self._config.train
    done = self.step >= settings.steps
    return done or stalled(self.history, settings.patience)

  def save(self):
    """Starts writing a checkpoint."""
    self.checkpoints.save(self.state, self.metrics, self.history)

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
