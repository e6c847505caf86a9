"""Accuracy against latency on a CPU: several runs of one set, as they serve.

    for net in mobilenet_v3 efficientnet_b0 resnet18 resnet50; do
      python -m medjax.main --config=configs/benchmarks/laptop.py:$net \
        --workdir=runs/laptop/$net
    done
    python benchmarks/laptop.py runs/laptop/*

Each is exported to ONNX and run by ONNX Runtime, one image at a time, on one
thread and on two, in a process of its own. Prints a table of Markdown.
"""

import argparse
import pathlib
import tempfile

import harness

from medjax.compress import exported, price
from medjax.export import artefact, weights
from medjax.prediction import trained


def measured(workdir):
  """The row of a run, and the number of its parameters in millions."""
  run = trained.load(workdir)
  made = run.experiment
  with tempfile.TemporaryDirectory() as home:
    artefact.write(run, pathlib.Path(home), onnx=True, programs=False)
    rows = price.rows_of(home, made, 'test')
    (inputs,) = exported.fed(home, made.cases('test'), 1)
    row = price.row(pathlib.Path(workdir).name, home, made.task, rows, inputs)
  arrays = weights.flat(run.variables[:1])
  return row, sum(x.size for x in arrays.values()) / 1e6


def line(row, millions):
  """A line of the table."""
  low, high = row['interval']
  times = ' | '.join(
    f'{row["speed"][t]["p50"]:.2f} / {row["speed"][t]["p95"]:.2f}'
    for t in price.THREADS
  )
  return (
    f'| {row["version"]} | {millions:.2f} | **{row["value"]:.4f}** '
    f'({low:.3f} to {high:.3f}) | {row["ece"]:.3f} | {row["mb"]:.1f} | {times} '
    f'| {row["speed"][1]["peak_mb"]:.0f} |'
  )


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('workdirs', nargs='+', help='trained workdirs')
  args = parser.parse_args()
  print(f'{harness.describe()}\n')
  print(
    '| network | million parameters | score (95 % interval) | ECE | MB | ms '
    'p50 / p95, 1 thread | 2 threads | peak MB |\n' + '| --- ' * 8 + '|'
  )
  for workdir in args.workdirs:
    print(line(*measured(workdir)), flush=True)


if __name__ == '__main__':
  main()
