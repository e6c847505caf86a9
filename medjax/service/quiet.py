"""Keeps out of the log what libraries say: their lines may quote a header.

A name without a caret, say, is a warning of highdicom's that quotes it, and a
statement that failed is quoted by the database with its values.
"""

import logging
import os
import sys
import threading
import traceback
import warnings

log = logging.getLogger('medjax.service')


def begin(name):
  """Has this process log, as `name`, what medjax says and nothing else.

  Libraries set levels of their own when they are imported, pydicom's to its
  warnings: so it is the handler that lets no line of theirs pass. An exception
  that nobody takes is told by its kind and its place alone.
  """
  warnings.simplefilter('ignore')
  handler = logging.StreamHandler()
  handler.addFilter(logging.Filter('medjax'))
  logging.basicConfig(
    format=f'%(asctime)s {name}: %(message)s',
    level=logging.WARNING,
    handlers=[handler],
    force=True,
  )
  log.setLevel(logging.INFO)
  sys.excepthook = lambda kind, error, trace: _stopped(error)
  threading.excepthook = lambda told: _stopped(told.exc_value)


def where(error):
  """The kind of an error and where it arose; its text may quote a header."""
  last = traceback.extract_tb(error.__traceback__)[-1]
  name = os.path.basename(last.filename)
  return f'{type(error).__name__} in {name}, line {last.lineno}'


def _stopped(error):
  log.critical('stopped by %s', where(error))
