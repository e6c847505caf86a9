"""A worker: takes jobs, one at a time, and writes what comes of them.

It is a process of its own, which may be killed at any time: its job is then
taken again, and gives the same objects.
"""

import functools
import logging
import os
import threading
import time

import sqlalchemy as sa

from medjax import cli
from medjax.service import (
  analyse,
  audit,
  deliver,
  models,
  quiet,
  store,
  tables,
  view,
)

log = logging.getLogger('medjax.service')

_INSTALL = 'install it again with python -m medjax.service model'
_IDLE = 0.3  # seconds between two looks for work
_AWAY = 2.0  # those after which the store may be there again
_SOP_CLASSES = {
  'seg': '1.2.840.10008.5.1.4.1.1.66.4',
  'sr': '1.2.840.10008.5.1.4.1.1.88.33',
}


class Worker:
  """Runs jobs as `owner`, a name that a restarted worker has again."""

  def __init__(self, store, owner):
    self._store, self._owner = store, owner
    self._limits = store.settings.worker
    self._models = {}  # id → (what it was loaded from, Model)
    self._later = []  # what may be done before there is a job
    self._job, self._since = None, 0.0
    threading.Thread(target=self._renew, daemon=True).start()

  def warm(self):
    """Loads and compiles the active models, so that the first job is quick.

    What a first job is also quicker by, but can do without, is done by `run`
    while it has nothing else to do.
    """
    with self._store.read() as c:
      t = tables.models
      rows = c.execute(sa.select(t).where(t.c.active)).all()
    for row in rows:
      try:
        model = self._model(row)
      except Exception as e:
        log.warning('model %s: %s', row.name, cli.said(e) or type(e).__name__)
        continue
      self._later += [
        functools.partial(model.rehearse, shape)
        for shape in model.other_shapes()
      ]
    self._later.insert(0, analyse.results.rehearse)

  def run(self):
    """Works for ever."""
    while True:
      try:
        busy = self.step()
      except (OSError, sa.exc.SQLAlchemyError) as e:  # a full disk, say
        log.error('a job was put back: %s', type(e).__name__)
        busy = False
        time.sleep(_AWAY)
      if not busy:
        self._rest()

  def _rest(self):
    """Does one thing of those that may be done before there is a job."""
    if not self._later:
      time.sleep(_IDLE)
      return
    try:
      self._later.pop(0)()
    except Exception as e:  # a job would say it with its reason
      log.warning('nothing was prepared: %s', type(e).__name__)

  def step(self):
    """Runs one job if there is one; returns whether."""
    with self._store.write() as c:
      job = store.claim_job(c, self._owner, self._limits.lease_seconds)
    if job is None:
      return False
    self._job, self._since = job.id, time.monotonic()
    try:
      self._run(job)
    finally:
      self._job = None
    return True

  def _run(self, job):
    with self._store.read() as c:
      t = tables.models
      row = c.execute(sa.select(t).where(t.c.id == job.model)).first()
      before = _report_before(c, self._store, job)
    try:
      model = self._model(row)
    except Exception as e:
      line = cli.said(e) or f'it cannot be loaded ({type(e).__name__})'
      self._end(job, row, 'refused', f'model {row.name}: {line}')
      return
    try:
      self._write(job, row, self._found(job, row, model, before))
    except sa.exc.IntegrityError:
      self._end(job, row, 'failed', 'results of the same images exist already')
    except OSError as e:  # another try may do
      line = e.strerror or cli.said(e)
      self._end(job, row, 'failed', f'the disk failed: {line}')
    except sa.exc.SQLAlchemyError:
      raise
    except Exception as e:
      log.error('job %s has no report: %s', job.id, quiet.where(e))
      reason = f'no report can be written of these images ({type(e).__name__})'
      self._end(job, row, 'failed', reason)

  def _found(self, job, row, model, before):
    """The `Analysis` of a job; raises where not even nothing can be said."""
    paths = [self._store.path(digest) for _, digest in job.inputs]
    inputs = [uid for uid, _ in job.inputs]
    options = dict(round_=job.round, before=before)
    nothing = functools.partial(
      analyse.nothing, model, paths, inputs, **options
    )
    if job.tries > self._limits.tries:
      return nothing('model failed', f'its process ended {job.tries - 1} times')
    if not job.series:
      return nothing('series missing', f'no series with {row.when}')
    try:
      return analyse.analyse(model, paths, inputs, **options)
    except OSError:
      raise
    except Exception as e:
      log.error('job %s failed: %s', job.id, quiet.where(e))
      reason = cli.said(e) or f'the model stopped with {type(e).__name__}'
      return nothing('model failed', reason)

  def _model(self, row):
    """The model of a row, loaded once; raises ValueError if it was changed."""
    # As it was installed last: its options are in the facts.
    key = models.stamp(row.workdir), row.digest, row.facts
    known = self._models.get(row.id)
    if known and known[0] == key:
      return known[1]
    if models.digest(row.workdir) != row.digest:
      raise ValueError(
        f'its workdir was changed since it was installed; {_INSTALL}'
      )
    if not row.facts['dense'] and 'positive' not in row.facts:
      raise ValueError(
        'it was installed by a release that did not note which class its '
        f'threshold is of; {_INSTALL}'
      )
    model = analyse.Model.load(row)
    self._models[row.id] = (key, model)
    return model

  def _write(self, job, row, found):
    """Keeps the objects, then the rows that say so, all at once."""
    kept = {kind: self._store.keep(b) for kind, b in found.objects.items()}
    views = {kind: self._store.keep(b) for kind, b in found.views.items()}
    uids = {k: analyse.results.read(b) for k, b in found.objects.items()}
    with self._store.write() as c:
      if not self._is_ours(c, job):
        return
      # Another job may have had the same inputs: then they are there already.
      r = tables.results
      for kind, digest in kept.items():
        c.execute(
          r.insert().values(
            job=job.id,
            kind=kind,
            sop_uid=str(uids[kind].SOPInstanceUID),
            sop_class=_SOP_CLASSES[kind],
            series=str(uids[kind].SeriesInstanceUID),
            digest=digest,
          )
        )
      for kind, digest in views.items():
        c.execute(
          tables.views.insert().values(job=job.id, kind=kind, digest=digest)
        )
      deliver.plan(c, self._store.settings, job.id)
      t = tables.jobs
      c.execute(
        t.update()
        .where(t.c.id == job.id)
        .values(
          state='written',
          # A model of this name may be another one tomorrow.
          outcome={**found.outcome, 'model': view.model_of(row)},
          reason='',
        )
      )
      audit.add(
        c,
        f'worker {self._owner}',
        'analysed',
        study=job.study,
        model=row.digest,
        outcome=found.outcome['summary'],
      )

  def _end(self, job, row, state, reason):
    with self._store.write() as c:
      if not self._is_ours(c, job):
        return
      t = tables.jobs
      c.execute(
        t.update()
        .where(t.c.id == job.id)
        .values(state=state, reason=reason, ended=time.time())
      )
      audit.add(
        c,
        f'worker {self._owner}',
        'analysed',
        study=job.study,
        model=row.digest,
        outcome=state,
      )

  def _is_ours(self, c, job):
    """Whether nobody took the job meanwhile."""
    return store.renew(c, job.id, self._owner, self._limits.lease_seconds)

  def _renew(self):
    """Holds the job of this process, until it has lasted too long."""
    while True:
      time.sleep(self._limits.lease_seconds / 3)
      job = self._job
      if job is None:
        continue
      if time.monotonic() - self._since > self._limits.seconds:
        log.error('job %s took more than %.0f s', job, self._limits.seconds)
        os._exit(9)
      try:
        with self._store.write() as c:
          store.renew(c, job, self._owner, self._limits.lease_seconds)
      except sa.exc.SQLAlchemyError as e:
        log.error('a lease was not renewed: %s', type(e).__name__)


def _report_before(c, store_, job):
  """The report that a job's replaces, as bytes; None if there is none."""
  if job.predecessor is None:
    return None
  r = tables.results
  digest = c.scalar(
    sa.select(r.c.digest).where(r.c.job == job.predecessor, r.c.kind == 'sr')
  )
  return None if digest is None else store_.bytes(digest)
