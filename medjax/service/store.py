"""The store: rows in SQLite or PostgreSQL, files by their digest."""

import contextlib
import hashlib
import os
import pathlib
import threading
import time

import sqlalchemy as sa

from medjax.service import tables


class Store:
  """Rows and files of a service.

  `write()` and `read()` give connections in a transaction. On SQLite those that
  write begin as such, so that they wait for each other and never fail half way.
  `durable=False` leaves the fsync of a commit to the next that is durable: what
  it loses in a power cut `intake.recover` finds again by the files.
  """

  def __init__(self, settings, *, durable=True):
    self.settings = settings
    self.files = settings.files
    self.incoming = self.files / 'incoming'
    self.incoming.mkdir(parents=True, exist_ok=True)
    self.engine = sa.create_engine(settings.database, pool_pre_ping=True)
    self.is_sqlite = self.engine.dialect.name == 'sqlite'
    if self.is_sqlite:
      _as_we_want(self.engine, durable)

  def create(self):
    """Makes the tables; raises ValueError for those of another release."""
    tables.metadata.create_all(self.engine)
    with self.write() as c:
      put_about(c, 'version', str(tables.VERSION), keep=True)

  def check(self):
    """Raises ValueError unless the tables are there, and of this release."""
    try:
      with self.read() as c:
        found = about(c, 'version')
    except sa.exc.SQLAlchemyError as e:
      if isinstance(e, sa.exc.OperationalError) and not self.is_sqlite:
        raise ValueError(
          f'{self.engine.url!r} does not answer: is the database running?'
        ) from None
      found = None
    if found != str(tables.VERSION):
      raise ValueError(
        f'{self.settings.home} has no tables of this release (version '
        f'{found}, not {tables.VERSION}): python -m medjax.service init '
        f'--home={self.settings.home}'
      )

  @contextlib.contextmanager
  def write(self):
    """A connection in a transaction that writes."""
    with self.engine.connect() as c:
      c = c.execution_options(medjax_write=True)
      with c.begin():
        yield c

  @contextlib.contextmanager
  def read(self):
    """A connection in a transaction that only reads, all of one moment."""
    with self.engine.connect() as c:
      if not self.is_sqlite:  # there it is so by itself
        c = c.execution_options(isolation_level='REPEATABLE READ')
      with c.begin():
        yield c

  # Files.

  def path(self, digest):
    """Where the file of a digest lies, or will."""
    kept = self.files / digest[:2] / digest
    fresh = self.incoming / digest
    return fresh if fresh.exists() and not kept.exists() else kept

  def receive(self, data):
    """Keeps bytes among the incoming; returns their digest.

    They are on the disk when it returns, if perhaps under the name that they
    have while they are written: `intake.recover` knows them by their digest.
    """
    digest = hashlib.sha256(data).hexdigest()
    if not (self.files / digest[:2] / digest).exists():
      number = f'{os.getpid()}.{threading.get_ident()}'
      partial = self.incoming / f'.{digest}.{number}'
      write_through(partial, data)
      os.rename(partial, self.incoming / digest)
    return digest

  def settle(self, digests):
    """Moves files from the incoming to where they stay."""
    for digest in digests:
      kept = self.files / digest[:2] / digest
      kept.parent.mkdir(exist_ok=True)
      with contextlib.suppress(FileNotFoundError):  # they are there already
        os.rename(self.incoming / digest, kept)

  def keep(self, data):
    """Keeps bytes for good; returns their digest."""
    digest = hashlib.sha256(data).hexdigest()
    path = self.files / digest[:2] / digest
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
      partial = path.with_name(f'.{digest}.{os.getpid()}.partial')
      write_through(partial, data)
      os.replace(partial, path)
    return digest

  def bytes(self, digest):
    """The bytes of a digest; raises OSError of one line if they changed."""
    data = self.path(digest).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
      raise OSError(
        f'{self.path(digest)} is not as it was written: is the disk sound?'
      )
    return data


def write_through(path, data):
  """Writes bytes so that they are on the disk when it returns."""
  handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
  try:
    view = memoryview(data)
    while view:
      view = view[os.write(handle, view) :]
    os.fsync(handle)
  except OSError:
    pathlib.Path(path).unlink(missing_ok=True)
    raise
  finally:
    os.close(handle)


def _as_we_want(engine, durable):
  """SQLite in WAL mode, with transactions that we begin ourselves."""

  @sa.event.listens_for(engine, 'connect')
  def connect(connection, record):
    connection.isolation_level = None
    for line in (
      'journal_mode=WAL',
      f'synchronous={"FULL" if durable else "NORMAL"}',
      'busy_timeout=60000',
      'foreign_keys=ON',
    ):
      connection.execute(f'PRAGMA {line}')

  @sa.event.listens_for(engine, 'begin')
  def begin(connection):
    writes = connection.get_execution_options().get('medjax_write')
    connection.exec_driver_sql('BEGIN IMMEDIATE' if writes else 'BEGIN')


def about(c, name):
  """A value of the table `about`, or None."""
  t = tables.about
  return c.scalar(sa.select(t.c.value).where(t.c.name == name))


def put_about(c, name, value, *, keep=False):
  """Sets a value of the table `about`; `keep` leaves one that is there."""
  t, found = tables.about, about(c, name)
  if found is None:
    c.execute(t.insert().values(name=name, value=value))
  elif not keep:
    c.execute(t.update().where(t.c.name == name).values(value=value))


def claim_job(c, owner, lease, *, now=None):
  """Takes the oldest job that waits, or whose worker is gone; or None.

  Its row is 'running' afterwards. On PostgreSQL others skip a row that is
  being taken; on SQLite they wait.
  """
  t, now = tables.jobs, time.time() if now is None else now
  before = t.alias()
  # Its report names the one before: that must be there, or never will be.
  waits = (
    sa.select(before.c.id)
    .where(before.c.id == t.c.predecessor)
    .where(before.c.state.in_(('queued', 'running')))
    .exists()
  )
  free = sa.or_(
    t.c.state == 'queued',
    sa.and_(t.c.state == 'running', t.c.lease < now),
    # Given before the clock was put back.
    sa.and_(t.c.state == 'running', t.c.lease > now + 2 * lease),
    sa.and_(t.c.state == 'running', t.c.owner == owner),
  )
  row = c.execute(
    sa.select(t)
    .where(free, ~waits)
    .order_by(t.c.id)
    .limit(1)
    .with_for_update(skip_locked=True, of=t)
  ).first()
  if row is None:
    return None
  c.execute(
    t.update()
    .where(t.c.id == row.id)
    .values(
      state='running',
      owner=owner,
      lease=now + lease,
      tries=row.tries + 1,
      started=now,
    )
  )
  return c.execute(sa.select(t).where(t.c.id == row.id)).first()


def renew(c, job, owner, lease):
  """Prolongs the lease of a job; False if it is no longer ours."""
  t = tables.jobs
  found = c.execute(
    t.update()
    .where(t.c.id == job, t.c.owner == owner, t.c.state == 'running')
    .values(lease=time.time() + lease)
  )
  return found.rowcount == 1
