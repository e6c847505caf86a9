import concurrent.futures
import json
import socket
import time

import pytest

from medjax import processes


@pytest.fixture
def address():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{s.getsockname()[1]}'


def meet(address, *places):
  """What each (count, index) comes to, as a result or an error."""
  with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    calls = [pool.submit(processes.meet, address, *place) for place in places]
  return [call.exception() or call.result() for call in calls]


def test_all_meet_and_hear_of_one_port(address):
  # Whoever scans ports, or asks for health, is no process.
  found = concurrent.futures.ThreadPoolExecutor(1).submit(
    meet, address, (3, 2), (3, 0), (3, 1)
  )
  host, port = address.split(':')
  for _ in range(100):
    try:
      socket.create_connection((host, int(port))).sendall(b'GET / HTTP/1.1\n')
      break
    except OSError:
      time.sleep(0.01)
  (two, port), (hub, hub_port), (one, one_port) = found.result()
  assert port == hub_port == one_port
  assert (two.keys(), hub.keys(), one.keys()) == ({0}, {1, 2}, {0})
  hub[2].close()
  assert two[0].recv(1) == b''  # so a process that ends is noticed


@pytest.mark.parametrize(
  ('places', 'line'),
  [
    (((2, 0), (3, 1)), 'process 0 is one of 2 processes, process 1 of 3'),
    (((3, 0), (3, 1), (3, 1)), 'two processes were started as --process_id=1'),
  ],
)
def test_those_who_do_not_fit_together_hear_why(address, places, line):
  for error in meet(address, *places):
    assert isinstance(error, ConnectionError)
    assert str(error) == line


def test_nobody_waits_for_ever(address, monkeypatch):
  monkeypatch.setattr(processes, 'JOIN_SECONDS', 1.5)
  (error,) = meet(address, (2, 1))
  assert str(error).startswith(f'process 0 did not answer at {address} for')
  error, other = meet(address, (4, 0), (4, 2))
  assert str(error).endswith('within 1.5 s: 1, 3')
  assert 'process 0 at' in str(other)
  assert isinstance(error, OSError)
  assert isinstance(other, OSError)


def test_a_port_that_is_taken(address):
  with socket.create_server(('', int(address.partition(':')[2]))):
    (error,) = meet(address, (2, 0))
  assert isinstance(error, OSError)
  assert str(error).endswith('Address already in use; take another port')


@pytest.mark.parametrize(
  ('flags', 'line'),
  [
    (('host', 2, 0), '--coordinator=host is not HOST:PORT or auto'),
    (('host:1', 2, None), 'wants --num_processes and --process_id'),
    (('host:1', 2, 2), '--process_id=2 is not one of 0 to 1'),
    (('auto', None, None), '--coordinator=auto finds no cluster here'),
  ],
)
def test_flags_that_do_not_say_enough(flags, line, monkeypatch, tmp_path):
  for name in ('SLURM_JOB_ID', 'KUBERNETES_SERVICE_HOST'):
    monkeypatch.delenv(name, raising=False)
  with (
    pytest.raises(ValueError, match=line),
    processes.joined(*flags, workdir=tmp_path),
  ):
    pass


def test_a_cluster_is_asked(monkeypatch, tmp_path):
  slurm = dict(
    JOB_ID=4000,
    STEP_NODELIST='node[07-09]',
    NTASKS=12,
    PROCID=5,
    LOCALID=1,
  )
  for name, value in slurm.items():
    monkeypatch.setenv(f'SLURM_{name}', str(value))
  met = []
  monkeypatch.setattr(processes, 'meet', lambda *a: met.append(a) or 1 / 0)
  with (
    pytest.raises(ZeroDivisionError),
    processes.joined('auto', None, None, workdir=tmp_path),
  ):
    pass
  ((address, count, index),) = met
  assert address.startswith('node07:')
  assert (count, index) == (12, 5)


def test_one_process_needs_no_other(tmp_path):
  with processes.joined(None, None, None, workdir=tmp_path):
    pass
  with processes.joined('host:1', 1, 0, workdir=tmp_path):
    pass


def pair():
  """What process 0 and a process 1 of three hold of each other."""
  ours, theirs = socket.socketpair()
  return {0: theirs}, ours


@pytest.mark.parametrize(
  ('saved', 'advice'),
  [
    ((), 'nothing is saved yet; the same command begins again'),
    (('4', '12', '16.orbax-checkpoint-tmp'), 'step 12 is whole in'),
  ],
)
@pytest.mark.parametrize(
  ('message', 'reason'),
  [
    (None, 'process 0 of 3 was lost'),
    (dict(what='lost', process=2), 'process 2 of 3 was lost'),
    (dict(what='failed', process=2), 'process 2 of 3 failed, and says why'),
  ],
)
def test_what_ends_this_process(
  monkeypatch, tmp_path, capsys, message, reason, saved, advice
):
  for name in saved:
    (tmp_path / name).mkdir()
  codes = []
  monkeypatch.setattr(processes, '_leave', codes.append)
  links, other = pair()
  peers = processes._Peers(links, 3, 1, tmp_path)
  if message:
    other.sendall(json.dumps(message).encode() + b'\n')
  else:
    other.close()
  for _ in range(300):
    if codes:
      break
    time.sleep(0.01)
  assert codes == [1]
  line = capsys.readouterr().err
  assert line.startswith(f'medjax: stopped: {reason}; {advice}')
  assert peers is not None


def test_who_is_done_is_not_lost(monkeypatch, tmp_path):
  codes = []
  monkeypatch.setattr(processes, '_leave', codes.append)
  links, other = pair()
  processes._Peers(links, 3, 1, tmp_path)
  other.sendall(b'{"what": "done", "process": 0}\n')
  other.close()
  time.sleep(0.1)
  assert not codes
