"""Who works on a trial: a file that its process keeps fresh while it lives.

The journal of trials knows no heartbeat: without this, the trial of a process
that was killed would run for ever.
"""

import contextlib
import os
import socket
import threading
import time

INTERVAL = 10.0  # seconds between two renewals
_LIVES = 3  # of them, before a lease is another's for the taking
_NAME = 'lease'


@contextlib.contextmanager
def held(folder, *, interval=INTERVAL):
  """Holds the lease of a trial's folder for the body.

  One that another has taken since, as of a process that slept, is left alone.
  """
  path, done = folder / _NAME, threading.Event()
  own = f'{socket.gethostname()} {os.getpid()}\n'
  path.write_text(own)

  def renew():
    while not done.wait(interval):
      with contextlib.suppress(OSError):
        if path.read_text() == own:
          os.utime(path)

  thread = threading.Thread(target=renew, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()
    with contextlib.suppress(FileNotFoundError):
      if path.read_text() == own:
        path.unlink()


def is_held(folder, *, interval=INTERVAL):
  """Whether somebody alive works on a trial.

  A process of this machine that is gone is known at once; of another machine,
  when its lease was not renewed for three intervals.
  """
  path = folder / _NAME
  try:
    host, pid = path.read_text().split()
    age = time.time() - path.stat().st_mtime
  except (OSError, ValueError):
    return False
  if host == socket.gethostname() and not _lives(int(pid)):
    return False
  return age < _LIVES * interval


def _lives(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True
