"""How fast a run trains, and how long it waits for its data."""

import contextlib
import time


class Clock:
  """How many images a second were trained on, and how long was waited."""

  def __init__(self, step, batch_size):
    self._batch_size = batch_size
    self.restart(step)

  def restart(self, step):
    """Begins to measure anew."""
    self._step, self._time, self._idle = step, time.monotonic(), 0.0

  @contextlib.contextmanager
  def waiting(self, going):
    """Counts the body, unless the device was still at work after it."""
    asked = time.monotonic()
    yield
    if going[-1].state.step.is_ready():
      self._idle += time.monotonic() - asked

  def read(self, step):
    """(images a second of one member, share of the time that was waited)."""
    seconds = time.monotonic() - self._time
    images = (step - self._step) * self._batch_size
    return images / seconds, self._idle / seconds
