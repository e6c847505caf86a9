"""The benchmarks, one after the other, and their table.

python benchmarks/suite.py [SCRIPTS…]: runs those scripts (all), in a choice of
  cases and few rounds that two cores do in three quarters of an hour. Alone,
  each script takes more.
python benchmarks/suite.py --table: writes the newest results into the table of
  benchmarks/README.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import harness

HERE = pathlib.Path(__file__).resolve().parent

# What the suite runs of each script.
SCRIPTS = {
  'train_step': (
    'ResNet-18, 28: step', 'U-Net 2-D, 256: step', 'U-Net 3-D, narrow: step',
    'U-Net 3-D, Task04: step', 'ResNet-18, 224: step',
    'DenseNet-121, 224: step', '--rounds=3',
  ),
  'inference': ('U-Net 4-16, 128³', 'U-Net 4-16, 512x512x200', '--rounds=2'),
  'epoch': ('--rounds=2',),
  'augmentation': (
    'affine, 3-D 40x56x40', 'affine + elastic, 3-D 40x56x40',
    'nnU-Net list, 3-D 40x56x40', 'nnU-Net list, 2-D 256²', '--rounds=3',
  ),
  'metrics': ('--rounds=5',),
  'loader': (
    'PNG 28 px, first epoch', 'hippocampus, later epochs', '--rounds=2',
  ),
  'startup': ('--rounds=2',),
  'checkpointing': ('--rounds=3',),
  'memory': (),
}  # fmt: skip


def run(names):
  """Runs the scripts; returns how many failed."""
  begin, failed = time.monotonic(), []
  for name in names:
    print(f'\n== {name}.py', flush=True)
    before = time.monotonic()
    command = [sys.executable, str(HERE / f'{name}.py'), *SCRIPTS[name]]
    if subprocess.run(command).returncode:
      failed.append(name)
    print(f'{name}.py took {time.monotonic() - before:.0f} s', flush=True)
  minutes = (time.monotonic() - begin) / 60
  print(f'\n{len(names)} scripts in {minutes:.1f} min', end='')
  print(f'; failed: {", ".join(failed)}' if failed else ', all done')
  return len(failed)


def results():
  """{script: document} of what lies in results/, in the order of SCRIPTS."""
  paths = {name: HERE / 'results' / f'{name}.json' for name in SCRIPTS}
  return {
    name: json.loads(path.read_text())
    for name, path in paths.items()
    if path.exists()
  }


def line(script, row, peer, r):
  """One row of the table: ours against a peer."""
  ours = row['contenders'][harness.OURS]
  low, high = r['ratio_range']
  aim = 'none'
  if row['aim']:
    verdict = 'met' if r['ratio'] <= row['aim'] else '**missed**'
    aim = f'≤ {row["aim"]:.2g}: {verdict}'
  case = row['case']
  if 'waiting' in ours['facts']:
    case += f' (medjax waits for data {ours["facts"]["waiting"]:.0%})'
  cells = (
    f'`{script}`', case, peer, f'{ours["median_s"]:.3g} s',
    f'{r["median_s"]:.3g} s', f'{r["ratio"]:.2f} ({low:.2f}–{high:.2f})',
    f'{r["cpu_ratio"]:.2f}', f'{ours["peak_mb"] / r["peak_mb"]:.2f}', aim,
  )  # fmt: skip
  return '| ' + ' | '.join(cells) + ' |\n'


def alone(script, row):
  """A row of ours that has no peer."""
  seconds = f'{row["contenders"][harness.OURS]["median_s"]:.3g} s'
  return f'| `{script}` | {row["case"]} | none | {seconds} |' + ' |' * 5 + '\n'


def memory(document):
  """The table of patches by memory."""
  rows = document['rows']
  heads = ''.join(f' {gb} GB |' for gb in rows[0]['sides'])
  text = [f'| | MB at 64³ |{heads}\n|---|---|' + '---|' * len(rows[0]['sides'])]
  for row in rows:
    cells = ''.join(f' {side or "–"} |' for side in row['sides'].values())
    text.append(
      f'| {row["way"]}, {row["what"]} | {row["mb_at_64"]:.0f} |{cells}'
    )
  return f'{document["title"]}: voxels a side.\n\n' + '\n'.join(text) + '\n'


def table(found):
  """Everything that was measured, as Markdown."""
  machine = next(iter(found.values()))['machine']
  said = ', '.join(f'{k} {v}' for k, v in machine.items() if v)
  text = (
    f'{said}.\n\n| script | case | peer | medjax | peer | ratio (range) '
    '| CPU time | peak memory | aim |\n|' + '---|' * 9 + '\n'
  )
  for script, document in found.items():
    for row in document['rows'] if script != 'memory' else ():
      peers = {k: r for k, r in row['contenders'].items() if 'ratio' in r}
      if harness.OURS in row['contenders'] and not peers:
        text += alone(script, row)
      for peer, r in peers.items():
        text += line(script, row, peer, r)
  return text + ('\n' + memory(found['memory']) if 'memory' in found else '')


def write_table():
  """Between the markers of README.md."""
  found = results()
  if not found:
    raise SystemExit('benchmarks/results is empty: run the suite first')
  path = HERE / 'README.md'
  harness.put_table(path, table(found))
  print(f'{len(found)} scripts in the table of {path}')


def main():
  """Runs, or writes the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('names', nargs='*', help='scripts [all]')
  parser.add_argument('--table', action='store_true')
  args = parser.parse_args()
  if unknown := set(args.names) - set(SCRIPTS):
    parser.error(f'no {sorted(unknown)}; there are {", ".join(SCRIPTS)}')
  if args.table:
    write_table()
  else:
    sys.exit(run(args.names or list(SCRIPTS)))


if __name__ == '__main__':
  main()
