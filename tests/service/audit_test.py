import time
import xml.etree.ElementTree as ET

import hospital
import pytest
import sqlalchemy as sa

from medjax.service import audit, tables


@pytest.fixture
def log(store):
  with store.write() as c:
    for k in range(5):
      audit.add(c, 'somebody', 'looked at', study=f'{k:016x}', outcome='ok')
  return store


def change(store, statement):
  with store.write() as c:
    c.execute(statement)


def test_a_whole_log_is_verified(log):
  with log.read() as c:
    count, last = audit.verify(c)
    assert count == 5
    assert audit.verify(c, head=last) == (5, last)
    with pytest.raises(ValueError, match='no row'):
      audit.verify(c, head='0' * 63 + '1')


@pytest.mark.parametrize('column', ['who', 'what', 'study', 'outcome', 'at'])
def test_a_changed_row_is_found(log, column):
  t = tables.audit
  value = 1.0 if column == 'at' else 'x'
  change(log, t.update().where(t.c.seq == 3).values({column: value}))
  with (
    log.read() as c,
    pytest.raises(ValueError, match='row 3 of the audit log was changed'),
  ):
    audit.verify(c)


@pytest.mark.parametrize('seq', [1, 3, 5])
def test_a_removed_row_is_found(log, seq):
  change(log, tables.audit.delete().where(tables.audit.c.seq == seq))
  with log.read() as c, pytest.raises(ValueError, match='audit log'):
    audit.verify(c)


def test_a_rewritten_row_is_found_by_its_follower(log):
  t = tables.audit
  with log.write() as c:
    row = c.execute(sa.select(t).where(t.c.seq == 2)).first()._asdict()
    row['outcome'] = 'other'
    row['digest'] = audit.digest(row)
    c.execute(t.update().where(t.c.seq == 2).values(row))
  with log.read() as c, pytest.raises(ValueError, match='row 3'):
    audit.verify(c)


def test_after_a_purge_the_rest_is_verified(log):
  t = tables.audit
  with log.write() as c:
    at = c.scalar(sa.select(t.c.at).where(t.c.seq == 5))
    assert audit.purge(c, at + 10) == 5
    audit.add(c, 'somebody', 'start')
  with log.read() as c:
    assert audit.verify(c)[0] == 6


def test_a_head_that_was_purged_since_is_met(log):
  with log.write() as c:
    _, head = audit.verify(c)
    assert audit.purge(c, time.time() + 10) == 5
    audit.add(c, 'somebody', 'start')
  with log.read() as c:
    assert audit.verify(c, head)[0] == 6


def test_a_row_that_is_added_meanwhile_is_no_alarm(
  postgres, tmp_path, monkeypatch
):
  store = hospital.make_store(tmp_path / 'home', postgres.url)
  about = audit.store_lib.about

  def late(c, name):  # between the rows and what is noted of the last
    if name == 'audit':
      with monkeypatch.context() as patch, store.write() as other:
        patch.setattr(audit.store_lib, 'about', about)
        audit.add(other, 'somebody', 'start')
    return about(c, name)

  with store.write() as c:
    audit.add(c, 'somebody', 'start')
  monkeypatch.setattr(audit.store_lib, 'about', late)
  with store.read() as c:
    assert audit.verify(c)[0] == 1
  monkeypatch.undo()
  with store.read() as c:
    assert audit.verify(c)[0] == 2
  tables.metadata.drop_all(store.engine)


def test_export_is_xml_of_the_standard(log):
  with log.read() as c:
    root = ET.fromstring(audit.export(c))
  assert len(root.findall('AuditMessage')) == 5
  event = root.find('AuditMessage/EventIdentification')
  assert event.get('EventOutcomeIndicator') == '0'
  assert event.find('EventID').get('csd-code') == '110103'


def test_postgresql_has_one_chain(postgres, tmp_path):
  import threading

  store = hospital.make_store(tmp_path / 'home', postgres.url)

  def add():
    for _ in range(10):
      with store.write() as c:
        audit.add(c, 'somebody', 'start')

  threads = [threading.Thread(target=add) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  with store.read() as c:
    assert audit.verify(c)[0] == 40
  tables.metadata.drop_all(store.engine)
