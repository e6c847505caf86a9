"""Compares two runs on the same cases: `python -m medjax.compare A B`.

Reads per_case.csv of both (medjax.run.per_case says what else may be given),
and what metrics.json says of the names in it.
"""

import argparse

from medjax import cli
from medjax.reports import comparison
from medjax.reports.workdir import read_measures
from medjax.run import per_case


def compare_runs(run_a, run_b, *, split='test', common=False, columns=None):
  """The `Comparison` of two workdirs, CSV files, or folds joined by commas.

  common: only the cases that both have. columns: what another's table calls
  otherwise, {'id': 'case'}.
  """
  names = run_a, run_b
  a, b = (per_case.read(run, split=split, columns=columns) for run in names)
  ids = per_case.match(a, b, common=common, names=names)
  measures = read_measures(run_a).joined(read_measures(run_b))
  return comparison.compare(a, b, ids, measures=measures, names=names)


def _mapping(argument):
  """'id=case,dice/left=dice_l' → {'id': 'case', 'dice/left': 'dice_l'}."""
  pairs = [pair.split('=') for pair in argument.split(',') if pair]
  if any(len(pair) != 2 or not all(pair) for pair in pairs):
    raise ValueError(f'--columns={argument} is not NAME=THEIRS,NAME=THEIRS,…')
  return dict(pairs)


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  for run in ('run_a', 'run_b'):
    parser.add_argument(
      run, help='workdir or CSV file; folds, whose cases are pooled, by commas'
    )
  parser.add_argument('--split', default='test', help='[test]')
  parser.add_argument('--out', help='folder for comparison.csv and .png')
  parser.add_argument(
    '--common', action='store_true', help='compare the cases that both have'
  )
  parser.add_argument(
    '--columns',
    default='',
    help="names of another's table: id=case,dice/left=dice_l,…",
  )
  parser.add_argument(
    '--cases', type=int, default=10, help='of those that moved most [10]'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    names = args.run_a, args.run_b
    found = compare_runs(
      *names,
      split=args.split,
      common=args.common,
      columns=_mapping(args.columns),
    )
    print(comparison.text(found, names=names, cases=args.cases))
    if args.out:
      paths = comparison.write(found, args.out, names=names)
      print('\nwrote', ' and '.join(map(str, paths)))


if __name__ == '__main__':
  main()
