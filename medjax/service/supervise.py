"""`run`: starts the processes of a service, and starts them again.

Each child reads from a pipe whose other end this process holds: when this one
ends, however it ends, the children do too.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

from medjax.service import store as store_lib
from medjax.service.settings import LOOPBACK

PARTS = ('intake', 'web', 'courier', 'worker')
_CALM = 5.0  # a child that lived longer is started again at once
_PAUSE = 2.0
_WATCHED = 1.0  # seconds between two looks at the memory of workers


def check(settings, *, behind_proxy=False):
  """Raises ValueError for what would show patients' data on a network."""
  h, d = settings.http, settings.dicom
  if h.host not in LOOPBACK and not h.tls_cert and not behind_proxy:
    raise ValueError(
      f'[http] host is {h.host}, which others reach without TLS: set tls_cert '
      'and tls_key, or say --behind-proxy if a proxy in front does that'
    )
  if d.host not in LOOPBACK and not d.tls_cert and not behind_proxy:
    raise ValueError(
      f'[dicom] host is {d.host}, which others reach without TLS: set tls_cert '
      'and tls_key, or say --behind-proxy if a proxy in front does that or '
      'nobody else is on that network'
    )
  if d.host not in LOOPBACK and not settings.peers:
    raise ValueError(
      f'[dicom] host is {d.host}, but no [[peer]] says who may send: name them'
    )


class Supervisor:
  """Runs the parts of a service, until it is told to stop."""

  def __init__(self, settings, parts=PARTS):
    self._settings, self._children = settings, {}
    names = []
    for part in parts:
      count = settings.worker.workers if part == 'worker' else 1
      names += [
        f'{part}-{k}' if part == 'worker' else part for k in range(count)
      ]
    self._names = names
    self._stopped = threading.Event()

  def run(self, *, ready=lambda: None):
    """Starts all and watches; `ready` is called when they listen."""
    for sign in (signal.SIGTERM, signal.SIGINT):
      signal.signal(sign, lambda *_: self._stopped.set())
    for name in self._names:
      self._start(name)
    threading.Thread(target=self._await, args=(ready,), daemon=True).start()
    try:
      while not self._stopped.wait(_WATCHED / 4):
        self._watch()
    finally:
      self._stop()

  def _start(self, name):
    process = subprocess.Popen(
      [sys.executable, '-m', 'medjax.service.child', name,
       str(self._settings.home)],
      stdin=subprocess.PIPE,
    )  # fmt: skip
    self._children[name] = (process, time.monotonic())
    pids = self._settings.home / 'run'
    pids.mkdir(exist_ok=True)
    (pids / f'{name}.pid').write_text(str(process.pid))

  def _watch(self):
    """Starts again what ended, and ends what has grown too large."""
    limit = self._settings.worker.memory_gb * 2**30
    for name, (process, since) in list(self._children.items()):
      if process.poll() is None:
        if name.startswith('worker') and resident(process.pid) > limit:
          print(
            f'medjax: {name} has more than '
            f'{self._settings.worker.memory_gb:g} GB; it is started again',
            file=sys.stderr,
          )
          process.kill()
        continue
      if time.monotonic() - since < _CALM:
        time.sleep(_PAUSE if process.returncode > 0 else 0)
      if not self._stopped.is_set():
        print(
          f'medjax: {name} ended ({process.returncode}); it is started again',
          file=sys.stderr,
        )
        process.stdin.close()
        self._start(name)

  def _await(self, ready):
    """Calls `ready` when the ports answer and the workers have their models."""
    ports = {'intake': self._settings.dicom, 'web': self._settings.http}
    waiting = [ports[n] for n in self._names if n in ports]
    while waiting and not self._stopped.is_set():
      waiting = [p for p in waiting if not _answers(p.host, p.port)]
      time.sleep(0.1)
    for name in self._names:
      mark = self._settings.home / 'run' / f'{name}.ready'
      while name.startswith('worker') and not self._stopped.is_set():
        pid = str(self._children[name][0].pid)
        if mark.exists() and mark.read_text() == pid:
          break
        time.sleep(0.1)
    if not self._stopped.is_set():
      ready()

  def _stop(self):
    for process, _ in self._children.values():
      process.terminate()
    for process, _ in self._children.values():
      try:
        process.wait(5)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(host, port):
  try:
    with socket.create_connection((host, port), 1):
      return True
  except OSError:
    return False


def resident(pid):
  """Bytes of memory of a process; 0 where that cannot be told."""
  try:
    pages = pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1]
  except (OSError, IndexError):
    return 0
  return int(pages) * os.sysconf('SC_PAGE_SIZE')


def bound(settings):
  """The store of a home, checked."""
  found = store_lib.Store(settings)
  found.check()
  return found
