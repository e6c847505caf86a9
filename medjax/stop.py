"""Being told to stop: Ctrl-C and SIGTERM, on one process or many."""

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
    # Under jax.distributed its own service hears SIGTERM, for all processes.
    if jax.process_count() == 1:
      for number in (signal.SIGINT, signal.SIGTERM):
        self._before[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *exception):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _handle(self, number, frame):
    if self._received:  # the second one does not wait
      raise Stopped(128 + number, 'told twice; the last checkpoint stands')
    self._received = number

  def exit_code(self, step):
    """The code to exit with after saving `step`, or None to go on."""
    if jax.process_count() > 1:
      if multihost_utils.reached_preemption_sync_point(step):
        return 128 + signal.SIGTERM
      return None
    return self._received and 128 + self._received
