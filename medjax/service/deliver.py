"""Sends results to the peers, again and again until they are there."""

import random
import time

import sqlalchemy as sa

from medjax.service import audit, peers, tables

_FIRST = 2.0  # seconds of the first pause, doubled each time
_TAKEN = 60.0  # those that a courier has to send something


def plan(c, settings, job):
  """Adds the rows of what is to be sent of a job; returns how many."""
  ways = [(p.name, way) for p in settings.peers for way in p.results]
  for peer, way in ways:
    c.execute(
      tables.deliveries.insert().values(
        job=job, peer=peer, way=way, state='waiting'
      )
    )
  return len(ways)


def deliver(store, *, now=None):
  """Sends what is due, once; returns how many deliveries were tried."""
  settings, now = store.settings, time.time() if now is None else now
  d = tables.deliveries
  # Later than any pause is what was planned before the clock was put back.
  latest = now + 2 * max(settings.deliver.longest_pause, _TAKEN)
  with store.read() as c:
    due = c.execute(
      sa.select(d)
      .where(d.c.state == 'waiting')
      .where(sa.or_(d.c.next <= now, d.c.next > latest))
      .order_by(d.c.id)
      .limit(50)
    ).all()
  for row in due:
    _deliver(store, settings, row, now)
  _close(store)
  return len(due)


def _deliver(store, settings, row, now):
  d, r = tables.deliveries, tables.results
  with store.write() as c:
    # Several couriers may run; who moves its time on has it.
    taken = c.execute(
      d.update()
      .where(d.c.id == row.id, d.c.state == 'waiting', d.c.next == row.next)
      .values(next=now + _TAKEN)
    ).rowcount
    if not taken:
      return
    t = tables.jobs
    c.execute(
      t.update()
      .where(t.c.id == row.job, t.c.state == 'written')
      .values(state='sending')
    )
    found = c.execute(
      sa.select(r).where(r.c.job == row.job).order_by(r.c.id)
    ).all()
    job = c.execute(sa.select(t).where(t.c.id == row.job)).first()
  peer, values = settings.peer(row.peer), {}
  try:
    if peer is None:
      raise peers.UnsentError(f'{row.peer} is no longer a peer', lasting=True)
    peers.send(settings, peer, row.way, [store.bytes(x.digest) for x in found])
    values = {'state': 'sent', 'reason': ''}
  except Exception as e:  # what a peer may answer has no end
    tries = row.tries + 1
    lasting = getattr(e, 'lasting', False) or tries >= settings.deliver.tries
    pause = min(_FIRST * 2**row.tries, settings.deliver.longest_pause)
    values = {
      'state': 'failed' if lasting else 'waiting',
      'reason': _said(e),
      'next': time.time() + pause * random.uniform(0.7, 1.3),
    }
  with store.write() as c:
    c.execute(
      d.update().where(d.c.id == row.id).values(tries=row.tries + 1, **values)
    )
    if values['state'] != 'waiting':
      outcome = (
        'ok' if values['state'] == 'sent' else f'failed: {values["reason"]}'
      )
      audit.add(
        c,
        'service',
        'sent',
        study=job.study,
        outcome=f'{row.way} to {row.peer}, {len(found)} objects: {outcome}',
      )


def _said(error):
  """Why it was not sent: a sentence; of a library's error only its kind."""
  if isinstance(error, (peers.UnsentError, OSError)):
    return str(error)
  return f'it cannot be sent ({type(error).__name__})'


def _close(store):
  """Ends the jobs all of whose results arrived, or will not."""
  t, d = tables.jobs, tables.deliveries
  with store.read() as c:
    open_ = c.execute(
      sa.select(t.c.id).where(t.c.state.in_(('written', 'sending')))
    ).scalars()
    open_ = list(open_)
  for job in open_:
    with store.write() as c:
      rows = c.execute(sa.select(d).where(d.c.job == job)).all()
      states = {r.state for r in rows}
      if 'waiting' in states:
        continue
      failed = [r for r in rows if r.state == 'failed']
      values = {'state': 'done', 'reason': ''}
      if failed:
        values = {'state': 'failed', 'reason': failed[0].reason}
      c.execute(
        t.update().where(t.c.id == job).values(ended=time.time(), **values)
      )


def retry(c, job):
  """Sends again what of a job failed to arrive; returns how many."""
  d = tables.deliveries
  return c.execute(
    d.update()
    .where(d.c.job == job, d.c.state == 'failed')
    .values(state='waiting', next=0.0, tries=0)
  ).rowcount
