"""The settings of a service: service.toml, read and checked."""

import dataclasses
import os
import pathlib
import tomllib
import typing

from medjax import files
from medjax.build import closest

NAME = 'service.toml'
LOOPBACK = ('127.0.0.1', '::1', 'localhost')

TEMPLATE = """\
# medjax.service. What is left out has the value shown.

[dicom]                       # studies come by C-STORE
ae_title = 'MEDJAX'
host = '127.0.0.1'
port = 11112
# tls_cert = 'cert.pem'       # with tls_key: DICOM over TLS
# tls_key = 'key.pem'
# tls_ca = 'ca.pem'           # peers must show a certificate of it, both ways

[http]                        # the page, STOW-RS and the API
host = '127.0.0.1'
port = 8000
hosts = ['localhost', '127.0.0.1']   # names that it is called by
# tls_cert = 'cert.pem'
# tls_key = 'key.pem'

[store]
database = ''                 # SQLite here; or postgresql+psycopg://USER@HOST/NAME
files = ''                    # here; or a path that all machines share

[intake]
quiet_seconds = 30.0          # after which a study counts as complete
largest_mb = 2048             # of one file, and of one STOW request

[worker]
workers = 1                   # processes that hold models, on this machine
seconds = 600.0               # of one job
memory_gb = 16.0              # of one worker
tries = 5                     # of a job whose worker died
lease_seconds = 30.0          # after which another worker takes over its job

[deliver]
tries = 20                    # with longer and longer pauses
longest_pause = 900.0         # seconds

[audit]
keep_days = 200               # EU AI Act, article 19: at least six months

# Who may send, and where results go. C-STORE from an address that is neither
# this machine nor a peer's is refused, and with peers from another AE title.
# [[peer]]
# name = 'PACS'
# ae_title = 'ORTHANC'
# host = '10.0.0.5'
# port = 4242
# tls = false
# dicomweb = 'https://10.0.0.5:8042/dicom-web'
# authorization_env = 'PACS_AUTHORIZATION'   # a variable: 'Basic …', 'Bearer …'
# results = ['c-store']       # and 'stow'; [] sends nothing there
# count = 'c-find'            # or 'qido': asked how many images a study has
"""


@dataclasses.dataclass(frozen=True)
class Dicom:
  """Where studies come in by C-STORE."""

  ae_title: str = 'MEDJAX'
  host: str = '127.0.0.1'
  port: int = 11112
  tls_cert: str = ''
  tls_key: str = ''
  tls_ca: str = ''


@dataclasses.dataclass(frozen=True)
class Http:
  """Where the page is."""

  host: str = '127.0.0.1'
  port: int = 8000
  hosts: tuple[str, ...] = ('localhost', '127.0.0.1')
  tls_cert: str = ''
  tls_key: str = ''


@dataclasses.dataclass(frozen=True)
class Place:
  """Where rows and files are kept; '' is in the home."""

  database: str = ''
  files: str = ''


@dataclasses.dataclass(frozen=True)
class Intake:
  """When a study is complete, and how large a file may be."""

  quiet_seconds: float = 30.0
  largest_mb: int = 2048


@dataclasses.dataclass(frozen=True)
class Worker:
  """Limits of the processes that hold models."""

  workers: int = 1
  seconds: float = 600.0
  memory_gb: float = 16.0
  tries: int = 5
  lease_seconds: float = 30.0


@dataclasses.dataclass(frozen=True)
class Deliver:
  """How often results are sent to a peer that does not answer."""

  tries: int = 20
  longest_pause: float = 900.0


@dataclasses.dataclass(frozen=True)
class Audit:
  """How long its rows are kept."""

  keep_days: int = 200


@dataclasses.dataclass(frozen=True)
class Peer:
  """Another system, which sends studies or takes results."""

  name: str
  ae_title: str = ''
  host: str = '127.0.0.1'
  port: int = 0
  tls: bool = False
  dicomweb: str = ''
  authorization_env: str = ''
  results: tuple[str, ...] = ()
  count: str = ''

  def __post_init__(self):
    ways = {'c-store', 'stow'}
    if odd := set(self.results) - ways:
      raise ValueError(
        f'results has {sorted(odd)[0]!r}: c-store and stow exist'
      )
    if self.count not in ('', 'c-find', 'qido'):
      raise ValueError(f'count is {self.count!r}: c-find and qido exist')
    if ('c-store' in self.results or self.count == 'c-find') and not (
      self.ae_title and self.port
    ):
      raise ValueError('C-STORE and C-FIND need ae_title and port')
    if ('stow' in self.results or self.count == 'qido') and not self.dicomweb:
      raise ValueError('STOW and QIDO need dicomweb, its address')

  @property
  def headers(self):
    """HTTP headers that let us in."""
    if not self.authorization_env:
      return {}
    return {'Authorization': os.environ.get(self.authorization_env, '')}


@dataclasses.dataclass(frozen=True)
class Settings:
  """All settings of a service in `home`."""

  home: pathlib.Path
  dicom: Dicom = Dicom()
  http: Http = Http()
  store: Place = Place()
  intake: Intake = Intake()
  worker: Worker = Worker()
  deliver: Deliver = Deliver()
  audit: Audit = Audit()
  peers: tuple[Peer, ...] = ()

  @property
  def database(self):
    """The address of the database, as SQLAlchemy takes it."""
    return self.store.database or f'sqlite:///{self.home / "service.sqlite"}'

  @property
  def files(self):
    """The folder of files that all processes share."""
    return pathlib.Path(self.store.files or self.home / 'files')

  def peer(self, name):
    """The peer of a name; None if it is no longer there."""
    return next((p for p in self.peers if p.name == name), None)


def write(home, **changes):
  """Writes the template of service.toml, `changes` in place of its values."""
  text = TEMPLATE
  for key, value in changes.items():
    line = f'{key} = '
    at = text.index(f'\n{line}') + 1
    end = text.index('\n', at)
    text = f'{text[:at]}{line}{value!r}{text[end:]}'
  files.write_text(pathlib.Path(home) / NAME, text)


def read(home):
  """The `Settings` of a home; raises ValueError for what is odd in them."""
  home = pathlib.Path(home)
  path = home / NAME
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: python -m medjax.service init --home={home}'
    )
  try:
    tree = tomllib.loads(path.read_text(encoding='utf-8-sig'))
  except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
    raise ValueError(f'{path} is not TOML: {e}; mend that line') from None
  peers = tree.pop('peer', [])
  parts = {
    f.name: f.type
    for f in dataclasses.fields(Settings)
    if f.name not in ('home', 'peers')
  }
  try:
    made = {}
    for name, values in tree.items():
      if name not in parts:
        raise ValueError(f'no part [{name}]{closest(name, parts)}')
      made[name] = _part(parts[name], values, f'[{name}]')
    peers = tuple(_part(Peer, p, '[[peer]]') for p in peers)
    if len({p.name for p in peers}) < len(peers):
      raise ValueError('two [[peer]] have one name')
  except (TypeError, ValueError) as e:
    raise ValueError(f'{path}: {e}; mend it') from None
  return Settings(home.resolve(), **made, peers=peers)


def _part(kind, values, where):
  """A part of the settings of what TOML holds."""
  known = typing.get_type_hints(kind)
  for key in values:
    if key not in known:
      raise ValueError(f'{where} has no {key}{closest(key, known)}')
  given = {k: _typed(v, known[k], f'{where} {k}') for k, v in values.items()}
  try:
    return kind(**given)
  except (TypeError, ValueError) as e:
    raise ValueError(f'{where}: {e}') from None


def _typed(value, kind, where):
  if typing.get_origin(kind) is tuple:
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
      return tuple(value)
    raise ValueError(f'{where} is no list of texts')
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
    raise ValueError(f'{where} is {value!r}, no {kind.__name__}')
  if kind in (int, float) and value < 0:
    raise ValueError(f'{where} is below 0')
  return value
