"""Who works on a trial, and who may take it over."""

import os
import time

from medjax.run import lock
from medjax.search import lease, ledger, worker


def space(trial):
  return {'x': trial.suggest_float('x', 0.0, 1.0)}


def test_a_lease_is_its_process(tmp_path):
  with lease.held(tmp_path, interval=0.05):
    assert lease.is_held(tmp_path, interval=0.05)
    time.sleep(0.4)
    assert lease.is_held(tmp_path, interval=0.05)  # renewed
  assert not lease.is_held(tmp_path)
  (tmp_path / 'lease').write_text('elsewhere 1')
  assert lease.is_held(tmp_path, interval=100)
  os.utime(tmp_path / 'lease', (1, 1))
  assert not lease.is_held(tmp_path, interval=100)


def test_a_process_that_could_not_renew_is_alive_while_it_holds_its_run(
  tmp_path,
):
  path = tmp_path / 'lease'
  path.write_text('elsewhere 1')
  os.utime(path, (1, 1))
  with lock.locked(tmp_path):
    assert lease.is_held(tmp_path)
  assert not lease.is_held(tmp_path)


def test_how_old_a_lease_is_is_known_by_one_clock(tmp_path, monkeypatch):
  (tmp_path / 'lease').write_text('elsewhere 1')
  monkeypatch.setattr(time, 'time', lambda real=time.time: real() + 1000)
  assert lease.is_held(tmp_path)


def test_what_a_process_finds_that_lost_its_trial_is_not_written(tmp_path):
  calls = []

  def objective(overrides, folder, until):
    calls.append(until)
    if len(calls) == 1:  # another takes it over, and dies in turn
      (folder / 'lease').write_text('elsewhere 1')
    return {until: 0.1 * len(calls)}

  said = []
  (trial,) = worker.search(
    tmp_path, objective, space, trials=1, levels=(9,), interval=0.05,
    show=said.append,
  )  # fmt: skip
  assert trial.values == {9: 0.2}
  assert 'another process has taken it on' in said[0]


def test_a_lease_that_another_has_taken_is_left_alone(tmp_path):
  path = tmp_path / 'lease'
  with lease.held(tmp_path, interval=0.05):
    path.write_text('elsewhere 1')
    os.utime(path, (1, 1))
    time.sleep(0.2)
    assert path.stat().st_mtime == 1  # nor is it renewed
  assert path.read_text() == 'elsewhere 1'


def test_who_may_take_a_trial_on_finds_no_lease_of_the_one_before(tmp_path):
  """Showing takes a while where a terminal is blocked."""
  seen = []

  def show(line):
    (trial,) = ledger.read(tmp_path)
    held = (ledger.folder(tmp_path, 0) / 'lease').exists()
    seen.append((trial.state, held))

  worker.search(
    tmp_path, lambda overrides, folder, until: {until: 0.5}, space,
    trials=1, levels=(3, 9), show=show,
  )  # fmt: skip
  assert seen == [('paused', False), ('done', False)]
