"""Decoders in C print what they think of damage: `silent()` keeps it quiet.

What is wrong is raised as well, and named there. Python cannot see such output,
so the process's standard error itself is turned away meanwhile. What Python
writes goes to a copy of it from then on: while one thread decodes, another may
have an error to tell.
"""

import contextlib
import os
import sys
import threading

_lock = threading.Lock()
_inside = 0  # how many threads are decoding
_kept = None  # the real standard error


@contextlib.contextmanager
def silent():
  """Within, standard error goes nowhere; several threads may be within."""
  _enter()
  try:
    yield
  finally:
    _leave()


def _enter():
  global _inside, _kept
  with _lock:
    _inside += 1
    if _inside > 1:
      return
    with contextlib.suppress(OSError, ValueError):  # closed, in a service
      sys.stderr.flush()
      if sys.stderr.fileno() == 2:
        sys.stderr = os.fdopen(
          os.dup(2), 'w', buffering=1, errors='backslashreplace'
        )
      _kept = os.dup(2)
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, 2)
      os.close(nowhere)


def _leave():
  global _inside, _kept
  with _lock:
    _inside -= 1
    if _inside or _kept is None:
      return
    os.dup2(_kept, 2)
    os.close(_kept)
    _kept = None
