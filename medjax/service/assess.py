"""The doctor's verdict on a finding: agree, disagree or amend."""

import collections
import time

import sqlalchemy as sa

from medjax.service import audit, outcome, tables

VERDICTS = ('agree', 'disagree', 'amend')
WHOLE = 'the analysis'  # what an abstention is answered by


def add(store, study, job, finding, verdict, comment, who):
  """Notes an answer, and that in the audit log.

  Raises LookupError where there is no such job or finding, ValueError for what
  is no answer.
  """
  if verdict not in VERDICTS:
    raise ValueError(f'a verdict is one of {", ".join(VERDICTS)}')
  comment = comment.strip()
  if verdict == 'amend' and not comment:
    raise ValueError('to amend, say what is right in the comment')
  t = tables.jobs
  with store.write() as c:
    row = c.execute(
      sa.select(t).where(t.c.id == job, t.c.study == study)
    ).first()
    if row is None or row.outcome is None:
      raise LookupError('There is no such analysis of this study.')
    names = [f['name'] for f in row.outcome['findings']] or [WHOLE]
    if finding not in names:
      raise LookupError('There is no such finding.')
    c.execute(
      tables.assessments.insert().values(
        job=job,
        finding=finding,
        verdict=verdict,
        comment=comment,
        user=who,
        at=time.time(),
      )
    )
    audit.add(
      c,
      who,
      'assessed',
      study=study,
      model=row.outcome['model']['digest'],
      outcome=f'{verdict}: {finding}',
    )


def agreement(c):
  """Rows by model and month: how often doctors agreed, with its interval.

  Of each doctor, job and finding the last answer counts.
  """
  a, t = tables.assessments, tables.jobs
  found = c.execute(
    sa.select(a, t.c.outcome).join(t, t.c.id == a.c.job).order_by(a.c.id)
  ).all()
  last = {(r.job, r.finding, r.user): r for r in found}
  groups = collections.defaultdict(collections.Counter)
  for row in last.values():
    month = time.strftime('%Y-%m', time.localtime(row.at))
    model = row.outcome['model']
    groups[model['name'], model['digest'], month][row.verdict] += 1
  rows = []
  for (model, digest, month), count in sorted(groups.items()):
    n = count.total()
    low, high = outcome.wilson(count['agree'], n)
    rows.append(
      {
        'model': model,
        'digest': digest,
        'month': month,
        'n': n,
        **{v: count[v] for v in VERDICTS},
        'low': low,
        'high': high,
      }
    )
  return rows
