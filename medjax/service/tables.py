"""The tables of the store, for SQLite and PostgreSQL alike.

Times are seconds since 1970, identifiers of studies are digests. `shown` of a
study, its UIDs and its files are the only places with a patient's data.
"""

import sqlalchemy as sa

VERSION = 1
metadata = sa.MetaData()
_KEY = sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def _table(name, *columns):
  return sa.Table(
    name, metadata, sa.Column('id', _KEY, primary_key=True), *columns
  )


def _column(name, kind=sa.Text, **options):
  return sa.Column(name, kind, **{'nullable': False, **options})


def _to(table):
  return sa.ForeignKey(f'{table}.id')


about = _table('about', _column('name', unique=True), _column('value'))

# state: receiving → complete → routed. version: counts completions that
# changed. touched: when the last image came, or a peer still held its line.
studies = sa.Table(
  'studies',
  metadata,
  sa.Column('id', sa.Text, primary_key=True),
  _column('uid', unique=True),
  _column('state', index=True),
  _column('version', sa.Integer, default=1),
  _column('touched', sa.Float),
  _column('released', sa.Float, nullable=True),
  _column('asked', sa.Float, default=0.0),
  _column('peer', default=''),
  _column('patient', default=''),
  _column('problem', default=''),
  _column('shown', sa.JSON),
  _column('created', sa.Float, index=True),
)

instances = _table(
  'instances',
  sa.Column('study', sa.Text, _to('studies'), nullable=False, index=True),
  _column('sop_uid', unique=True),
  _column('sop_class'),
  _column('series'),
  _column('digest'),
  _column('size', sa.BigInteger),
  _column('image', sa.Boolean),
  _column('received', sa.Float),
)

# What was not taken of a study, and why: a sentence for the page.
remarks = _table(
  'remarks',
  sa.Column('study', sa.Text, _to('studies'), nullable=False, index=True),
  _column('text'),
  _column('at', sa.Float),
  sa.UniqueConstraint('study', 'text'),
)

models = _table(
  'models',
  _column('name', unique=True),
  _column('workdir'),
  _column('digest'),
  _column('when'),
  _column('study_when', default=''),
  _column('facts', sa.JSON),
  _column('active', sa.Boolean, default=True),
  _column('created', sa.Float),
)

# state: queued → running → written → sending → done | refused | failed.
# inputs: [[SOP UID, digest], …], sorted; key: a digest of these, the model and
# the round.
jobs = _table(
  'jobs',
  sa.Column('study', sa.Text, _to('studies'), nullable=False, index=True),
  sa.Column('model', _KEY, _to('models'), nullable=False),
  _column('key', unique=True),
  _column('series'),
  _column('version', sa.Integer),
  _column('round', sa.Integer, default=0),
  _column('inputs', sa.JSON),
  _column('state', index=True),
  _column('tries', sa.Integer, default=0),
  _column('owner', default=''),
  _column('lease', sa.Float, default=0.0),
  _column('reason', default=''),
  _column('outcome', sa.JSON, nullable=True),
  _column('predecessor', _KEY, nullable=True),
  _column('created', sa.Float),
  _column('started', sa.Float, nullable=True),
  _column('ended', sa.Float, nullable=True),
)

results = _table(
  'results',
  sa.Column('job', _KEY, _to('jobs'), nullable=False, index=True),
  _column('kind'),
  _column('sop_uid', unique=True),
  _column('sop_class'),
  _column('series'),
  _column('digest'),
)

# Pictures of a job for the page: image, mask, uncertainty, explanation.
views = _table(
  'views',
  sa.Column('job', _KEY, _to('jobs'), nullable=False, index=True),
  _column('kind'),
  _column('digest'),
  sa.UniqueConstraint('job', 'kind'),
)

# state: waiting → sent | failed.
deliveries = _table(
  'deliveries',
  sa.Column('job', _KEY, _to('jobs'), nullable=False, index=True),
  _column('peer'),
  _column('way'),
  _column('state', index=True),
  _column('tries', sa.Integer, default=0),
  _column('next', sa.Float, default=0.0),
  _column('owner', default=''),
  _column('reason', default=''),
  sa.UniqueConstraint('job', 'peer', 'way'),
)

users = _table(
  'users',
  _column('name', unique=True),
  _column('role'),
  _column('password', default=''),
  _column('failures', sa.Integer, default=0),
  _column('locked', sa.Float, default=0.0),
  _column('created', sa.Float),
)

# Of browsers and of machines; only a digest of the secret is kept.
sessions = _table(
  'sessions',
  sa.Column('user', _KEY, _to('users'), nullable=False),
  _column('digest', unique=True),
  _column('kind'),
  _column('until', sa.Float),
)

# What a doctor answered to a finding: agree, disagree or amend.
assessments = _table(
  'assessments',
  sa.Column('job', _KEY, _to('jobs'), nullable=False, index=True),
  _column('finding'),
  _column('verdict'),
  _column('comment', default=''),
  _column('user'),
  _column('at', sa.Float),
)

audit = sa.Table(
  'audit',
  metadata,
  sa.Column('seq', _KEY, primary_key=True, autoincrement=False),
  _column('at', sa.Float),
  _column('who'),
  _column('what'),
  _column('study', default=''),
  _column('model', default=''),
  _column('outcome', default=''),
  _column('previous'),
  _column('digest'),
)
