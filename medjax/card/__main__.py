"""Writes the model card of a run: `python -m medjax.card WORKDIR --out=DIR`.

Every number is read from the run and stands with its source; what a run cannot
know comes from a file of facts (--facts=facts.toml), and without it is "not
stated". `medjax.card check WORKDIR CARD.json` says which statements of a card
are no longer those of the run, and then ends with exit code 1.
"""

import sys

from medjax import cli
from medjax.card import check, facts, write


def main():
  """Command line entry point."""
  argv = sys.argv[1:]
  if argv[:1] == ['check']:
    _check(argv[1:])
    return
  parser = cli.parser(
    __doc__,
    'card runs/unet --facts=facts.toml --out=card',
    'card check runs/unet card/card.json',
  )
  parser.add_argument('workdir', metavar='WORKDIR', help='of an evaluated run')
  parser.add_argument('--facts', metavar='FILE', help='what a run cannot know')
  parser.add_argument('--out', required=True, help='folder for the card')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    for path in write.write(args.workdir, args.out, facts.read(args.facts)):
      print(path)


def _check(argv):
  parser = cli.parser(
    'Checks the statements of a card.', 'card check runs/unet card/card.json'
  )
  parser.add_argument('workdir', metavar='WORKDIR', help='of the run')
  parser.add_argument('card', metavar='CARD.json', help='the card')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    lines = check.check(args.workdir, args.card)
    for line in lines:
      print(line)
    if lines:
      raise ValueError(
        f'{len(lines)} statements of {args.card} are not those of '
        f'{args.workdir}: write the card again'
      )
    print(f'{args.card}: every statement is still that of {args.workdir}')


if __name__ == '__main__':
  main()
