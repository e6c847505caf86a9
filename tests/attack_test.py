"""The commands under attack: kills, damage, races, terminals, hostile files.

    python tests/attack_test.py --seed=1

prints, by attack, how often it was tried, and how often what came was wrong in
silence, a traceback, or no end. As a test all of the last three are 0.
"""

import argparse
import collections
import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile

import numpy as np
import pytest
from PIL import Image

from medjax import cli, compare, convert, experiment, inspect, prepare, public
from medjax.evaluate import evaluate
from medjax.finetune import files as weights
from medjax.predict import predict
from medjax.report import write_report
from medjax.survey.source import open_source
from medjax.train import train

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECONDS = 120  # after which an attack counts as a hang
CONFIG = """
from medjax.config import default_config


def get_config():
  config = default_config()
  config.data.update(name='folder', path={path!r}, batch_size=8)
  config.data.preprocess = (dict(name='zscore'),)
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification', monitor='auroc')
  config.train.update(steps=6, log_every=2, eval_every=2)
  return config
"""


class HangError(BaseException):
  """Not an Exception: programs turn those into lines of theirs."""


@dataclasses.dataclass(frozen=True)
class Said:
  """What a command did: its exit code, what it printed, its traceback."""

  code: int
  out: str = ''
  err: str = ''
  trace: str = ''
  hung: bool = False

  @property
  def lines(self):
    return [x for x in self.err.splitlines() if x.startswith('medjax: ')]


def call(function, *arguments, **options):
  """Calls what a command calls, as it does, in this process."""

  def ring(number, frame):
    raise HangError

  out, err, code, trace, hung = io.StringIO(), io.StringIO(), 0, '', False
  before = signal.signal(signal.SIGALRM, ring)
  signal.alarm(SECONDS)
  try:
    with (
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
      cli.one_line_errors(),
    ):
      function(*arguments, **options)
  except SystemExit as e:
    code = e.code
  except HangError:
    code, hung = 1, True
  except BaseException:
    code, trace = 1, traceback.format_exc()
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
  return Said(code, out.getvalue(), err.getvalue(), trace, hung)


def command(module, *arguments, **options):
  """A command in a process of its own, started."""
  env = {**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
  env.pop('XLA_FLAGS', None)
  options = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options}
  argv = [sys.executable, '-m', f'medjax.{module}', *map(str, arguments)]
  # Behind a shell's & Ctrl-C is ignored, and children would inherit that.
  heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
  return subprocess.Popen(argv, env=env, preexec_fn=heard, **options)


def ended(process):
  """What it said at its end."""
  try:
    out, err = process.communicate(timeout=SECONDS)
  except subprocess.TimeoutExpired:
    process.kill()
    process.communicate()
    return Said(1, hung=True)
  text = lambda x: (x or b'').decode(errors='replace')
  trace = text(err) if 'Traceback' in text(err) else ''
  return Said(process.returncode, text(out), text(err), trace)


class Attack:
  """Tries things, and counts what came of them."""

  def __init__(self, home, seed, show=lambda line: None):
    self.home, self.random, self._show = home, random.Random(seed), show
    self.tried = collections.Counter()
    self.faults = collections.defaultdict(list)  # (attack, fault) → what
    self._folders = 0

  def judge(self, attack, what, said, right):
    """Counts one; `right()` says whether the results are, where it ended well.

    Something else than the right results must be said in a line.
    """
    self.tried[attack] += 1
    fault = ''
    if said.hung:
      fault = 'hang'
    elif said.trace:
      fault = 'traceback'
    elif said.code and len(said.lines) < 1:
      fault = 'wrong'  # no word of why
    elif not said.code and not right() and not said.lines:
      fault = 'wrong'
    if fault:
      self.faults[attack, fault].append(
        f'{what}: exit {said.code}: {said.err[-300:]}{said.trace[-1500:]}'
      )
    line = said.lines[-1] if said.lines else ''
    self._show(f'{attack}: {what}: {fault or said.code} {line}')

  def folder(self):
    """A new folder."""
    self._folders += 1
    path = self.home / f'try{self._folders}'
    path.mkdir()
    return path

  def copy(self, folder):
    """A copy of a workdir."""
    path = self.folder() / 'run'
    shutil.copytree(folder, path)
    return path

  def table(self):
    """A line per attack."""
    rows = [
      [name, str(n)]
      + [str(len(self.faults[name, k])) for k in ('wrong', 'traceback', 'hang')]
      for name, n in self.tried.items()
    ]
    sums = [str(sum(int(row[i]) for row in rows)) for i in range(1, 5)]
    header = ['attack', 'tried', 'wrong', 'tracebacks', 'hangs']
    return cli.aligned(header, [*rows, ['all', *sums]], 'lrrrr')


@dataclasses.dataclass
class Target:
  """A trained workdir, the data and results that it gave."""

  home: pathlib.Path
  workdir: pathlib.Path
  images: pathlib.Path
  config: pathlib.Path
  metrics: dict
  predictions: list


def results(workdir):
  """What evaluation found, without what depends on the clock."""
  tree = json.loads((workdir / 'metrics.json').read_text())
  return {k: tree[k] for k in ('test', 'validation', 'calibration')}


def table(out):
  """The rows of predictions.csv, without the folder of the files."""
  path = out / 'predictions.csv'
  if not path.exists():
    return []
  with path.open(encoding='utf-8', newline='') as f:
    rows = list(csv.DictReader(f))
  return [{**row, 'file': row['file'].rpartition('/')[2]} for row in rows]


def run(config, workdir):
  """What main does: trains, evaluates, reports."""
  made = experiment.make(public.read_config(config))
  facts = train(made, workdir)
  evaluate(made, workdir, facts=facts)
  write_report(workdir)


def again(config, workdir):
  """What main does with --mode=evaluate."""
  made = experiment.restore(workdir, config=public.read_config(config))
  evaluate(made, workdir)
  write_report(workdir)


def make_target(home):
  """Trains on noise with and without a disc."""
  rng = np.random.default_rng(1)
  for i in range(40):
    image = rng.normal(90, 15, (16, 16))
    image[4:11, 4:11] += 90 * (i % 2)
    folder = home / 'data' / ('dark', 'bright')[i % 2]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(
      folder / f'{i:02}.png'
    )
  images = home / 'images'
  shutil.copytree(home / 'data' / 'dark', images)
  config = home / 'attacked.py'
  config.write_text(CONFIG.format(path=str(home / 'data')))
  workdir = home / 'whole'
  said = call(run, config, workdir)
  assert not said.code, said
  said = call(predict, workdir, [images], home / 'out')
  assert not said.code, said
  return Target(
    home, workdir, images, config, results(workdir), table(home / 'out')
  )


# Damage.


def damage(path, kind, rng):
  """Damages a file in one way."""
  data = bytearray(path.read_bytes())
  if kind == 'delete':
    path.unlink()
    return
  if kind == 'truncate':
    data = data[: rng.randrange(len(data))] if data else data
  elif kind == 'zero':
    start = rng.randrange(max(len(data), 1))
    data[start : start + 64] = bytes(len(data[start : start + 64]))
  elif data:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  path.write_bytes(data)


def half(workdir):
  """A workdir as a kill before the last checkpoint leaves it."""
  shutil.rmtree(workdir / 'checkpoints' / '6')
  return workdir


def attack_workdir(attack, target, count):
  """Every file of a workdir, and `count` of its checkpoints."""
  kinds = ('truncate', 'zero', 'flip', 'delete')
  paths = [p for p in sorted(target.workdir.rglob('*')) if p.is_file()]
  paths = [p.relative_to(target.workdir) for p in paths]
  paths = [p for p in paths if p.name != '.lock']
  deep = [p for p in paths if p.parts[0] == 'checkpoints']
  made = ('.png', '.html')  # by the report, of the others
  flat = [p for p in paths if p not in deep and p.suffix not in made]
  read_by = {
    'config.json': ('predict', 'evaluate', 'resume', 'report'),
    'facts.json': ('predict', 'evaluate'),
    'cases.json': ('evaluate', 'resume'),
    'calibration.json': ('predict',),
  }
  tries = []
  for path in flat:
    for kind in kinds:
      of = read_by.get(path.name, ('report',))
      tries += [(path, kind, attack.random.choice(of))]
      if path.name == 'config.json':
        tries += [(path, kind, 'predict')]
  for i in range(count):
    kind, what = kinds[i % 4], ('predict', 'evaluate', 'resume')[i % 3]
    tries.append((attack.random.choice(deep), kind, what))
  for path, kind, what in tries:
    workdir = attack.copy(target.workdir)
    if what == 'resume':
      half(workdir)
    if not (workdir / path).exists():
      continue
    damage(workdir / path, kind, attack.random)
    said, right = attempt(what, target, workdir)
    attack.judge(f'damage, {what}', f'{kind} {path}', said, right)


def attempt(what, target, workdir):
  """(what a command said, a question whether its results are right)."""
  if what == 'predict':
    out = workdir.parent / 'out'
    said = call(predict, workdir, [target.images], out)
    return said, lambda: table(out) == target.predictions
  if what == 'report':
    said = call(write_report, workdir)
    return said, lambda: (workdir / 'report.html').stat().st_size > 1000
  function = again if what == 'evaluate' else run
  said = call(function, target.config, workdir)
  return said, lambda: results(workdir) == target.metrics


# Kills.


def attack_with_kills(attack, target, count):
  """Kills commands at random moments; the same command then ends as ever."""
  npz = attack.folder()
  rng = np.random.default_rng(0)
  arrays = {}
  for split, n in (('train', 300), ('val', 30), ('test', 30)):
    arrays[f'{split}_images'] = rng.integers(0, 255, (n, 28, 28), np.uint8)
    arrays[f'{split}_labels'] = rng.integers(0, 2, (n, 1), np.uint8)
  np.savez(npz / 'pneumoniamnist.npz', **arrays)

  def prepared(home):
    target = prepare.prepare('medmnist/pneumoniamnist', home, npz)
    return {p.name: p.read_bytes() for p in target.glob('*.array_record*')}

  records = prepared(attack.folder())
  convert.convert_all(target.images, pictures := attack.folder() / 'out')
  pictures = {p.name: p.read_bytes() for p in pictures.iterdir()}

  def killed(module, *arguments):
    process = command(module, *arguments)
    time.sleep(attack.random.uniform(0.5, 12))
    process.kill()
    process.communicate()

  for _ in range(count):
    workdir = attack.folder() / 'run'
    killed('main', f'--config={target.config}', f'--workdir={workdir}')
    said, right = attempt('resume', target, workdir)
    attack.judge('kill, train', '', said, right)
    workdir = attack.copy(target.workdir)
    killed(
      'main',
      f'--config={target.config}',
      f'--workdir={workdir}',
      '--mode=evaluate',
    )
    said = call(write_report, workdir)
    attack.judge(
      'kill, evaluate',
      '',
      said,
      lambda workdir=workdir: results(workdir) == target.metrics,
    )
    killed(
      'predict',
      f'--workdir={workdir}',
      target.images,
      f'--out={workdir.parent / "out"}',
    )
    attack.judge('kill, predict', '', *attempt('predict', target, workdir))
    killed('report', workdir)
    attack.judge('kill, report', '', *attempt('report', target, workdir))
    home = attack.folder()
    flags = f'--data_dir={home}', f'--manual_dir={npz}'
    killed('prepare', 'medmnist/pneumoniamnist', *flags)
    said = call(prepared, home)
    attack.judge(
      'kill, prepare', '', said, lambda home=home: prepared(home) == records
    )
    out = attack.folder() / 'out'
    killed('convert', target.images, out)
    said = call(convert.convert_all, target.images, out)
    attack.judge(
      'kill, convert',
      '',
      said,
      lambda out=out: (
        {p.name: p.read_bytes() for p in out.glob('[!.]*')} == pictures
      ),
    )


def attack_with_races(attack, target):
  """Two runs in one workdir: one trains, the other says so or finds it done."""
  workdir = attack.folder() / 'run'
  flags = f'--config={target.config}', f'--workdir={workdir}'
  for process in [command('main', *flags) for _ in range(2)]:
    said = ended(process)
    attack.judge('race', '', said, lambda: results(workdir) == target.metrics)


def attack_with_interrupts(attack, target, count):
  """Ctrl-C at random moments, mostly in imports: a line, and 130."""
  for _ in range(count):
    process = command(
      'predict',
      f'--workdir={target.workdir}',
      target.images,
      f'--out={attack.folder()}',
    )
    time.sleep(attack.random.uniform(0.3, 3))
    process.send_signal(signal.SIGINT)
    said = ended(process)
    # Before Python has begun to import medjax, it ends by the signal itself.
    early = said.code == -signal.SIGINT and 'medjax' not in said.err
    if early:
      said = Said(130, err='medjax: interrupted')
    one = said.err.strip() == 'medjax: interrupted' and said.code == 130
    attack.judge('Ctrl-C', '', said, lambda one=one: one)


# Terminals and files.


def attack_with_names(attack, target):
  """Names of files that steer terminals, or are no text."""
  folder = attack.folder() / 'in'
  folder.mkdir()
  source = sorted(target.images.iterdir())[0]
  names = [b'a\x1b]0;owned\x07.png', b'b\xff\xfe.png', b'c\x9b31m.png',
           b'd\r.png', '=e\u202e.png'.encode()]  # fmt: skip
  for name in names:
    shutil.copy(source, os.path.join(os.fsencode(folder), name))
  out = attack.folder() / 'out'
  said = call(predict, target.workdir, [folder], out)
  raw = {c for c in said.out + said.err if not c.isprintable()}
  attack.judge(
    'names',
    'predict',
    said,
    lambda: raw == {'\n'} and len(table(out)) == len(names),
  )
  out = attack.folder() / 'out'
  said = call(convert.convert_all, folder, out)
  raw = {c for c in said.out + said.err if not c.isprintable()}
  attack.judge('names', 'convert', said, lambda: raw == {'\n'})


def attack_with_streams(attack, target):
  """Standard output that is closed, broken, or knows ASCII alone."""
  for what in ('closed', 'broken', 'full', 'ascii'):
    out = attack.folder() / 'out'
    read, write = os.pipe()
    os.close(read)
    stream = {
      'closed': lambda: None,
      'broken': lambda write=write: os.fdopen(write, 'w'),
      'full': lambda: os.fdopen(os.open('/dev/full', os.O_WRONLY), 'w'),
      'ascii': lambda: io.TextIOWrapper(io.BytesIO(), 'ascii'),
    }[what]()

    def work(stream=stream, out=out):
      before = sys.stdout
      sys.stdout = stream
      try:
        with cli.one_line_errors():
          predict(target.workdir, [target.images], out)
      finally:
        sys.stdout = before

    said = call(work)
    if what == 'full':  # is said, and costs no prediction
      said = Said(0 if said.lines else 1, err='')
    attack.judge(
      'streams', what, said, lambda out=out: table(out) == target.predictions
    )


@contextlib.contextmanager
def nobody():
  """Without the rights of root, who may do everything."""
  root = os.geteuid() == 0
  if root:
    os.seteuid(65534)
  try:
    yield
  finally:
    if root:
      os.seteuid(0)


def attack_with_rights(attack, target):
  """Folders that may not be written, files that may not be read."""
  attack.home.chmod(0o755)
  closed, images, runs, out, other = (attack.folder() for _ in range(5))
  shutil.copytree(target.images, images, dirs_exist_ok=True)
  shutil.copytree(target.workdir, runs, dirs_exist_ok=True)
  closed.chmod(0o500)
  out.chmod(0o777)
  other.chmod(0o777)
  next(images.rglob('*.png')).chmod(0)
  (runs / 'config.json').chmod(0)
  tries = {
    'predict into': (predict, target.workdir, [target.images], closed),
    'train into': (run, target.config, closed / 'run'),
    'predict from': (predict, target.workdir, [images], out),
    'with a run': (predict, runs, [target.images], other),
    'report on': (write_report, runs),
  }
  for name, arguments in tries.items():
    with nobody():
      said = call(*arguments)
    attack.judge('rights', name, said, lambda: False)
  lost = len(target.predictions) - len(table(out))
  attack.judge('rights', 'the others', Said(0), lambda: lost == 1)


def attack_with_pipes(attack, target):
  """What is neither a file nor a folder, as an argument."""
  folder = attack.folder()
  os.mkfifo(folder / 'a.png')
  os.mkfifo(folder / 'b.csv')
  with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(folder):
    server.bind('c.png')
  tries = [
    (name, path)
    for path in (folder / 'a.png', folder / 'c.png', pathlib.Path('/dev/zero'))
    for name in ('predict', 'convert', 'inspect')
  ] + [('compare', folder / 'b.csv'), ('report', folder / 'b.csv')]
  for name, path in tries:
    out = attack.folder()
    said = {
      'predict': lambda p, o: call(predict, target.workdir, [p], o),
      'convert': lambda p, o: call(convert.convert_all, p, o),
      'inspect': lambda p, o: call(lambda: inspect.inspect(open_source(p), o)),
      'compare': lambda p, o: call(
        compare.compare_runs, str(p), str(target.workdir)
      ),
      'report': lambda p, o: call(write_report, p),
    }[name](path, out)
    attack.judge('pipes', f'{name} {path.name}', said, lambda: False)


def attack_with_weights(attack):
  """Weight files that would take all time or memory."""
  word = lambda text: b'X' + len(text).to_bytes(4, 'little') + text
  nested = b'q\x00h\x00\x86' * 60
  pickles = {
    'nested key': b'\x80\x02})' + nested + b'K\x01s.',
    'nested storage': b'\x80\x02)' + nested + b'Q.',
    'far memo': b'\x80\x02}r\xff\xff\xff\x7f.',
    'far bytes': b'\x80\x05\x96' + (2**40).to_bytes(8, 'little') + b'.',
    'itself': b'\x80\x02}q\x00' + word(b'state_dict') + b'h\x00s.',
    'numbers as names': pickle.dumps({i: i for i in range(1000)}, 2),
    'long name': pickle.dumps({'x' * 10**6: 1}, 2),
    'deep': b'\x80\x02' + b'(' * 2 * 10**6 + b'.',
    'code': pickle.dumps({'x': os.getcwd}, 2),
  }
  path = attack.folder() / 'a.pth'
  for name, content in pickles.items():
    with zipfile.ZipFile(path, 'w') as f:
      f.writestr('a/data.pkl', content)
      f.writestr('a/data/0', bytes(400))
    attack.judge('weights', name, call(weights.read, path), lambda: False)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as f:
    f.writestr('a/data.pkl', pickle.dumps({}, 2))
    f.writestr('a/data/0', bytes(10**8))
  attack.judge('weights', 'bomb', call(weights.read, path), lambda: False)


def attack_all(home, *, seed, count, show=lambda line: None):
  """The `Attack`, done."""
  attack = Attack(home, seed, show)
  target = make_target(home)
  attack_with_names(attack, target)
  attack_with_streams(attack, target)
  attack_with_rights(attack, target)
  attack_with_pipes(attack, target)
  attack_with_weights(attack)
  attack_workdir(attack, target, 4 * count)
  attack_with_interrupts(attack, target, count // 2)
  attack_with_races(attack, target)
  attack_with_kills(attack, target, max(count // 4, 1))
  return attack


@pytest.mark.slow
def test_nothing_is_lost_nothing_hangs_nothing_is_wrong():
  """In a process of its own: the tests' virtual devices round otherwise."""
  env = {**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
  env.pop('XLA_FLAGS', None)
  done = subprocess.run(
    [sys.executable, __file__, '--count=4'],
    env=env, capture_output=True, text=True, check=False, cwd=ROOT,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout + done.stderr


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--count', type=int, default=8)
  parser.add_argument('--show', action='store_true', help='each as it comes')
  args = parser.parse_args()
  began = time.monotonic()
  with tempfile.TemporaryDirectory() as home:
    attack = attack_all(
      pathlib.Path(home),
      seed=args.seed,
      count=args.count,
      show=lambda line: print(line, flush=True) if args.show else None,
    )
  for (name, fault), found in attack.faults.items():
    for what in found:
      print(f'{fault}: {name}: {what}\n')
  print(f'{attack.table()}\n{time.monotonic() - began:.0f} s')
  if any(attack.faults.values()) or sum(attack.tried.values()) < 60:
    sys.exit(1)


if __name__ == '__main__':
  main()
