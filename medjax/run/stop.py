"""Being told to stop: Ctrl-C and SIGTERM, on one process or many."""

import os
import signal
import sys

import jax
from jax.experimental import multihost_utils


class Stopped(SystemExit):
  """The run was told to stop; unless told twice, it has saved itself."""

  def __init__(self, code, message):
    super().__init__(code)
    print(f'medjax: stopped: {message}', file=sys.stderr)


class StopSignal:
  """Turns Ctrl-C and SIGTERM into a question that the loop asks.

  A context: afterwards they end the program again.
  """

  def __init__(self):
    self._received, self._before = None, {}

  def __enter__(self):
    self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._handle)
    # With several processes JAX's own service hears it, and tells the others.
    if jax.process_count() == 1:
      self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._handle)
    else:
      self._before[signal.SIGTERM] = signal.SIG_DFL
    return self

  def __exit__(self, *exception):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _handle(self, number, frame):
    alone = jax.process_count() == 1
    if self._received and alone:  # the second one does not wait
      raise Stopped(128 + number, 'told twice; what was saved before stands')
    if self._received:
      raise KeyboardInterrupt  # not agreed upon: an error to the others
    self._received = number
    if not alone:
      os.kill(os.getpid(), signal.SIGTERM)

  def exit_code(self, step):
    """The code to exit with after saving `step`, or None to go on.

    To be asked at every step: processes agree on the one after which they stop.
    """
    if jax.process_count() == 1:
      return self._received and 128 + self._received
    if multihost_utils.reached_preemption_sync_point(step):
      return 128 + (self._received or signal.SIGTERM)
    return None
