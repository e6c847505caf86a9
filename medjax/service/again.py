"""What an administrator does to jobs and studies: again, and away."""

import time

import sqlalchemy as sa

from medjax.service import audit, deliver, tables

_CLOSED = ('done', 'refused', 'failed')


def retry(store, job, *, who):
  """Has a job done or sent again; returns a sentence on what happens.

  Results that exist are sent again as they are. Where there are none, the job
  is run again; where they say that the model failed, it is run as another
  round, whose report names the first. Raises ValueError.
  """
  t = tables.jobs
  with store.write() as c:
    row = c.execute(sa.select(t).where(t.c.id == job)).first()
    if row is None:
      raise ValueError(f'there is no job {job}')
    if row.state not in _CLOSED:
      raise ValueError(f'job {job} is {row.state}: it goes on by itself')
    if sent := deliver.retry(c, job):
      c.execute(
        t.update().where(t.c.id == job).values(state='sending', reason='')
      )
      said = f'job {job}: {sent} deliveries are tried again'
    elif row.outcome is None:
      c.execute(
        t.update()
        .where(t.c.id == job)
        .values(state='queued', tries=0, reason='', owner='')
      )
      said = f'job {job} runs again'
    elif row.outcome.get('kind') == 'model failed':
      said = f'job {_another_round(c, row)} runs it again'
    else:
      raise ValueError(f'job {job} is {row.state}, with results that are sent')
    audit.add(c, who, 'retry', study=row.study, outcome=said)
  return said


def _another_round(c, row):
  t, key = tables.jobs, f'{row.key}/{row.round + 1}'
  there = c.scalar(sa.select(t.c.id).where(t.c.key == key))
  if there is not None:
    raise ValueError(f'job {there} runs it again already')
  values = {
    k: getattr(row, k)
    for k in ('study', 'model', 'series', 'version', 'inputs')
  }
  made = c.execute(
    t.insert().values(
      **values,
      key=key,
      round=row.round + 1,
      state='queued',
      predecessor=row.id,
      created=time.time(),
    )
  )
  return made.inserted_primary_key[0]


def purge(store, seconds, *, who):
  """Removes studies that were last touched so long ago; returns a sentence.

  Those that were not routed yet, or have jobs that go on, stay. Rows of the
  audit log go only after `keep_days`; answers of doctors go with their study.
  """
  s, now = tables.studies, time.time()
  old = sa.and_(s.c.touched < now - seconds, s.c.state == 'routed')
  with store.read() as c:
    ids = c.scalars(sa.select(s.c.id).where(old)).all()
  gone = sum(_purge_study(store, study, old, who) for study in ids)
  keep = store.settings.audit.keep_days * 86400
  with store.write() as c:
    rows = audit.purge(c, now - keep)
    c.execute(tables.sessions.delete().where(tables.sessions.c.until < now))
    if rows:
      audit.add(c, who, 'audit rows purged', outcome=str(rows))
  return f'{gone} studies and {rows} rows of the audit log were removed'


def _purge_study(store, study, old, who):
  t, s = tables.jobs, tables.studies
  of_jobs = (tables.results, tables.views, tables.deliveries)
  with store.write() as c:
    # An image may have come since they were listed, and its sender been told
    # so; who brings one now waits for this row, and finds nothing there.
    if (
      c.scalar(sa.select(s.c.id).where(s.c.id == study, old).with_for_update())
      is None
    ):
      return 0
    jobs = c.execute(
      sa.select(t.c.id, t.c.state).where(t.c.study == study)
    ).all()
    if any(j.state not in _CLOSED for j in jobs):
      return 0
    ids = [j.id for j in jobs]
    files = list(
      c.scalars(
        sa.select(tables.instances.c.digest).where(
          tables.instances.c.study == study
        )
      )
    )
    for table in (*of_jobs, tables.assessments):
      if table in of_jobs[:2]:
        files += c.scalars(
          sa.select(table.c.digest).where(table.c.job.in_(ids))
        )
      c.execute(table.delete().where(table.c.job.in_(ids)))
    c.execute(t.delete().where(t.c.study == study))
    for table in (tables.instances, tables.remarks):
      c.execute(table.delete().where(table.c.study == study))
    c.execute(s.delete().where(s.c.id == study))
    audit.add(c, who, 'purged', study=study)
    left = set()
    for table in (tables.instances, tables.results, tables.views):
      left |= set(
        c.scalars(sa.select(table.c.digest).where(table.c.digest.in_(files)))
      )
    # Within the transaction: what comes now waits, and then looks for its file.
    for digest in set(files) - left:
      store.path(digest).unlink(missing_ok=True)
  return 1
