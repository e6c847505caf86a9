"""Who works on a trial: a file that its process keeps fresh while it lives.

The journal of trials knows no heartbeat: without this, the trial of a process
that was killed would run for ever.
"""

import contextlib
import os
import socket
import threading

from medjax.run import lock

INTERVAL = 10.0  # seconds between two renewals
_LIVES = 3  # of them, before a lease is another's for the taking
_NAME = 'lease'


@contextlib.contextmanager
def held(folder, *, interval=INTERVAL):
  """Holds the lease of a trial's folder for the body.

  One that another has taken since, as of a process that slept, is left alone.
  """
  path, done = folder / _NAME, threading.Event()
  path.write_text(_own())

  def renew():
    while not done.wait(interval):
      with contextlib.suppress(OSError):
        if is_own(folder):
          os.utime(path)

  thread = threading.Thread(target=renew, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()
    if is_own(folder):
      path.unlink()


def is_own(folder):
  """Whether this process holds the lease of a trial's folder, still."""
  try:
    return (folder / _NAME).read_text() == _own()
  except FileNotFoundError:
    return False


def _own():
  return f'{socket.gethostname()} {os.getpid()}\n'


def is_held(folder, *, interval=INTERVAL):
  """Whether somebody alive works on a trial.

  A process of this machine that is gone is known at once; of another machine,
  when its lease was not renewed for three intervals and its run is not locked.
  """
  path = folder / _NAME
  try:
    host, pid = path.read_text().split()
    renewed = path.stat().st_mtime
  except (FileNotFoundError, ValueError):
    return False
  if host == socket.gethostname() and not _lives(int(pid)):
    return False
  # Renewed by the clock of the file server, which this machine's may not match.
  os.utime(folder)
  age = folder.stat().st_mtime - renewed
  # One that slept, or whose file server did, still has the lock of its run.
  return age < _LIVES * interval or lock.is_locked(folder)


def _lives(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True
