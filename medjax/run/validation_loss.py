"""The loss on validation cases, to be seen beside that of training."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax import engine
from medjax.data import pipeline

_FEWEST, _MOST = 4, 16  # batches, of patches; and of anything
_STEPS = 10  # of training to a batch: it costs a few per cent of the time
# What a loss that was traced in training says while it is traced without what
# only training has: a field of a batch, a method or an option of `forward`.
_MISSES = AttributeError, LookupError, TypeError, ValueError


class _Fixed(pipeline.TrainStream):
  """The same examples at each evaluation; a whole image comes once.

  An example that has not the form of the first one counts for nothing, as one
  without a reference does.
  """

  def __init__(self, samples, **options):
    super().__init__(samples, **options)
    self.once = bool(options['batch_size']) and not self._patch_size
    if self.once:  # what fills the last batch has none of the fields
      self._epoch = -(-len(samples) // self._global) * self._global

  def _example(self, sample, position):
    fits = all(
      np.shape(sample[name]) == form.shape
      for name, form in self._form.items()
      if name in sample
    )
    return super()._example(sample if fits else {}, position)

  def _value(self, sample, name):
    if name not in sample:
      form = self._form[name]
      return np.zeros(form.shape, form.dtype)
    return sample[name]


class _Evaluated:
  """The model as a loss sees it, in evaluation: a twin of `engine.Forward`."""

  def __init__(self, model, variables):
    self._model, self._all = model, variables
    self.variables = {k: v for k, v in variables.items() if k != 'params'}

  def __call__(self, *inputs, train=False, **options):
    del train
    return self._model.apply(self._all, *inputs, train=False, **options)

  ema = __call__


def _of_one_head(task):
  """The task, where a model has its main head alone, as in evaluation."""
  if not getattr(task, 'level_weights', ()):
    return task
  task = copy.copy(task)  # dataclasses.replace would ask for its loss again
  object.__setattr__(task, 'level_weights', ())
  return task


class ValidationLoss:
  """Mean loss of fixed batches of validation cases: (state, samples) → number.

  As in evaluation: no augmentation, no dropout, the averaged parameters where
  there are any; of deep supervision the finest output. Patches are drawn as in
  training, at most `_MOST` batches of them, fewer where evaluations are close.
  A case without a reference counts for nothing. None of a task whose loss
  compares `views` of an image: on plain cases it would be another.
  """

  def __init__(self, experiment, mesh):
    self._experiment, self._mesh = experiment, mesh
    self._program, task = None, experiment.task
    unlike = getattr(task, 'views', None)
    self._left_out = task.unlabelled if unlike is None else unlike

  def __call__(self, state, samples):
    """The host waits once, for the sum of all batches."""
    if self._left_out or not len(samples):
      return None
    stream = self._stream(samples)
    batches = pipeline.train_batches(
      stream,
      local_batch_size=stream.batch_size // jax.process_count(),
      start_step=0,
    )
    total = engine.replicate((jnp.zeros(()), jnp.zeros(())), self._mesh)
    for batch in pipeline.to_device(batches, engine.sharded(self._mesh)):
      if self._program is None and not self._begun(state, total, batch):
        return None
      total = self._program(state, total, batch)
    loss, count = map(float, jax.device_get(total))
    return loss / count if count else None

  def _begun(self, *arguments):
    """Whether the loss can be traced; says once that a task has none."""
    program = self._compiled(arguments[0])
    try:
      jax.eval_shape(program, *arguments)
    except _MISSES as e:
      self._left_out = True
      if not jax.process_index():
        print(f'note: no validation loss, as the task has none: {e}')
      return False
    self._program = program
    return True

  def _stream(self, samples):
    # The same examples whatever the seed of the run: members are alike.
    experiment = dataclasses.replace(self._experiment, seed=0)
    data, settings = experiment.data, experiment.train
    size = data.batch_size
    count = -(-len(samples) // size) if size else 1
    if size and data.patch_size:
      count = max(count, _FEWEST)
    count = min(count, _MOST, max(1, settings.eval_every // _STEPS))
    return experiment.stream(
      samples,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      parts=self._mesh.size,
      kind=_Fixed,
      steps=count,
    )

  def _compiled(self, state):
    model, task = self._experiment.model, _of_one_head(self._experiment.task)
    everywhere = engine.replicated(self._mesh)

    def add(state, total, batch):
      variables = jax.lax.with_sharding_constraint(
        state.eval_variables, everywhere
      )
      losses = task.loss(_Evaluated(model, variables), batch)
      counted = jnp.ones(losses.shape, bool)
      if not task.over_batch:  # which says itself what counts
        counted = functools.reduce(
          jnp.logical_and, batch['valid'].values(), counted
        )
      return total[0] + jnp.where(counted, losses, 0).sum(), (
        total[1] + counted.sum()
      )

    return jax.jit(
      add,
      in_shardings=(
        jax.tree.map(lambda x: x.sharding, state),
        everywhere,
        engine.sharded(self._mesh),
      ),
      out_shardings=everywhere,
    )
