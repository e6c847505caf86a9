"""Stresses a trained run with corruptions: python -m medjax.trust stress …"""

import argparse

from medjax import cli
from medjax.trust import adapt, corrupt, stress


def _severities(text):
  try:
    low, _, high = text.partition('..')
    return tuple(range(int(low), int(high or low) + 1))
  except ValueError:
    raise argparse.ArgumentTypeError(
      f'{text!r} is no severity, 3, and no range of them, 1..5'
    ) from None


def main(argv=None):
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'trust stress --workdir=runs/resnet --suite=xray',
    'trust stress --workdir=runs/unet --suite=mri --severity=1..3 --limit=20',
    'trust stress --workdir=runs/resnet --suite=xray --adapt=tent',
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='stress')
  one = verbs.add_parser(
    'stress',
    help='scores of the test split under corruptions',
    description='Scores of the test split under corruptions, by severity.',
    epilog='example:\n  medjax trust stress --workdir=runs/resnet --suite=xray',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  one.add_argument('--workdir', required=True, help='a trained workdir')
  one.add_argument(
    '--suite', required=True, help=f'one of {", ".join(corrupt.SUITES)}'
  )
  one.add_argument(
    '--severity', type=_severities, default=(1, 2, 3, 4, 5), metavar='1..5',
    help='one, or a range [1..5]',
  )  # fmt: skip
  one.add_argument('--out', help='folder [WORKDIR/stress/SUITE]')
  one.add_argument(
    '--adapt',
    choices=adapt.WAYS,
    help='adapt to the corrupted images too, and say whether it helps',
  )
  one.add_argument('--limit', type=int, help='of test cases, drawn [all]')
  one.add_argument('--seed', type=int, default=0, help='of the corruptions [0]')
  one.add_argument(
    '--checkpoint', default='best', help='best, last or a step [best]'
  )
  one.add_argument(
    '--trust', action='store_true', help='let the run name code of its own'
  )
  one.add_argument('--debug', action='store_true', help='show tracebacks')
  args = vars(parser.parse_args(argv))
  for name in ('verb', 'debug'):
    args.pop(name)
  with cli.one_line_errors():
    severities = args.pop('severity')
    path = stress.run(
      args.pop('workdir'), args.pop('suite'), severities=severities, **args
    )
    print(path)


if __name__ == '__main__':
  main()
