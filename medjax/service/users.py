"""Users, their passwords and sessions; only digests of secrets are kept."""

import hashlib
import hmac
import secrets
import time

import sqlalchemy as sa

from medjax.service import audit, tables

ROLES = ('viewer', 'doctor', 'admin', 'machine')
_SCRYPT = dict(n=2**14, r=8, p=1, maxmem=2**26)
_FREE = 5  # failures before one has to wait
_LONGEST = 900.0
_SESSION = 12 * 3600.0
_SHORTEST = 12  # characters of a password


class WaitError(ValueError):
  """Too many wrong passwords; `seconds` are left."""

  def __init__(self, seconds):
    super().__init__(f'too many wrong passwords: wait {seconds:.0f} seconds')
    self.seconds = seconds


def hashed(password, salt=None):
  """A password as it is kept: 'salt$scrypt'."""
  salt = salt or secrets.token_hex(16)
  digest = hashlib.scrypt(password.encode(), salt=salt.encode(), **_SCRYPT)
  return f'{salt}${digest.hex()}'


# Compared where there is no such user, so that it takes as long.
_NOBODY = hashed(secrets.token_hex(8))


def any_of(c):
  """Whether there is any user."""
  return c.scalar(sa.select(tables.users.c.id).limit(1)) is not None


def add(c, name, role, *, password='', who='admin'):
  """Adds a user, or changes one; returns the password or, of a machine, token.

  One is made where none is given. Raises ValueError.
  """
  if role not in ROLES:
    raise ValueError(f'no role {role!r}: there are {", ".join(ROLES)}')
  if not name or not name.isprintable() or len(name) > 64:
    raise ValueError('a name of a user has 1 to 64 printable characters')
  if password and len(password) < _SHORTEST:
    raise ValueError(f'a password has at least {_SHORTEST} characters')
  u, s = tables.users, tables.sessions
  password = password or secrets.token_urlsafe(15)
  stored = '' if role == 'machine' else hashed(password)
  values = dict(role=role, password=stored, failures=0, locked=0.0)
  there = c.scalar(sa.select(u.c.id).where(u.c.name == name))
  if there is None:
    c.execute(u.insert().values(name=name, created=time.time(), **values))
    there = c.scalar(sa.select(u.c.id).where(u.c.name == name))
  else:  # what was open with the old password ends
    c.execute(u.update().where(u.c.id == there).values(**values))
    c.execute(s.delete().where(s.c.user == there))
  audit.add(c, who, 'user', outcome=f'{name} is {role}')
  if role != 'machine':
    return password
  return _open(c, there, 'token', until=float('inf'))


def _open(c, user, kind, until):
  token = secrets.token_urlsafe(32)
  c.execute(
    tables.sessions.insert().values(
      user=user,
      digest=_digest(token),
      kind=kind,
      until=min(until, 4e9),
    )
  )
  return token


def _digest(token):
  return hashlib.sha256(token.encode()).hexdigest()


def log_in(store, name, password):
  """The token of a new session; None for a wrong name or password.

  After five failures one has to wait, longer each time: WaitError.
  """
  u, now = tables.users, time.time()
  with store.read() as c:
    row = c.execute(sa.select(u).where(u.c.name == name)).first()
  if row and row.locked > now:
    raise WaitError(row.locked - now)
  stored = row.password if row and row.password else _NOBODY
  right = hmac.compare_digest(
    hashed(password, stored.partition('$')[0]), stored
  )
  right = right and stored is not _NOBODY
  with store.write() as c:
    if right:
      c.execute(
        u.update().where(u.c.id == row.id).values(failures=0, locked=0.0)
      )
      audit.add(c, name, 'log in', outcome='ok')
      return _open(c, row.id, 'session', now + _SESSION)
    if row:
      failures = row.failures + 1
      over = failures - _FREE
      pause = min(5.0 * 2**over, _LONGEST) if over >= 0 else 0.0
      c.execute(
        u.update()
        .where(u.c.id == row.id)
        .values(failures=u.c.failures + 1, locked=now + pause)
      )
    # A name that is none may be a password, typed into the wrong field.
    audit.add(c, name if row else 'unknown', 'log in refused')
  return None


def log_out(store, token):
  """Ends a session."""
  s = tables.sessions
  with store.write() as c:
    c.execute(s.delete().where(s.c.digest == _digest(token)))


def of_token(store, token, kind):
  """The row of the user whose session or machine's token it is; or None."""
  u, s = tables.users, tables.sessions
  with store.read() as c:
    return c.execute(
      sa.select(u)
      .join(s, s.c.user == u.c.id)
      .where(s.c.digest == _digest(token), s.c.kind == kind)
      .where(s.c.until > time.time())
    ).first()
