"""What people see of a program: no control bytes, and never an error of it."""

import contextlib
import errno
import io
import os
import sys

from absl import logging


def printable(text):
  """Text without what steers a terminal: \\x1b in place of the escape byte.

  Lines and tabs stay. A byte of a file name that is no UTF-8 is \\udc….
  """
  if text.isprintable():
    return text
  return ''.join(
    c if c.isprintable() or c in '\n\t' else ascii(c)[1:-1] for c in text
  )


class Terminal:
  """A stream that shows text, and whose reader may have gone.

  What cannot be written is dropped: work is not lost for want of a listener.
  Attributes: `bare`, the stream itself; `error` of the first text that was
  dropped.
  """

  def __init__(self, stream):
    self.bare, self.error = stream, None
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')

  def write(self, text):
    """Writes text, printable."""
    self._attempt(self.bare.write, printable(text))
    return len(text)

  def writelines(self, lines):
    """Writes each, printable."""
    for line in lines:
      self.write(line)

  def flush(self):
    """Flushes what there is."""
    self._attempt(self.bare.flush)

  def _attempt(self, write, *text):
    if self.error is not None:
      return
    try:
      write(*text)
    except (OSError, ValueError) as e:  # ValueError: the stream is closed
      self.error = e
      with contextlib.suppress(OSError, ValueError):
        # What it still holds goes nowhere when the program ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.bare.fileno())
        os.close(nowhere)

  @property
  def failed(self):
    """Whether text was dropped that somebody could have read."""
    return self.error is not None and (
      getattr(self.error, 'errno', errno.EPIPE)
      not in (errno.EPIPE, errno.EBADF)
    )

  def __getattr__(self, name):
    return getattr(self.bare, name)


def bare(stream):
  """The stream itself, for what steers a terminal on purpose."""
  return getattr(stream, 'bare', stream)


@contextlib.contextmanager
def shown():
  """Within, standard output and error are each a `Terminal`.

  A program may be started without them: their numbers are then taken, lest a
  file that is opened gets one, and with it what libraries say.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)
  before = sys.stdout, sys.stderr
  sys.stdout, sys.stderr = map(_terminal, before)
  ours = sys.stdout, sys.stderr
  try:
    yield
  finally:
    for stream in ours:
      stream.flush()
    if sys.stdout is ours[0]:
      sys.stdout = before[0] or ours[0]
    if sys.stderr is ours[1]:
      sys.stderr = before[1] or ours[1]


def _terminal(stream):
  if isinstance(stream, Terminal):
    return stream
  return Terminal(io.StringIO() if stream is None else stream)


@contextlib.contextmanager
def quiet():
  """Within, libraries that speak through absl say errors only."""
  before = logging.get_verbosity()
  logging.set_verbosity(min(before, logging.ERROR))  # FATAL is -3
  try:
    yield
  finally:
    logging.set_verbosity(before)
