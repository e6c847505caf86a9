"""Side by side: the same work by medjax and a peer, in turn, in one run.

A benchmark is a list of `Case`s: a name, and a function for each contender
that sets it up and returns what to time. Rounds alternate between the
contenders, so that a slow minute of the machine hits all of them alike; what
is reported is the median over rounds and its spread, CPU seconds, and ratios.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

OURS = 'medjax'


@dataclasses.dataclass(frozen=True)
class Case:
  """One row: contenders by name, `OURS` first.

  A contender is a function without arguments that sets up (not timed) and
  returns a function that does the work once, to its end. Both may raise
  ImportError: the contender is left out.
  """

  name: str
  contenders: Mapping[str, Callable[[], Callable[[], object]]]
  aim: float | None = None  # of ours / peer, at most


def main(title, cases, *, rounds=7):
  """Runs the cases named on the command line; prints a table, keeps JSON."""
  parser = argparse.ArgumentParser(description=title)
  parser.add_argument('names', nargs='*', help='cases [all]')
  parser.add_argument('--rounds', type=int, default=rounds)
  parser.add_argument('--out', help='folder of the JSON [benchmarks/results]')
  parser.add_argument('--alone', help=argparse.SUPPRESS)
  args = parser.parse_args()
  known = {case.name: case for case in cases}
  unknown = set(args.names) - set(known)
  if unknown:
    parser.error(f'no case {sorted(unknown)}; there are {", ".join(known)}')
  chosen = [known[name] for name in args.names or known]
  if args.alone:
    _alone(chosen[0].contenders[args.alone])
    return
  script = pathlib.Path(sys.argv[0])
  out = pathlib.Path(args.out or script.parent / 'results')
  print(f'{title}\n{describe()}\n')
  rows = []
  for case in chosen:
    row = measure(case, args.rounds)
    for name, result in row['contenders'].items():
      result['peak_mb'] = _peak(script, case.name, name)
    rows.append(row)
    print(_line(row), flush=True)
  out.mkdir(parents=True, exist_ok=True)
  path = out / f'{script.stem}.json'
  document = {'title': title, 'machine': machine(), 'rows': rows}
  path.write_text(json.dumps(document, indent=1) + '\n')
  print(f'\nkept in {path}')


def measure(case, rounds):
  """Sets up every contender, checks nothing, times them in turn."""
  works, failed = {}, {}
  for name, setup in case.contenders.items():
    try:
      work = setup()
      work(), work()  # compile, warm caches
      works[name] = work
    except ImportError as e:
      failed[name] = str(e)
  seconds = {name: [] for name in works}
  cpu = {name: [] for name in works}
  for _ in range(rounds):
    for name, work in works.items():
      before, used = time.perf_counter(), time.process_time()
      work()
      seconds[name].append(time.perf_counter() - before)
      cpu[name].append(time.process_time() - used)
  contenders = {
    name: {
      'median_s': statistics.median(times),
      'fastest_s': min(times),
      'slowest_s': max(times),
      'cpu_s': statistics.median(cpu[name]),
    }
    for name, times in seconds.items()
  }
  ours = contenders[OURS]
  for name, result in contenders.items():
    if name != OURS:
      pairs = zip(seconds[OURS], seconds[name], strict=True)
      ratios = sorted(a / b for a, b in pairs)
      result['ratio'] = statistics.median(ratios)
      result['ratio_range'] = [ratios[0], ratios[-1]]
      result['cpu_ratio'] = ours['cpu_s'] / max(result['cpu_s'], 1e-9)
  return {
    'case': case.name,
    'aim': case.aim,
    'contenders': contenders,
    'left_out': failed,
  }


def _line(row):
  text = []
  for name, r in row['contenders'].items():
    spread = f'{r["fastest_s"] * 1e3:.4g}–{r["slowest_s"] * 1e3:.4g}'
    line = (
      f'{row["case"]:<24} {name:<18} {r["median_s"] * 1e3:9.4g} ms '
      f'({spread}), cpu {r["cpu_s"] * 1e3:.4g} ms, peak {r["peak_mb"]:.0f} MB'
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


def _alone(setup):
  work = setup()
  for _ in range(3):
    work()
  # Not ru_maxrss: a child starts with the peak of the parent it was forked of.
  status = pathlib.Path('/proc/self/status')
  if status.exists():
    (peak,) = re.findall(r'VmHWM:\s+(\d+) kB', status.read_text())
    print(int(peak) / 1024)
  else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


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
