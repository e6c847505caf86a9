"""Chooses what to label next, and measures what labels are worth.

`labels select` ranks unlabelled images by what a trained run sees of them, into
a CSV that says why. `labels curve` trains a config with few to many labels, by
several methods, beside supervised training and a random forest, and draws what
each makes of them; it goes on where it was, and skips what is done.
"""

import argparse
import ast
import contextlib

from medjax import cli


def main(argv=None):
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'labels select --workdir=runs/resnet unlabelled --n=20 --strategy=badge',
    'labels curve --config=configs/semi.py:pneumoniamnist --labels=10,47,235 '
    '--seeds=5 --methods=mean_teacher,fixmatch --workdir=curves/pneumonia',
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
  _select_arguments(_verb(verbs, 'select', 'which images to label next'))
  _curve_arguments(_verb(verbs, 'curve', 'scores by the number of labels'))
  args, rest = parser.parse_known_args(argv)
  with cli.one_line_errors():
    if args.verb == 'select':
      _select(args, rest)
    else:
      _curve(args, rest)


def _verb(verbs, name, what):
  return verbs.add_parser(
    name, help=what, description=f'{what[0].upper()}{what[1:]}.',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )  # fmt: skip


def _select_arguments(verb):
  add = verb.add_argument
  add('inputs', nargs='+', help='image files or folders, unlabelled')
  add('--workdir', required=True, help='a trained workdir')
  add('--n', type=int, default=20, help='how many [20]')
  add(
    '--strategy', default='entropy',
    help='entropy, margin, bald, coreset, badge, typiclust, random [entropy]',
  )  # fmt: skip
  add('--out', help='the CSV [WORKDIR/select/STRATEGY.csv]')
  add('--seed', type=int, default=0, help='of what is drawn [0]')
  add('--checkpoint', default='best', help='best, last or a step [best]')
  add('--trust', action='store_true', help='let the run name code of its own')
  add('--debug', action='store_true', help='show tracebacks')


def _curve_arguments(verb):
  add = verb.add_argument
  add('--config', required=True, help='FILE.py:DATA, without a method')
  add('--labels', required=True, help='numbers of labelled patients: 10,47')
  add('--workdir', required=True, help='of the curve')
  add('--seeds', type=int, default=5, help='choices of labels, trainings [5]')
  add(
    '--methods', default='',
    help='further words of the config (mean_teacher,…), pretrained, or active '
    'strategies (entropy,…), which are held against random',
  )  # fmt: skip
  add('--pretrained', default='', help='workdir that `pretrained` begins with')
  add(
    '--table', default='',
    help='CSV of features by id, of `medjax radiomics` say: a second forest',
  )  # fmt: skip
  add('--config.FIELD', metavar='VALUE', dest='_', help='a field of the config')
  add('--debug', action='store_true', help='show tracebacks')


def _select(args, rest):
  from medjax.labels import select

  if rest:
    raise ValueError(f'unknown argument {rest[0]!r}')
  path = select.select(
    args.workdir, args.inputs,
    args.out or f'{args.workdir}/select/{args.strategy}.csv',
    n=args.n, strategy=args.strategy, seed=args.seed, trust=args.trust,
    checkpoint=args.checkpoint,
  )  # fmt: skip
  print(path)


def _curve(args, rest):
  from medjax.labels import curve, page, runs
  from medjax.run.programs import keep_programs

  keep_programs()
  plan = runs.Plan(
    args.config, tuple(_overridden(rest)), args.pretrained, args.table
  )
  methods = [m for m in args.methods.split(',') if m]
  result = curve.curve(
    plan, args.workdir, labels=_numbers(args.labels), seeds=args.seeds,
    methods=methods, show=lambda line: print(line, flush=True),
  )  # fmt: skip
  for line in page.lines(result):
    print(line)
  print(f'page: {page.write(args.workdir, result)}')


def _numbers(text):
  try:
    return [int(n) for n in text.split(',')]
  except ValueError:
    raise ValueError(f'--labels={text}: whole numbers, as 10,47,235') from None


def _overridden(arguments):
  """Yields (field, value) of --config.FIELD=VALUE."""
  for argument in arguments:
    field, equals, value = argument.partition('=')
    if not field.startswith('--config.') or not equals:
      raise ValueError(f'unknown argument {argument!r}')
    with contextlib.suppress(SyntaxError, ValueError):  # else it is a text
      value = ast.literal_eval(value)
    yield field.removeprefix('--config.'), value


if __name__ == '__main__':
  main()
