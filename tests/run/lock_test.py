import errno
import multiprocessing
import os

import pytest

from medjax.run import lock
from medjax.run.lock import locked


def hold(workdir, held, leave):
  with locked(workdir):
    held.set()
    leave.wait(60)


def test_a_workdir_belongs_to_one_process(tmp_path):
  spawn = multiprocessing.get_context('spawn')
  held, leave = spawn.Event(), spawn.Event()
  process = spawn.Process(target=hold, args=(tmp_path, held, leave))
  process.start()
  assert held.wait(60)
  with (
    pytest.raises(ValueError, match=f'process {process.pid} trains here'),
    locked(tmp_path),
  ):
    pass
  process.kill()  # the lock does not outlive it
  process.join()
  with locked(tmp_path):
    pass


@pytest.mark.parametrize('code', [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys, code):
  def flock(*_):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(lock.fcntl, 'flock', flock)
  with locked(tmp_path):
    assert 'has no locks' in capsys.readouterr().err
