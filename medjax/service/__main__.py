"""Runs trained models in a hospital: python -m medjax.service VERB --home=…"""

import contextlib
import functools
import pathlib
import re
import sys
import time

from medjax import cli

_EXTRA = ('fastapi', 'uvicorn', 'python_multipart', 'pynetdicom', 'sqlalchemy',
          'highdicom', 'requests')  # fmt: skip


def _store(home):
  from medjax.service import settings, supervise

  return supervise.bound(settings.read(home))


def init(home, *, database='', files='', port=None, http_port=None):
  """Makes a home: settings, tables, and the first administrator."""
  from medjax.service import settings, users
  from medjax.service.store import Store

  home = pathlib.Path(home)
  home.mkdir(parents=True, exist_ok=True)
  home.chmod(0o700)  # patients' images lie there
  path = home / settings.NAME
  if not path.exists():
    settings.write(home, database=database, files=files)
    text = path.read_text('utf-8')
    text = text.replace('port = 11112', f'port = {port or 11112}', 1)
    text = text.replace('port = 8000', f'port = {http_port or 8000}', 1)
    path.write_text(text, 'utf-8')
  found = settings.read(home)
  for name, given, there in (
    ('[store] database', database, found.store.database),
    ('[store] files', files, found.store.files),
    ('[dicom] port', port, found.dicom.port),
    ('[http] port', http_port, found.http.port),
  ):
    if given and given != there:
      raise ValueError(
        f'{path} is there already, with another {name}: change it there'
      )
  store = Store(found)
  store.create()
  store.check()
  with store.write() as c:
    first = not users.any_of(c)
    password = users.add(c, 'admin', 'admin', who='init') if first else ''
  print(f'{home} is ready; its settings: {path}')
  if first:
    print(f'user admin, password {password} (shown this once)')


def model(home, workdir, *, coverage=None, nearest=False, codes='', **options):
  """Installs a trained workdir, for the series that a rule names."""
  from medjax.service import abstain, models, view

  store = _store(home)
  models.stated(options.get('facts'))  # before what takes long
  if nearest:
    _keep_embeddings(workdir)
  if coverage is not None:
    from medjax import files
    from medjax.prediction import trained

    print('measuring the validation cases', flush=True)
    rule = abstain.fit(trained.load(workdir), coverage=coverage)
    path = pathlib.Path(workdir) / abstain.NAME
    files.write_json(path, rule, sealed=True)
    print(
      f'{path}: at coverage {coverage:g} the risk ({rule["risk_is"]}) is '
      f'{view.risk(rule["risk"])}, of {rule["n"]} cases'
    )
  given = _codes(codes) if codes else None
  name = models.install(store, workdir, codes=given, who=_who(), **options)
  print(f'model {name} is installed for series with {options["when"]}')
  for line in models.codes_of(store, name):
    print(f'  {line}')
  if not (pathlib.Path(workdir) / 'metrics.json').exists():
    print('note: it was not evaluated, so it has no card')
  if coverage is None and not (pathlib.Path(workdir) / abstain.NAME).exists():
    print(
      'note: no rule of abstention is fixed for it; say --coverage=0.95 where '
      'its validation data are'
    )


def _codes(path):
  """What --codes names: {class: [value, scheme, meaning]}."""
  from medjax import files

  found = files.read_json(path, mend='mend it, or leave --codes out')
  if not isinstance(found, dict):
    raise ValueError(
      f'--codes={path}: is no file of {{"class": [value, scheme, meaning]}}'
    )
  return found


def _keep_embeddings(workdir):
  """Keeps the embeddings of a run's training cases, for those most alike."""
  from medjax import progress
  from medjax.explain import neighbours
  from medjax.prediction import trained

  loaded = trained.load(workdir)
  if 'mask' in loaded.task.fields:
    raise ValueError('--nearest is for classifications')
  count = len(loaded.experiment.cases('train'))
  with progress.bar('looking at the training cases', count) as advance:
    neighbours.stored(loaded, workdir, watch=advance)


def run(home, *, parts='', behind_proxy=False):
  """Runs the service until Ctrl-C."""
  from medjax.service import supervise

  store = _store(home)
  settings = store.settings
  chosen = tuple(parts.split(',')) if parts else supervise.PARTS
  if odd := set(chosen) - set(supervise.PARTS):
    raise ValueError(
      f'no part {min(odd)!r}: there are {", ".join(supervise.PARTS)}'
    )
  supervise.check(settings, behind_proxy=behind_proxy)
  from medjax.service import audit

  with store.write() as c:
    audit.add(c, _who(), 'start', outcome=','.join(chosen))
  began = time.monotonic()

  def ready():
    scheme = 'https' if settings.http.tls_cert else 'http'
    print(
      f'ready after {time.monotonic() - began:.1f} s: DICOM '
      f'{settings.dicom.host}:{settings.dicom.port} AET '
      f'{settings.dicom.ae_title}, {scheme}://{settings.http.host}:'
      f'{settings.http.port}/',
      flush=True,
    )

  supervise.Supervisor(settings, chosen).run(ready=ready)


_RECORDS = ('.json', '.html', '.csv')


def send(home, paths):
  """Puts files and folders into the service, as a peer would."""
  from medjax import files, progress
  from medjax.data import walk
  from medjax.service import intake

  store, found = _store(home), []
  for path in map(pathlib.Path, paths):
    if not path.exists():
      raise FileNotFoundError(f'{path}: no such file or folder')
    files.check_kind(path)
    inside = walk.files_below(path) if path.is_dir() else [path]
    # A folder may have the records that deidentify writes.
    found += [p for p in inside if p == path or p.suffix not in _RECORDS]
  studies, errors = set(), []
  with progress.bar('sending', len(found)) as advance:
    for path in found:
      answer = intake.receive(store, path.read_bytes(), peer='send')
      if answer.status == intake.OK:
        studies.add(answer.study)
      else:
        errors.append(f'{path}: {answer.text}')
        print(f'refused: {errors[-1]}', flush=True)
      advance()
  if studies:
    intake.release(store, studies, 'send', len(found) - len(errors))
  print(f'{len(found) - len(errors)} of {len(found)} files are here; studies: '
        f'{", ".join(sorted(studies)) or "none"}')  # fmt: skip
  if errors:
    raise ValueError(
      f'{len(errors)} files were refused; the first: {errors[0]}'
    )


def status(home):
  """Prints what waits, what failed and why."""
  import sqlalchemy as sa

  from medjax.service import intake, tables, view

  with _store(home).read() as c:
    refused = intake.refusals(c)
    counts = dict.fromkeys(
      ('receiving', 'queued', 'running', 'written', 'sending', 'done',
       'refused', 'failed'), 0,
    )  # fmt: skip
    studies = view.listed(c, limit=1_000_000)
    for study in studies:
      counts[study['state']] = counts.get(study['state'], 0) + 1
    t = tables.jobs
    bad = c.execute(
      sa.select(t)
      .where(t.c.state.in_(('failed', 'refused')))
      .order_by(t.c.id.desc())
      .limit(20)
    ).all()
    models = c.execute(sa.select(tables.models).order_by('name')).all()
  print(cli.aligned(['studies', ''], [[k, str(n)] for k, n in counts.items()],
                    'lr'))  # fmt: skip
  for row in models:
    print(f'model {row.name} {row.digest[:12]} for {row.when}')
  for study in studies:
    if study['problem']:
      print(f'study {study["id"]}: {study["problem"]}')
  for r in refused:
    print(f'refused in the last day, {r["count"]} times: {r["text"]}')
  for row in bad:
    print(f'job {row.id} of study {row.study} {row.state}: {row.reason}')


def retry(home, job):
  """Has a job that failed done or sent again."""
  from medjax.service import again

  print(again.retry(_store(home), job, who=_who()))


def user(home, name, *, role, password_stdin=False):
  """Adds a user, or gives one a new role and password."""
  from medjax.service import users

  password = sys.stdin.readline().rstrip('\n') if password_stdin else ''
  with _store(home).write() as c:
    secret = users.add(c, name, role, password=password, who=_who())
  what = 'token' if role == 'machine' else 'password'
  if not password:
    print(f'{role} {name}, {what} {secret} (shown this once)')


def audit(home, action, *, head='', out=''):
  """Verifies the audit log, or exports it as XML of PS3.15 A.5."""
  from medjax import files
  from medjax.service import audit as log

  with _store(home).read() as c:
    if action == 'verify':
      count, last = log.verify(c, head)
      print(f'{count} rows, whole; the last has the digest {last}')
      return
    text = log.export(c)
  if out:
    files.write_text(out, text)
  else:
    print(text)


def purge(home, older):
  """Removes studies that are done and old, and audit rows older than kept."""
  from medjax.service import again

  found = re.fullmatch(r'(\d+)([dh])', older)
  if not found:
    raise ValueError(f'--older={older}: say 30d or 12h')
  seconds = int(found[1]) * {'d': 86400, 'h': 3600}[found[2]]
  print(again.purge(_store(home), seconds, who=_who()))


def _who():
  import getpass

  try:
    return f'{getpass.getuser()} on this machine'
  except (KeyError, OSError):
    return 'somebody on this machine'


def _add(verbs, function, *arguments):
  about = function.__doc__.partition('\n')[0]
  one = verbs.add_parser(function.__name__, help=about, description=about)
  one.set_defaults(function=function)
  one.add_argument('--home', required=True, help='folder of the service')
  one.add_argument('--debug', action='store_true', help='show tracebacks')
  for names, options in arguments:
    one.add_argument(*names.split(), **options)


def _parser():
  parser = cli.parser(
    __doc__,
    'service init --home=hospital',
    "service model --home=hospital --workdir=runs/unet --when='Modality=MR'",
    'service run --home=hospital',
    'service send --home=hospital study/',
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
  verb = functools.partial(_add, verbs)
  verb(
    init,
    ('--database', dict(default='', help='postgresql+psycopg://… [SQLite]')),
    ('--files', dict(default='', help='a path all machines share [in home]')),
    ('--port', dict(type=int, help='of DICOM [11112]')),
    ('--http_port', dict(type=int, help='of the page [8000]')),
  )
  verb(
    model,
    ('--workdir', dict(required=True, help='an evaluated run')),
    ('--when', dict(required=True, help="series: 'Modality=MR, Rows<600'")),
    ('--study_when', dict(default='', help='studies that must have a series')),
    ('--name', dict(default='', help="[the workdir's]")),
    ('--normal', dict(default='', help='the class that is no finding')),
    ('--codes', dict(default='', help='JSON: class → [code, scheme, text]')),
    ('--coverage', dict(type=float, help='fix a rule of abstention, 0.95 say')),
    ('--nearest', dict(action='store_true', help='show like training cases')),
    ('--by_rule', dict(default='', help="'CLASS=SET', of medjax knowledge")),
    ('--facts', dict(default='', help='for its card: what no run can know')),
  )
  verb(
    run,
    ('--parts', dict(default='', help='of intake,web,courier,worker [all]')),
    ('--behind_proxy --behind-proxy', dict(
      action='store_true', help='TLS is done in front, or not needed')),
  )  # fmt: skip
  verb(send, ('paths', dict(nargs='+', help='DICOM files and folders')))
  verb(status)
  verb(retry, ('job', dict(type=int, help='number of the job')))
  verb(
    user,
    ('action', dict(choices=['add'])),
    ('name', dict(help='of the user')),
    ('--role', dict(required=True, help='viewer, doctor, admin or machine')),
    ('--password_stdin', dict(action='store_true', help='[one is made]')),
  )
  verb(
    audit,
    ('action', dict(choices=['verify', 'export'])),
    ('--head', dict(default='', help='a digest noted elsewhere')),
    ('--out', dict(default='', help='file of the export [printed]')),
  )
  verb(purge, ('--older', dict(required=True, help='30d, 12h')))
  return parser


@contextlib.contextmanager
def _with_extra():
  """A missing package of the extra, or the database, ends in one line."""
  try:
    yield
  except ModuleNotFoundError as e:
    if e.name and e.name.partition('.')[0] in (*_EXTRA, 'psycopg'):
      raise ValueError(
        f'the service needs {e.name}: pip install medjax[service]'
      ) from None
    raise


def main():
  """Command line entry point."""
  args = vars(_parser().parse_args())
  function = args.pop('function')
  for name in ('verb', 'debug'):
    args.pop(name)
  if function is user:
    args.pop('action')
  with cli.one_line_errors(), _with_extra():
    function(args.pop('home'), **args)


if __name__ == '__main__':
  main()
