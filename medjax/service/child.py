"""A process of a service: python -m medjax.service.child PART HOME.

Started by `run` alone; ends when that does.
"""

import logging
import os
import pathlib
import secrets
import socket
import sys
import threading
import time

from medjax import files
from medjax.service import quiet
from medjax.service import settings as settings_lib
from medjax.service import store as store_lib

log = logging.getLogger('medjax.service')
_TICK = 0.25  # seconds between two rounds of the courier


def _end_with_parent():
  """Ends this process as soon as nobody holds the other end of its stdin."""

  def watch():
    while sys.stdin.buffer.read(1):
      pass
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def _intake(settings, name):
  from medjax.service import intake, scp

  store = store_lib.Store(settings, durable=False)
  found = intake.recover(store)
  if found:
    log.info('%d incoming files were taken up again', found)
  server = scp.Scp(store)
  server.start()
  log.info(
    'DICOM at %s:%d as %s', settings.dicom.host, settings.dicom.port,
    settings.dicom.ae_title,
  )  # fmt: skip
  threading.Event().wait()


def _courier(settings, name):
  from medjax.service import complete, deliver

  store = store_lib.Store(settings)
  steps = (complete.complete_studies, deliver.deliver)

  def loop(step):
    while True:
      try:
        step(store)
      except Exception as e:  # the database was away, say; tried again
        log.error('%s: %s', step.__name__, type(e).__name__)
        time.sleep(2)
      time.sleep(_TICK)

  # A peer that does not answer must not keep studies waiting.
  threads = [threading.Thread(target=loop, args=(s,)) for s in steps]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()


def _home_id(settings):
  """Eight digits by which this home is told from others."""
  path = settings.home / 'run' / 'id'
  if not path.exists():
    files.write_text(path, secrets.token_hex(4))
  return path.read_text()


def _worker(settings, name):
  from medjax.service import worker

  cache = os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR', str(settings.home / 'xla')
  )
  import jax

  jax.config.update('jax_compilation_cache_dir', cache)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  store = store_lib.Store(settings)
  # Alike after a restart, so that a job of before is taken up at once.
  owner = f'{socket.gethostname()}-{_home_id(settings)}/{name}'
  made = worker.Worker(store, owner)
  made.warm()
  (settings.home / 'run' / f'{name}.ready').write_text(str(os.getpid()))
  made.run()


def _web(settings, name):
  from medjax.service.web import serve

  serve.serve(store_lib.Store(settings))


_PARTS = {
  'intake': _intake,
  'courier': _courier,
  'worker': _worker,
  'web': _web,
}


def main():
  """Runs one part until it is killed or its parent ends."""
  name, home = sys.argv[1], pathlib.Path(sys.argv[2])
  quiet.begin(name)
  _end_with_parent()
  settings = settings_lib.read(home)
  try:
    _PARTS[name.partition('-')[0]](settings, name)
  except (OSError, ValueError) as e:
    log.error('%s', e)
    sys.exit(1)


if __name__ == '__main__':
  main()
