"""What pages and the API show of the store, as plain dicts."""

import collections
import time

import sqlalchemy as sa

from medjax.service import outcome, tables

_PRIVATE = ('shown',)


def public(study):
  """A study without patients' data."""
  return {k: v for k, v in study.items() if k not in _PRIVATE}


def listed(c, *, limit):
  """The newest studies, with what was found."""
  s, t = tables.studies, tables.jobs
  rows = c.execute(sa.select(s).order_by(s.c.created.desc()).limit(limit)).all()
  ids = [r.id for r in rows]
  jobs = collections.defaultdict(list)
  for job in c.execute(sa.select(t).where(t.c.study.in_(ids)).order_by(t.c.id)):
    jobs[job.study].append(job)
  counts = _counts(c, ids)
  return [_study(r, jobs[r.id], counts.get(r.id, 0)) for r in rows]


def _counts(c, ids):
  i = tables.instances
  rows = c.execute(
    sa.select(i.c.study, sa.func.count())
    .where(i.c.study.in_(ids))
    .group_by(i.c.study)
  )
  return dict(rows.tuples().all())


def _study(row, jobs, images):
  latest = {}
  for job in jobs:
    latest[job.model, job.series] = job
  return {
    'id': row.id,
    'state': state_of(row, jobs),
    'version': row.version,
    'images': images,
    'created': row.created,
    'problem': row.problem,
    'summary': _summary(latest.values()),
    'shown': row.shown,
  }


def state_of(study, jobs):
  """The state of a study: that of the analysis which is furthest from done."""
  if study.state != 'routed':
    return study.state
  if not jobs:
    return 'refused' if study.problem else 'done'
  order = ('queued', 'running', 'written', 'sending', 'failed', 'refused')
  current = [j for j in jobs if not j.reason.startswith('replaced by')]
  states = {j.state for j in current}
  return next((s for s in order if s in states), 'done')


def _summary(jobs):
  """What the analyses say, in a few words."""
  said = [j.outcome['summary'] for j in jobs if j.outcome]
  for kind in ('finding', 'abstained', 'no finding'):
    if kind in said:
      return kind
  return ''


def study(c, study_id):
  """A study with its analyses, newest first; None if there is none."""
  s, t = tables.studies, tables.jobs
  row = c.execute(sa.select(s).where(s.c.id == study_id)).first()
  if row is None:
    return None
  jobs = c.execute(
    sa.select(t).where(t.c.study == study_id).order_by(t.c.id)
  ).all()
  found = _study(row, jobs, _counts(c, [study_id]).get(study_id, 0))
  r = tables.remarks
  found['remarks'] = list(
    c.scalars(sa.select(r.c.text).where(r.c.study == study_id))
  )
  found['jobs'] = [job(c, j.id) for j in reversed(jobs)]
  return found


def job(c, job_id):
  """An analysis with its model, results, deliveries and answers; or None."""
  t, m = tables.jobs, tables.models
  row = c.execute(
    sa.select(t, m.c.name, m.c.digest, m.c.facts)
    .join(m, m.c.id == t.c.model)
    .where(t.c.id == job_id)
  ).first()
  if row is None:
    return None

  def rows(table, *columns):
    found = c.execute(
      sa.select(*(table.c[k] for k in columns))
      .where(table.c.job == job_id)
      .order_by(table.c.id)
    )
    return [r._asdict() for r in found]

  said = row.outcome or {}
  return {
    'id': row.id,
    'study': row.study,
    'state': row.state,
    'version': row.version,
    'reason': row.reason,
    'outcome': row.outcome,
    'why': outcome.KINDS.get(said.get('kind'), ''),
    'images': len(row.inputs),
    'changed': _changed(c, row),
    'model': said.get('model') or model_of(row),
    'results': rows(tables.results, 'kind', 'sop_uid', 'digest'),
    'views': [r['kind'] for r in rows(tables.views, 'kind')],
    'deliveries': rows(
      tables.deliveries, 'peer', 'way', 'state', 'tries', 'reason'
    ),
    'answers': rows(
      tables.assessments, 'finding', 'verdict', 'comment', 'user', 'at'
    ),
  }


def model_of(row):
  """What the page says of a model by its row; a result keeps it for good."""
  facts, rule = row.facts, row.facts['abstention']
  return {
    'name': row.name,
    'digest': row.digest,
    'run': facts['run'],
    'network': facts['model'],
    'config': facts['config'],
    'card': facts['card'],
    'novelty': facts['novelty'],
    'rule': rule and {k: rule[k] for k in ('n', 'coverage', 'risk', 'risk_is')},
  }


def risk(values):
  """[mean, low, high] as text; without an interval where it is not known."""
  mean, low, high = values
  if mean is None:
    return 'not known'
  return f'{mean:.3f}' + ('' if low is None else f' ({low:.3f} to {high:.3f})')


def _changed(c, row):
  """Sentences on what differs from the analysis that this one replaces."""
  if row.predecessor is None:
    return []
  t = tables.jobs
  before = c.execute(sa.select(t).where(t.c.id == row.predecessor)).first()
  old = {uid for uid, _ in before.inputs}
  new = {uid for uid, _ in row.inputs}
  said = []
  if more := len(new - old):
    said.append(f'{more} images came later; there are {len(new)} now.')
  if row.round > before.round:
    said.append('It was analysed again on request.')
  if row.outcome and before.outcome:
    if row.outcome['summary'] != before.outcome['summary']:
      said.append(
        f'It was “{before.outcome["summary"]}”, now it is '
        f'“{row.outcome["summary"]}”.'
      )
    said += _moved(before.outcome['findings'], row.outcome['findings'])
  return said


def _moved(before, now):
  """Sentences on measures that changed."""
  old = {f['name']: f for f in before}
  said = []
  for finding in now:
    for k, m in enumerate(finding['measures']):
      if finding['name'] not in old:
        continue
      was = old[finding['name']]['measures'][k]['value']
      if was != m['value']:
        said.append(
          f'{finding["name"]}: {m["name"]} {was:,.0f} → {m["value"]:,.0f} '
          f'{m["unit"]}.'
        )
  return said


def metrics(c):
  """Counts in Prometheus's text format."""
  lines = []
  for name, table in (
    ('studies', tables.studies), ('jobs', tables.jobs),
    ('deliveries', tables.deliveries),
  ):  # fmt: skip
    lines.append(f'# TYPE medjax_{name} gauge')
    rows = c.execute(
      sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
    )
    lines += [f'medjax_{name}{{state="{s}"}} {n}' for s, n in sorted(rows)]
  t = tables.jobs
  oldest = c.scalar(
    sa.select(sa.func.min(t.c.created)).where(t.c.state == 'queued')
  )
  wait = max(time.time() - oldest, 0) if oldest else 0
  lines.append('# TYPE medjax_oldest_queued_seconds gauge')
  lines.append(f'medjax_oldest_queued_seconds {wait:.1f}')
  images = c.scalar(sa.select(sa.func.count()).select_from(tables.instances))
  lines += ['# TYPE medjax_images gauge', f'medjax_images {images}']
  return '\n'.join(lines) + '\n'
