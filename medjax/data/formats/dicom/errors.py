"""What goes wrong with DICOM, as one line that quotes nothing of the file."""

import contextlib
import logging
import threading
import warnings

_thread = threading.local()
_lock = threading.Lock()
_inside = 0  # how many threads are within `quiet`
_kept = None  # the log's level and the filters of warnings before the first


class DicomError(ValueError):
  """A line of this package's own, to tell it from what pydicom raises."""


@contextlib.contextmanager
def quiet():
  """Keeps pydicom's warnings and log, which quote header values, to itself.

  Within another, it does nothing: it is entered for every number that is read.
  Level and filters are the process's: of several threads the first to enter
  changes them, and the last to leave puts them back.
  """
  if getattr(_thread, 'quiet', False):
    yield
    return
  _enter()
  _thread.quiet = True
  try:
    yield
  finally:
    _thread.quiet = False
    _leave()


def _enter():
  global _inside, _kept
  with _lock:
    _inside += 1
    if _inside > 1:
      return
    logger, filters = logging.getLogger('pydicom'), warnings.catch_warnings()
    _kept = logger.level, filters
    logger.setLevel(logging.CRITICAL + 1)
    filters.__enter__()
    warnings.simplefilter('ignore')


def _leave():
  global _inside, _kept
  with _lock:
    _inside -= 1
    if _inside:
      return
    level, filters = _kept
    _kept = None
    filters.__exit__()
    logging.getLogger('pydicom').setLevel(level)


@contextlib.contextmanager
def parsing(path, what='header'):
  """Whatever goes wrong inside on damaged bytes becomes one ValueError.

  pydicom meets damage with a dozen kinds of exception, whose texts may quote
  header values: they are left out.
  """
  try:
    with quiet():
      yield
  except (DicomError, FileNotFoundError, PermissionError):
    raise
  except Exception as e:
    raise DicomError(
      f'{path}: damaged DICOM {what} ({type(e).__name__}); copy it again'
    ) from None
