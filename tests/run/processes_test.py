"""How processes join one run, and what they say when they do not."""

import jax
import pytest

from medjax.run import processes


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
  monkeypatch.setattr(
    jax.distributed, 'initialize', lambda *place, **_: met.append(place)
  )
  with processes.joined('auto', None, None, workdir=tmp_path):
    pass
  ((address, count, index),) = met
  assert address.startswith('node07:')
  assert (count, index) == (12, 5)


def test_one_process_needs_no_other(tmp_path):
  with processes.joined(None, None, None, workdir=tmp_path):
    pass


def test_processes_that_do_not_meet_say_where(monkeypatch, tmp_path):
  def nobody(*place, **_):
    raise RuntimeError('DEADLINE_EXCEEDED: 2 of 3 tasks\nand more')

  monkeypatch.setattr(jax.distributed, 'initialize', nobody)
  line = r'process 1 of 3 did not meet the others at host:1 \(DEADLINE[^\n]*\?$'
  with (
    pytest.raises(ConnectionError, match=line),
    processes.joined('host:1', 3, 1, workdir=tmp_path),
  ):
    pass


@pytest.mark.parametrize(
  ('names', 'line'),
  [
    ((), 'nothing is saved yet; the same command begins again'),
    (('4', '12', '16.orbax-checkpoint-tmp'), 'step 12 is whole in '),
  ],
)
def test_what_there_is_to_go_on_from(tmp_path, names, line):
  for name in names:
    (tmp_path / 'checkpoints' / name).mkdir(parents=True)
  assert processes.saved(tmp_path).startswith(line)
