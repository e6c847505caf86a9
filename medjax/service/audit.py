"""The audit log: rows that each hold the digest of the one before."""

import datetime
import hashlib
import json
import time
import xml.etree.ElementTree as ET

import sqlalchemy as sa

from medjax.service import store as store_lib
from medjax.service import tables

_FIRST = '0' * 64
_FIELDS = ('seq', 'at', 'who', 'what', 'study', 'model', 'outcome', 'previous')
_LOCK = 0x6D65646A  # PostgreSQL's advisory lock: one row at a time
# PS3.15 A.5 and PS3.16 CID 400, 401: event, its action, and its type.
_EVENTS = {
  'log in': ('110114', 'User Authentication', 'E'),
  'log in refused': ('110114', 'User Authentication', 'E'),
  'start': ('110100', 'Application Activity', 'E'),
  'received': ('110104', 'DICOM Instances Transferred', 'C'),
  'sent': ('110104', 'DICOM Instances Transferred', 'R'),
  'looked at': ('110103', 'DICOM Instances Accessed', 'R'),
  'purged': ('110105', 'DICOM Study Deleted', 'D'),
  'analysed': ('110111', 'Procedure Record', 'C'),
  'assessed': ('110111', 'Procedure Record', 'U'),
}
_OTHER = ('110100', 'Application Activity', 'E')


def add(c, who, what, *, study='', model='', outcome=''):
  """Adds a row, inside of the transaction of what it tells."""
  if c.dialect.name == 'postgresql':
    c.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
  t = tables.audit
  # Noted apart, so that neither a purge nor a lost row begins a new chain.
  seq, previous = (store_lib.about(c, 'audit') or f'0 {_FIRST}').split()
  row = dict(
    seq=int(seq) + 1,
    at=round(time.time(), 3),
    who=who,
    what=what,
    study=study,
    model=model,
    outcome=outcome,
    previous=previous,
  )
  row['digest'] = digest(row)
  c.execute(t.insert().values(**row))
  store_lib.put_about(c, 'audit', f'{row["seq"]} {row["digest"]}')


def digest(row):
  """SHA-256 of a row, its predecessor's digest included."""
  text = json.dumps([row[k] for k in _FIELDS], ensure_ascii=True)
  return hashlib.sha256(text.encode()).hexdigest()


def verify(c, head=''):
  """(rows, digest of the last) of a log that is whole.

  c: of `Store.read`, which sees all of one moment. `head` is a digest that was
  noted elsewhere, which must be among them, or the last that was purged. Raises
  ValueError naming the first row that was changed or is missing.
  """
  previous, count = _FIRST, 0
  began = store_lib.about(c, 'audit purged')
  if began:
    count, previous = int(began.split()[0]), began.split()[1]
  met = head in ('', previous)
  for row in c.execute(sa.select(tables.audit).order_by(tables.audit.c.seq)):
    row = row._asdict()
    if row['seq'] != count + 1:
      raise ValueError(f'the audit log lacks row {count + 1}')
    if row['previous'] != previous or digest(row) != row['digest']:
      raise ValueError(f'row {row["seq"]} of the audit log was changed')
    count, previous = row['seq'], row['digest']
    met = met or previous == head
  last = store_lib.about(c, 'audit') or f'0 {_FIRST}'
  if last != f'{count} {previous}':
    raise ValueError(
      f'the audit log ends at row {count}, but {last.split()[0]} were written'
    )
  if not met:
    raise ValueError(f'no row of the audit log has the digest {head}')
  return count, previous


def purge(c, before):
  """Removes rows older than a time; the rest can still be verified."""
  t = tables.audit
  last = c.execute(
    sa.select(t).where(t.c.at < before).order_by(t.c.seq.desc()).limit(1)
  ).first()
  if last is None:
    return 0
  gone = c.execute(t.delete().where(t.c.seq <= last.seq)).rowcount
  store_lib.put_about(c, 'audit purged', f'{last.seq} {last.digest}')
  return gone


def export(c):
  """The log as messages of DICOM PS3.15 A.5, one XML document."""
  root = ET.Element('AuditMessages')
  for row in c.execute(sa.select(tables.audit).order_by(tables.audit.c.seq)):
    root.append(_message(row))
  ET.indent(root)
  return ET.tostring(root, encoding='unicode', xml_declaration=True)


def _message(row):
  code, text, action = _EVENTS.get(row.what, _OTHER)
  at = datetime.datetime.fromtimestamp(row.at, datetime.UTC)
  message = ET.Element('AuditMessage')
  refused = 'refused' in row.what or row.outcome.startswith('failed')
  event = ET.SubElement(
    message,
    'EventIdentification',
    EventActionCode=action,
    EventDateTime=at.isoformat(timespec='milliseconds'),
    EventOutcomeIndicator='4' if refused else '0',
  )
  _coded(event, 'EventID', code, text)
  ET.SubElement(event, 'EventOutcomeDescription').text = (
    f'{row.what}: {row.outcome}' if row.outcome else row.what
  )
  ET.SubElement(
    message, 'ActiveParticipant', UserID=row.who, UserIsRequestor='true'
  )
  ET.SubElement(
    message, 'AuditSourceIdentification', AuditSourceID='medjax.service'
  )
  for what, kind in ((row.study, '2'), (row.model, '4')):
    if what:
      part = ET.SubElement(
        message,
        'ParticipantObjectIdentification',
        ParticipantObjectID=what,
        ParticipantObjectTypeCode='2',
        ParticipantObjectTypeCodeRole='3' if kind == '2' else '13',
      )
      # Digests stand for UIDs, so they are no Study Instance UID (110180).
      text = 'digest of a study' if kind == '2' else 'digest of a model'
      _coded(part, 'ParticipantObjectIDTypeCode', kind, text, '99MEDJAX')
  return message


def _coded(parent, name, code, text, system='DCM'):
  ET.SubElement(
    parent,
    name,
    {'csd-code': code, 'codeSystemName': system, 'originalText': text},
  )
