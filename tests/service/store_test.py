"""Rows that several take, on both databases."""

import threading

import hospital
import pytest
import sqlalchemy as sa

from medjax.service import store as store_lib
from medjax.service import tables


@pytest.fixture(params=['sqlite', 'postgresql'])
def both(request, tmp_path):
  """A store of each kind."""
  if request.param == 'sqlite':
    yield hospital.make_store(tmp_path / 'home')
    return
  postgres = request.getfixturevalue('postgres')
  made = hospital.make_store(tmp_path / 'home', postgres.url)
  yield made
  tables.metadata.drop_all(made.engine)
  made.engine.dispose()


def fill(store, count):
  with store.write() as c:
    c.execute(
      tables.studies.insert().values(
        id='s', uid='1', state='routed', touched=0, shown={}, created=0
      )
    )
    c.execute(
      tables.models.insert().values(
        name='m', workdir='', digest='d', when='', facts={}, created=0
      )
    )
    for k in range(count):
      c.execute(tables.jobs.insert().values(
        study='s', model=1, key=str(k), series='', version=1, inputs=[],
        state='queued', created=0))  # fmt: skip


def test_each_job_is_taken_once(both):
  fill(both, 40)
  taken, lock = [], threading.Lock()

  def work(name):
    while True:
      with both.write() as c:
        job = store_lib.claim_job(c, name, 60)
      if job is None:
        return
      with lock:
        taken.append(job.id)
      with both.write() as c:
        t = tables.jobs
        c.execute(t.update().where(t.c.id == job.id).values(state='done'))

  threads = [threading.Thread(target=work, args=(f'w{k}',)) for k in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  with both.read() as c:
    rows = c.execute(sa.select(tables.jobs)).all()
  assert {r.state for r in rows} == {'done'}
  assert sorted(taken) == sorted(r.id for r in rows)


def test_a_job_whose_worker_is_gone_is_taken_again(both):
  fill(both, 1)
  with both.write() as c:
    job = store_lib.claim_job(c, 'a', 10, now=100)
    assert store_lib.claim_job(c, 'b', 10, now=105) is None
    again = store_lib.claim_job(c, 'b', 10, now=111)
    assert (again.id, again.tries, again.owner) == (job.id, 2, 'b')
    assert not store_lib.renew(c, job.id, 'a', 10)
    assert store_lib.renew(c, job.id, 'b', 10)
    # Started again under its name, a worker has its job at once.
    assert store_lib.claim_job(c, 'b', 10, now=112).tries == 3


def test_a_file_that_changed_is_not_given(both):
  digest = both.keep(b'image')
  assert both.bytes(digest) == b'image'
  both.path(digest).write_bytes(b'other')
  with pytest.raises(OSError, match='not as it was written'):
    both.bytes(digest)
