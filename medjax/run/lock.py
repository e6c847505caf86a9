"""One run per workdir: a lock that ends with the process that holds it."""

import contextlib
import fcntl
import os
import pathlib
import sys

_NAME = '.lock'


@contextlib.contextmanager
def locked(workdir):
  """Holds a workdir for the body.

  Raises ValueError where another process holds it. A file system without
  locks, as of some clusters, is said, and nothing is held.
  """
  path = pathlib.Path(workdir) / _NAME
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('a+') as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter of SMB
      f.seek(0)
      holder = f.read().strip() or '?'
      raise ValueError(
        f'{workdir}: process {holder} trains here; wait for it, or take '
        'another --workdir'
      ) from None
    except OSError as e:
      print(
        f'medjax: {workdir}: its file system has no locks ({e.strerror}): let '
        'no other process train here',
        file=sys.stderr,
      )
    f.truncate(0)
    f.write(str(os.getpid()))
    f.flush()
    yield


def is_locked(workdir):
  """Whether a process holds a workdir."""
  try:
    with (pathlib.Path(workdir) / _NAME).open() as f:
      fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except FileNotFoundError:
    return False
  except BlockingIOError:
    return True
  return False
