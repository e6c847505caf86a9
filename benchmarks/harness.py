"""Side by side: the same work by medjax and a peer, in turn, in one run.

A benchmark is a list of `Case`s: a name, and a function for each contender
that sets it up and returns what to time. Rounds alternate between the
contenders, so that a slow minute of the machine hits all of them alike; what
is reported is the median over rounds and its spread, CPU seconds, peak memory,
and ratios. Worker processes of a contender count with it.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

OURS = 'medjax'


class LeftOutError(Exception):
  """A contender cannot run here; says why."""


@dataclasses.dataclass(frozen=True)
class Case:
  """One row: contenders by name, `OURS` first.

  A contender is a function without arguments that sets up (not timed) and
  returns a function that does the work once, to its end. If that gives a float,
  those are the seconds that count. If it has a `cost`, (FLOPs, bytes) of one
  piece of work, the row says what share of the machine's ceilings that is; if
  it has `facts`, numbers by name, they join the row. Both may raise
  ImportError or LeftOutError: the contender is left out.
  """

  name: str
  contenders: Mapping[str, Callable[[], Callable[[], object]]]
  aim: float | None = None  # of ours / peer, at most
  samples: int | None = None  # in one piece of work
  warm: int = 2  # pieces of work before the first that is timed
  rounds: int | None = None  # at most; None: as many as the others
  check: Callable[[], object] | None = None  # raises where the work differs


def main(title, cases, *, rounds=7):
  """Runs the cases named on the command line; prints a table, keeps JSON."""
  parser = argparse.ArgumentParser(description=title)
  parser.add_argument('names', nargs='*', help='cases [all]')
  parser.add_argument('--rounds', type=int, default=rounds)
  parser.add_argument('--skip', help='leave out this contender')
  parser.add_argument('--out', help='folder of the JSON [benchmarks/results]')
  parser.add_argument('--alone', help=argparse.SUPPRESS)
  args = parser.parse_args()
  known = {case.name: case for case in cases}
  unknown = set(args.names) - set(known)
  if unknown:
    parser.error(f'no case {sorted(unknown)}; there are {", ".join(known)}')
  chosen = [known[name] for name in args.names or known]
  if args.alone:
    _alone(chosen[0].contenders[args.alone], chosen[0].warm + 1)
    return
  script = pathlib.Path(sys.argv[0])
  out = pathlib.Path(args.out or script.parent / 'results')
  print(f'{title}\n{describe()}\n')
  rows = []
  for case in chosen:
    contenders = {k: v for k, v in case.contenders.items() if k != args.skip}
    case = dataclasses.replace(case, contenders=contenders)
    row = measure(case, min(args.rounds, case.rounds or args.rounds))
    for name, result in row['contenders'].items():
      result['peak_mb'] = _peak(script, case.name, name)
    rows.append(row)
    print(_line(row), flush=True)
  out.mkdir(parents=True, exist_ok=True)
  path = out / f'{script.stem}.json'
  document = {'title': title, 'machine': machine(), 'rows': rows}
  path.write_text(json.dumps(document, indent=1) + '\n')
  print(f'\nkept in {path}')


def asked(doc, known, *, what, runs):
  """(what, names, folder) that a script is told which keeps what it trains.

  doc: its docstring; known: {name: …}, of which all are taken by default; what:
  a word for one of them; runs: the folder by default.
  """
  parser = argparse.ArgumentParser(description=doc.splitlines()[0])
  parser.add_argument('what', choices=('train', 'keep', 'table'))
  parser.add_argument('names', nargs='*', help='[all]')
  parser.add_argument('--runs', type=pathlib.Path, default=runs)
  args = parser.parse_intermixed_args()
  if unknown := set(args.names) - set(known):
    parser.error(f'no {what} {sorted(unknown)}; there are {", ".join(known)}')
  return args.what, args.names or [*known], args.runs


def put_table(path, text):
  """Puts a table between the two marks of a Markdown file."""
  begin, end = '<!-- table -->\n', '<!-- end -->\n'
  head, rest = path.read_text().split(begin)
  tail = rest.split(end)[1]
  path.write_text(f'{head}{begin}{text}{end}{tail}')


def measure(case, rounds):
  """Checks the case, sets up every contender, times them in turn."""
  works, failed = {}, {}
  if case.check:
    _tried(case.check, 'check', failed)
  for name, setup in case.contenders.items():

    def ready(setup=setup):
      work = setup()
      for _ in range(case.warm):  # compile, warm caches
        work()
      return work

    if work := _tried(ready, name, failed):
      works[name] = work
  seconds = {name: [] for name in works}
  cpu = {name: [] for name in works}
  for _ in range(rounds):
    for name, work in works.items():
      children, own = _children_cpu(), time.process_time()
      before = time.perf_counter()
      counted = work()
      elapsed = time.perf_counter() - before
      own = time.process_time() - own
      seconds[name].append(counted if isinstance(counted, float) else elapsed)
      cpu[name].append(own + _children_cpu() - children)
  contenders = {
    name: {
      'median_s': statistics.median(times),
      'fastest_s': min(times),
      'slowest_s': max(times),
      'cpu_s': statistics.median(cpu[name]),
    }
    for name, times in seconds.items()
  }
  for name, result in contenders.items():
    if case.samples:
      result['samples_per_s'] = case.samples / result['median_s']
    result['facts'] = getattr(works[name], 'facts', {})
    if cost := getattr(works[name], 'cost', None):
      result.update(_roofline(cost, result['median_s']))
    if name != OURS and OURS in contenders:
      result.update(_ratios(seconds[OURS], seconds[name]))
      ours = contenders[OURS]
      result['cpu_ratio'] = ours['cpu_s'] / max(result['cpu_s'], 1e-9)
  return {
    'case': case.name,
    'aim': case.aim,
    'contenders': contenders,
    'left_out': failed,
  }


def _tried(function, name, failed):
  """Its result; None where it cannot run here, with the reason in `failed`."""
  try:
    return function()
  except (ImportError, LeftOutError) as e:
    failed[name] = ' '.join(str(e).split())
    return None


def _ratios(ours, theirs):
  ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
  return {
    'ratio': statistics.median(ratios),
    'ratio_range': [ratios[0], ratios[-1]],
  }


def _roofline(cost, seconds):
  """The least time that FLOPs and bytes allow on this machine."""
  flops, moved = cost
  matmul, copy = ceilings()
  least = max(flops / matmul, moved / copy)
  return {
    'flops': flops,
    'bytes': moved,
    'roofline_s': least,
    'bound': 'FLOPs' if flops / matmul >= moved / copy else 'bytes',
    'over_roofline': seconds / least,
  }


@functools.cache
def ceilings():
  """(FLOP/s of a matrix product, bytes/s of a copy) of the device, measured.

  The product is float32 on a CPU, bfloat16 elsewhere; a copy reads and writes.
  """
  import jax
  import jax.numpy as jnp

  on_cpu = jax.default_backend() == 'cpu'
  n, dtype = (2048, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
  a = jax.random.normal(jax.random.key(0), (n, n), dtype)
  flat = jnp.zeros(2**26 if on_cpu else 2**29, jnp.float32)
  product = jax.jit(lambda a: a @ a)
  copy = jax.jit(lambda x: x + 1)
  best = [min(_times(f, x, 5)) for f, x in ((product, a), (copy, flat))]
  return 2 * n**3 / best[0], 2 * flat.nbytes / best[1]


def _times(function, x, count):
  import jax

  jax.block_until_ready(function(x))
  for _ in range(count):
    before = time.perf_counter()
    jax.block_until_ready(function(x))
    yield time.perf_counter() - before


def _line(row):
  text = []
  for name, r in row['contenders'].items():
    spread = f'{r["fastest_s"] * 1e3:.4g}–{r["slowest_s"] * 1e3:.4g}'
    line = (
      f'{row["case"]:<24} {name:<18} {r["median_s"] * 1e3:9.4g} ms '
      f'({spread}), cpu {r["cpu_s"] * 1e3:.4g} ms, peak {r["peak_mb"]:.0f} MB'
    )
    if 'samples_per_s' in r:
      line += f', {r["samples_per_s"]:.4g} samples/s'
    line += ''.join(f', {k} {v:.4g}' for k, v in r['facts'].items())
    if 'roofline_s' in r:
      line += (
        f', {r["over_roofline"]:.1f} × roofline ({r["flops"] / 1e9:.3g} GFLOP, '
        f'{r["bytes"] / 1e9:.3g} GB; {r["bound"]})'
      )
    if 'ratio' in r:
      low, high = r['ratio_range']
      line += (
        f'; medjax / {name} {r["ratio"]:.2f} ({low:.2f}–{high:.2f}), '
        f'cpu {r["cpu_ratio"]:.2f}'
      )
      if row['aim']:
        verdict = 'met' if r['ratio'] <= row['aim'] else 'missed'
        line += f', aim ≤ {row["aim"]}: {verdict}'
    text.append(line)
  for name, why in row['left_out'].items():
    text.append(f'{row["case"]:<24} {name:<18} left out: {why}')
  return '\n'.join(text)


def _peak(script, case, contender):
  """Peak memory of a process that does only this, in MB."""
  done = subprocess.run(
    [sys.executable, str(script), case, f'--alone={contender}'],
    capture_output=True,
    text=True,
    check=True,
  )
  return float(done.stdout.split()[-1])


def _alone(setup, runs):
  with _watched() as peak:
    work = setup()
    for _ in range(runs):
      work()
  # Not ru_maxrss: a child starts with the peak of the parent it was forked of.
  status = pathlib.Path('/proc/self/status')
  if status.exists():
    (own,) = re.findall(r'VmHWM:\s+(\d+) kB', status.read_text())
    print(max(int(own), *peak) / 1024)
  else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


@contextlib.contextmanager
def _watched():
  """[kB]: the most that this process and its children held at a time.

  Sampled, and only while there are children. What processes share counts once.
  """
  peak, done = [0], threading.Event()

  def watch():
    while not done.wait(0.1):
      if children := _descendants():
        held = sum(map(_held, [os.getpid(), *children]))
        peak[0] = max(peak[0], held)

  thread = threading.Thread(target=watch)
  thread.start()
  try:
    yield peak
  finally:
    done.set()
    thread.join()


def _held(pid):
  """Memory of a process in kB, its part of what is shared; 0 if it is gone."""
  try:
    rollup = pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text()
  except OSError:
    return 0
  return int(re.search(r'^Pss:\s+(\d+) kB', rollup, re.M)[1])


def _children_cpu():
  """CPU seconds of all children of this process, ended ones too."""
  ended = os.times()
  ticks = sum(sum(_stat(pid)[11:13]) for pid in _descendants())
  running = ticks / os.sysconf('SC_CLK_TCK')
  return ended.children_user + ended.children_system + running


def _descendants():
  """Process ids of children and theirs; none where there is no /proc."""
  parents = {
    pid: _stat(pid)[1]
    for pid in (int(p.name) for p in pathlib.Path('/proc').glob('[0-9]*'))
  }
  found = [os.getpid()]
  for pid in found:
    found += [child for child, parent in parents.items() if parent == pid]
  return found[1:]


def _stat(pid):
  """Fields of /proc/PID/stat from the state (0) on; zeros if it is gone."""
  try:
    text = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return (0,) * 50
  return tuple(
    int(x) if x.lstrip('-').isdigit() else x
    for x in text.rpartition(')')[2].split()
  )


def machine():
  """Facts about where this runs."""
  facts = {
    'cores': os.cpu_count(),
    'python': platform.python_version(),
    'cpu': platform.processor() or platform.machine(),
  }
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  if cpuinfo.exists():
    lines = cpuinfo.read_text().splitlines()
    names = [s.split(':')[1].strip() for s in lines if 'model name' in s]
    facts['cpu'] = names[0] if names else facts['cpu']
  for package in ('jax', 'torch', 'monai'):
    try:
      facts[package] = __import__(package).__version__
    except ImportError:
      facts[package] = None
  import jax

  facts['device'] = jax.devices()[0].device_kind
  return facts


def describe():
  """The machine in one line."""
  return ', '.join(f'{k} {v}' for k, v in machine().items() if v)
