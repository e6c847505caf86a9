"""A trace of some steps, for TensorBoard's profiler and Perfetto."""

import pathlib

import jax


class Profile:
  """Traces the steps `first` to `last` into WORKDIR/profile.

  `steps` are these two, or () for none. As a context it ends a trace that an
  error or a stop would leave open.
  """

  def __init__(self, workdir, steps):
    self._folder = pathlib.Path(workdir) / 'profile'
    self._first, self._last = steps or (-1, -1)
    self._running = False

  def before(self, step):
    """To be called before the step of this number, counted from 1."""
    if step == self._first:
      jax.profiler.start_trace(str(self._folder))
      self._running = True

  def after(self, step, states):
    """To be called after it, with what it gave."""
    if self._running and step >= self._last:
      jax.block_until_ready(states)
      self._stop()
      print(
        f'profile of steps {self._first} to {self._last}: {self._folder} '
        '(tensorboard --logdir, or ui.perfetto.dev)'
      )

  def _stop(self):
    if self._running:
      jax.profiler.stop_trace()
      self._running = False

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._stop()
