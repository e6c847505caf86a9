"""What goes wrong with DICOM, as one line that quotes nothing of the file."""

import contextlib
import threading

from medjax.data.formats.silence import unlogged

_thread = threading.local()


class DicomError(ValueError):
  """A line of this package's own, to tell it from what pydicom raises."""


@contextlib.contextmanager
def quiet():
  """Keeps pydicom's warnings and log, which quote header values, to itself.

  Within another, it does nothing: it is entered for every number that is read.
  """
  if getattr(_thread, 'quiet', False):
    yield
    return
  _thread.quiet = True
  try:
    with unlogged():
      yield
  finally:
    _thread.quiet = False


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
