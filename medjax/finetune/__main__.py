"""Fits a model to one patient: python -m medjax.finetune personalise …"""

import argparse

from medjax import cli, personal

_EXAMPLE = (
  'finetune personalise --workdir=runs/unet --history=patients/p1 '
  '--out=runs/unet_p1'
)


def _personalise(args):
  personal.check_out(args.out)  # before minutes of adapting
  fit = personal.Personaliser(
    args.workdir, way=args.way, steps=args.steps, trust=args.trust
  )
  outcome = fit(fit.read(args.history), seed=args.seed)
  out = personal.write(fit, outcome, args.out)
  scores = dict(outcome.held)
  change = f'Dice of the held slices {scores[0]:.3f}'
  if outcome.kept:
    print(f'{change} → {scores[outcome.steps]:.3f}: adapted')
    left = [n for n in personal.OF_THE_WEIGHTS if (fit.source / n).exists()]
    if left:
      print(f'left out, as measured of the model before: {", ".join(left)}')
  else:
    print(f'{change}, not better after adapting: the model stays as it was')
  print(f'wrote {out}')


def main(argv=None):
  """Command line entry point."""
  parser = cli.parser(__doc__, _EXAMPLE)
  verbs = parser.add_subparsers(
    dest='verb', required=True, metavar='personalise'
  )
  one = verbs.add_parser(
    'personalise',
    help='adapt a segmentation to a patient, by earlier scans with masks',
    description='Adapts a segmentation to a patient by earlier scans with '
    'masks, and keeps that only where slices that were held back improve.',
    epilog=f'example:\n  medjax {_EXAMPLE}',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  one.add_argument('--workdir', required=True, help='a trained workdir')
  one.add_argument(
    '--history', required=True, help="folder of the patient's scans and masks"
  )
  one.add_argument('--out', required=True, help='workdir of the result')
  one.add_argument(
    '--way',
    choices=personal.WAYS,
    default='bitfit',
    help='[bitfit]',
  )
  one.add_argument('--steps', type=int, default=40, help='of adapting [40]')
  one.add_argument('--seed', type=int, default=0, help='of its patches [0]')
  one.add_argument(
    '--trust', action='store_true', help='let the run name code of its own'
  )
  one.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    _personalise(args)


if __name__ == '__main__':
  main()
