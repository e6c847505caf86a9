"""Decoders in C print what they think of damage: `silent()` keeps it quiet.

What is wrong is raised as well, and named there. Python cannot see such output,
so the process's standard error itself is turned away meanwhile. What Python
writes goes to a copy of it from then on: while one thread decodes, another may
have an error to tell.
"""

import contextlib
import logging
import os
import sys
import warnings

from medjax.data.formats.shared import Shared


def silent():
  """Within, standard error goes nowhere; several threads may be within."""
  return _silent


def unlogged():
  """Within, neither readers' logs nor warnings; several threads may be within.

  Both may quote values of a header. What is wrong is raised as well.
  """
  return _unlogged


def unwarned():
  """Within, no warnings; several threads may be within. Quick to enter."""
  return _unwarned


@contextlib.contextmanager
def _turned_away():
  kept = None  # the real standard error
  with contextlib.suppress(OSError, ValueError):  # closed, in a service
    sys.stderr.flush()
    if sys.stderr.fileno() == 2:
      sys.stderr = os.fdopen(
        os.dup(2), 'w', buffering=1, errors='backslashreplace'
      )
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
  try:
    yield
  finally:
    if kept is not None:
      os.dup2(kept, 2)
      os.close(kept)


@contextlib.contextmanager
def _without_log():
  loggers = [logging.getLogger(name) for name in ('pydicom', 'tifffile')]
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.CRITICAL + 1)
  try:
    with _unwarned:
      yield
  finally:
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)


@contextlib.contextmanager
def _without_warnings():
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    yield


# Level, filters and standard error are the process's: the first thread to enter
# changes them, and the last to leave puts them back.
_silent, _unlogged = Shared(_turned_away), Shared(_without_log)
_unwarned = Shared(_without_warnings)
