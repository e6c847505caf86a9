"""When a study is whole, and which models it is for."""

import time

import pydicom
import sqlalchemy as sa

from medjax.service import audit, intake, peers, rules, tables, uids

_ASKED = 2.0  # seconds between two questions to a peer about one study


def complete_studies(store, *, now=None):
  """Routes the studies that are complete; returns how many.

  A study is complete as soon as it has as many images as the peer that sent it
  says it has, and else when `quiet_seconds` have passed since the last
  association or request with an image of it ended. Where the disk fails, the
  others are routed before OSError is raised.
  """
  settings, now, done = store.settings, time.time() if now is None else now, 0
  failed = None
  s = tables.studies
  with store.read() as c:
    waiting = c.execute(sa.select(s).where(s.c.state == 'receiving')).all()
  for study in waiting:
    if study.touched > now + 1:  # the clock was put back
      with store.write() as c:
        c.execute(s.update().where(s.c.id == study.id).values(touched=now))
      continue
    quiet = now - study.touched >= settings.intake.quiet_seconds
    if quiet or _has_all(store, study, now):
      try:
        done += route(store, study.id)
      except sa.exc.SQLAlchemyError:  # tried again
        raise
      except Exception as e:  # one odd study must not keep the others waiting
        failed = _given_up(store, study.id, e) or failed
  if failed is not None:
    raise failed
  return done


def _given_up(store, study, error):
  """Ends a study whose headers nobody could foresee, or whose file is gone.

  Returns the error where it is the disk's, and another try may do.
  """
  text = (
    f'The study could not be read ({type(error).__name__}): nothing was '
    'analysed.'
  )
  if isinstance(error, OSError):
    if not isinstance(error, FileNotFoundError) or not store.incoming.is_dir():
      return error
    text = intake.GONE
  with store.write() as c:
    s = tables.studies
    known = c.scalar(sa.select(s.c.problem).where(s.c.id == study))
    c.execute(
      s.update()
      .where(s.c.id == study)
      .values(state='routed', problem=known or text)
    )
    audit.add(c, 'service', 'complete', study=study, outcome=text)
  return None


def _has_all(store, study, now):
  """Whether the peer that sent a study has no more images of it."""
  peer = next(
    (p for p in store.settings.peers if study.peer in (p.ae_title, p.name)),
    None,
  )
  # Who still holds the line may send more than it has now.
  if not (peer and peer.count and study.released):
    return False
  if abs(now - study.asked) < _ASKED:  # or the clock was put back
    return False
  with store.write() as c:
    s = tables.studies
    c.execute(s.update().where(s.c.id == study.id).values(asked=now))
    # What we sent there of the study is counted there too.
    here = c.scalar(_count(study.id)) + c.scalar(_sent(study.id, peer.name))
  count = peers.count_of(store.settings, peer, study.uid)
  return count is not None and here >= count


def _count(study):
  t = tables.instances
  return sa.select(sa.func.count()).select_from(t).where(t.c.study == study)


def _sent(study, peer):
  """How many results of a study have arrived at a peer, by whatever way."""
  t, r, d = tables.jobs, tables.results, tables.deliveries
  arrived = (
    sa.select(d.c.id)
    .where(d.c.job == r.c.job, d.c.peer == peer, d.c.state == 'sent')
    .exists()
  )
  return (
    sa.select(sa.func.count())
    .select_from(r.join(t, t.c.id == r.c.job))
    .where(t.c.study == study, arrived)
  )


def route(store, study):
  """Makes jobs of a complete study: a row for each model and series of it.

  Returns whether it did; a study to which images came meanwhile is left.
  """
  s, t = tables.studies, tables.instances
  with store.read() as c:
    instances = c.execute(
      sa.select(t).where(t.c.study == study).order_by(t.c.sop_uid)
    ).all()
    models = c.execute(
      sa.select(tables.models).where(tables.models.c.active)
    ).all()
  store.settle([i.digest for i in instances])
  series = {}
  for i in instances:
    if i.image:
      series.setdefault(i.series, []).append(i)
  headers = {uid: _header(store, members) for uid, members in series.items()}
  chosen = []
  for model in models:
    found = [u for u, h in headers.items() if rules.matches(model.when, h)]
    chosen += [(model, uid, series[uid]) for uid in sorted(found)]
    # A rule for the study says that it must have such a series.
    if not found and model.study_when and _is_for(model, headers.values()):
      chosen.append((model, '', [i for i in instances if i.image]))
  with store.write() as c:
    row = c.execute(sa.select(s).where(s.c.id == study)).first()
    if row.state != 'receiving' or c.scalar(_count(study)) != len(instances):
      return False
    problem = row.problem
    if not problem:
      _drop_stale(c, study, row.version)
      made = [_add_job(c, row, *one) for one in chosen]
      if not made:
        problem = _no_model(models, series)
    c.execute(
      s.update().where(s.c.id == study).values(state='routed', problem=problem)
    )
    outcome = problem or f'version {row.version}, {len(chosen)} analyses'
    audit.add(c, 'service', 'complete', study=study, outcome=outcome)
  return True


def _header(store, members):
  return pydicom.dcmread(
    store.path(members[0].digest), stop_before_pixels=True, force=True
  )


def _is_for(model, headers):
  return any(rules.matches(model.study_when, h) for h in headers)


def _no_model(models, series):
  if not series:
    return 'The study has no images: nothing was analysed.'
  if not models:
    return 'No model is installed: nothing was analysed.'
  return 'No model is meant for the series of this study: nothing was analysed.'


def _drop_stale(c, study, version):
  """Jobs of earlier versions that nobody began are no longer needed."""
  t = tables.jobs
  c.execute(
    t.update()
    .where(t.c.study == study, t.c.state == 'queued', t.c.version < version)
    .values(state='refused', reason=f'replaced by version {version}')
  )


def _add_job(c, study, model, series, members, *, round_=0):
  """Adds a job, unless one of the same images and model is there."""
  t = tables.jobs
  inputs = [[i.sop_uid, i.digest] for i in members]
  installed = uids.installed(model.digest, model.facts)
  key = uids.digest(
    'job', study.id, series, *(u for u, _ in inputs), installed, round_
  )
  if c.scalar(sa.select(t.c.id).where(t.c.key == key)) is not None:
    return key
  # What it replaces: the last of this model and series that has results, or
  # will have; one whose results did not arrive has them.
  has_results = sa.or_(
    t.c.state.in_(('running', 'written', 'sending', 'done')),
    sa.and_(t.c.state == 'failed', t.c.outcome.is_not(None)),
  )
  before = c.scalar(
    sa.select(t.c.id)
    .where(t.c.study == study.id, t.c.model == model.id, t.c.series == series)
    .where(has_results)
    .order_by(t.c.id.desc())
    .limit(1)
  )
  c.execute(
    t.insert().values(
      study=study.id,
      model=model.id,
      key=key,
      series=series,
      version=study.version,
      round=round_,
      inputs=inputs,
      state='queued',
      predecessor=before,
      created=time.time(),
    )
  )
  return key
