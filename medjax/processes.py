"""The processes of one run: how they find each other, and end together.

JAX alone waits minutes for a process that was lost, and then ends the others
from C++. So every process holds a socket to process 0 as well: the system
closes it with the process, and within a second all others know.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import json
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings

import jax
from jax._src import clusters  # no public name

JOIN_SECONDS = 300  # machines of a cluster start at different times
_GRACE = 1  # seconds in which a lost process is heard of


@contextlib.contextmanager
def joined(coordinator, num_processes, process_id, *, workdir, debug=False):
  """Makes this process one of several for the body; alone without coordinator.

  coordinator: host:port of process 0, or 'auto': the cluster is asked for all
  three. When one process is lost or fails, the others end with one line.
  Raises ValueError and OSError where they do not find each other.
  """
  if not coordinator:
    yield
    return
  address, count, index, devices = _place(
    coordinator, num_processes, process_id
  )
  if count == 1:
    yield
    return
  links, port = meet(address, count, index)
  peers = _Peers(links, count, index, pathlib.Path(workdir) / 'checkpoints')
  if not debug:
    _hold_native_errors(peers)
  host = address.rpartition(':')[0]
  jax.distributed.initialize(
    f'{host}:{port}', count, index, local_device_ids=devices
  )
  try:
    yield
  except SystemExit:  # agreed upon by all
    peers.part()
    raise
  except BaseException as e:
    # If it comes of a process that was lost, that is said and ends this one.
    time.sleep(_GRACE)
    peers.fail()
    # Without JAX's farewell, which would wait for the others.
    atexit.register(_leave, 130 if isinstance(e, KeyboardInterrupt) else 1)
    raise
  peers.part()


def _leave(code):
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _place(coordinator, num_processes, process_id):
  """(address of process 0, number of processes, own number, own devices)."""
  if coordinator != 'auto':
    host, _, port = coordinator.rpartition(':')
    if not (host and port.isdigit()):
      raise ValueError(f'--coordinator={coordinator} is not HOST:PORT or auto')
    if num_processes is None or process_id is None:
      raise ValueError(
        '--coordinator=HOST:PORT wants --num_processes and --process_id; '
        '--coordinator=auto asks the cluster for them'
      )
    if not 0 <= process_id < num_processes:
      raise ValueError(
        f'--process_id={process_id} is not one of 0 to {num_processes - 1}, '
        f'--num_processes={num_processes}'
      )
    return coordinator, num_processes, process_id, None
  with warnings.catch_warnings(action='ignore'):  # of several lines
    try:
      found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        None, num_processes, process_id, None, None, JOIN_SECONDS
      )
    except Exception as e:  # of any library that knows a cluster
      raise ValueError(f'--coordinator=auto: {e}') from e
  if None in found[:3]:
    raise ValueError(
      '--coordinator=auto finds no cluster here (it knows srun of Slurm, '
      'mpirun of Open MPI, TPU pods and, with the package kubernetes, Jobs and '
      'JobSets): give --coordinator=HOST:PORT, --num_processes, --process_id'
    )
  return found


def meet(address, count, index):
  """Waits until all processes have met at `address`, where process 0 listens.

  Returns ({process: socket}, port that process 0 has free for JAX). Process 0
  gets a socket to each other one, those get one to it.
  """
  host, _, port = address.rpartition(':')
  deadline = time.monotonic() + JOIN_SECONDS
  if index == 0:
    return _receive(address, int(port), count, deadline)
  link = _call(address, (host.strip('[]'), int(port)), deadline)
  _send(link, process=index, of=count)
  link.settimeout(JOIN_SECONDS)
  try:
    reply = _read(link)
  except (OSError, ValueError):
    reply = {'refused': f'process 0 at {address} gave up: see its line'}
  if 'refused' in reply:
    raise ConnectionError(reply['refused'])
  link.settimeout(None)
  return {0: link}, reply['port']


def _call(address, place, deadline):
  """A socket to process 0, once it is there."""
  while True:
    try:
      return _kept_alive(socket.create_connection(place, timeout=5))
    except OSError as e:
      if time.monotonic() > deadline:
        raise TimeoutError(
          f'process 0 did not answer at {address} for {JOIN_SECONDS} s ({e}): '
          'does it run there, and is the port open?'
        ) from None
    time.sleep(0.2)


def _receive(address, port, count, deadline):
  """Process 0: sockets to all others, once they are there."""
  dual = socket.has_dualstack_ipv6()
  try:
    server = socket.create_server(
      ('', port),
      family=socket.AF_INET6 if dual else socket.AF_INET,
      dualstack_ipv6=dual,
    )
  except OSError as e:
    raise OSError(
      f'--coordinator={address}: {os.strerror(e.errno)}; take another port'
    ) from None
  links = {}
  with server:
    while len(links) < count - 1:
      server.settimeout(max(deadline - time.monotonic(), 0.01))
      try:
        link = _kept_alive(server.accept()[0])
      except TimeoutError:
        missing = ', '.join(str(i) for i in range(1, count) if i not in links)
        raise TimeoutError(
          f'of {count} processes these did not come to {address} within '
          f'{JOIN_SECONDS} s: {missing}'
        ) from None
      _welcome(link, links, count)
  with socket.create_server(('', 0)) as free:
    port = free.getsockname()[1]
  for link in links.values():
    _send(link, port=port)
  return links, port


def _welcome(link, links, count):
  """Adds a caller to the links; raises ConnectionError if it is a wrong one."""
  link.settimeout(5)
  try:
    hello = _read(link)
    process, of = int(hello['process']), int(hello['of'])
  except (OSError, ValueError, KeyError, TypeError):
    link.close()  # a stranger: some scan ports
    return
  wrong = None
  if of != count:
    wrong = f'process 0 is one of {count} processes, process {process} of {of}'
  elif process in links:
    wrong = f'two processes were started as --process_id={process}'
  if wrong:
    for other in (link, *links.values()):
      _send(other, refused=wrong)
    raise ConnectionError(wrong)
  link.settimeout(None)
  links[process] = link


def _kept_alive(link):
  """The socket, which ends within half a minute of a machine without power."""
  link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  options = dict(TCP_KEEPIDLE=10, TCP_KEEPINTVL=5, TCP_KEEPCNT=4)
  for name, value in options.items():
    if hasattr(socket, name):
      link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
  return link


def _send(link, **message):
  with contextlib.suppress(OSError):  # who is gone is noticed by reading
    link.sendall(json.dumps(message).encode() + b'\n')


def _read(link):
  with link.makefile() as lines:
    return json.loads(lines.readline())


class _Peers:
  """Hears of the end of the other processes, and ends this one if it must."""

  def __init__(self, links, count, index, checkpoints):
    self._links, self._count, self._index = links, count, index
    self._checkpoints = checkpoints
    self._ending, self._failed = threading.Lock(), False
    for peer, link in links.items():
      threading.Thread(
        target=self._listen, args=(peer, link), daemon=True
      ).start()

  def part(self):
    """Waits until all are done."""
    for link in self._links.values():
      _send(link, what='done', process=self._index)
    jax.distributed.shutdown()

  def fail(self):
    """Tells the others that this process ends on an error."""
    self._failed = True
    for link in self._links.values():
      _send(link, what='failed', process=self._index)

  def end(self, reason):
    """Ends this process with one line."""
    self._ending.acquire()  # and never given back
    names = [p.name for p in self._checkpoints.glob('*')]
    steps = [int(name) for name in names if name.isdigit()]
    advice = 'nothing is saved yet; the same command begins again'
    if steps:
      advice = (
        f'step {max(steps)} is whole in {self._checkpoints}; the same command '
        'goes on from there, with any number of processes'
      )
    print(f'medjax: stopped: {reason}; {advice}', file=sys.stderr)
    _leave(1)

  def _listen(self, peer, link):
    done = False
    with contextlib.suppress(OSError), link.makefile() as lines:
      for line in lines:
        message = json.loads(line)
        done |= message['what'] == 'done'
        if not done:
          self._gone(**message)
    if not done:
      self._gone('lost', peer)

  def _gone(self, what, process):
    if self._failed:
      return
    for peer, link in self._links.items():
      if self._index == 0 and peer != process:
        _send(link, what=what, process=process)
    how = {'lost': 'was lost', 'failed': 'failed, and says why'}[what]
    self.end(f'process {process} of {self._count} {how}')


def _hold_native_errors(peers):
  """Keeps back what C++ writes of the end of another process.

  What it writes of anything else is shown when this process ends.
  """
  held = tempfile.TemporaryFile()  # noqa: SIM115 - until the process ends
  sys.stderr.flush()
  sys.stderr = os.fdopen(os.dup(2), 'w', buffering=1)
  os.dup2(held.fileno(), 2)
  faulthandler.enable(sys.stderr)

  def show():
    held.seek(0)
    sys.stderr.write(held.read().decode(errors='replace'))

  @ctypes.CFUNCTYPE(None, ctypes.c_int)
  def aborted(number):
    time.sleep(2 * _GRACE)  # Who listens may know more, and ends the process.
    held.seek(0)
    if b'JAX distributed service' in held.read():
      peers.end('the processes lost touch with each other')
    show()
    _leave(128 + number)

  # A handler of Python's own would run too late: abort() does not return.
  ctypes.CDLL(None).signal(signal.SIGABRT, aborted)
  _hold_native_errors.handler = aborted  # C holds no reference
  atexit.register(show)
