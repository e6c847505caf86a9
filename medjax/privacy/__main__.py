"""De-identifies DICOM files and checks it: `python -m medjax.privacy …`.

`deidentify IN --out=OUT --key=FILE` makes every file anew by the Basic Profile
of DICOM PS3.15 Annex E and the options that are named. What it cannot vouch for
is quarantined: not written, and counted with the reason. `check OUT
--against=IN` looks in OUT for everything that identifies in IN.
"""

import collections
import pathlib

from medjax import cli
from medjax.privacy import check, deidentify, key, record, tables

_OPTIONS = [o for o in tables.OPTIONS if o != 'clean-faces']


def _deidentify(args):
  source, out = pathlib.Path(args.source), pathlib.Path(args.out)
  options = deidentify.checked(args.options.split(','))
  deidentify.check_places(source, out)
  secret = key.read(args.key, out, source) if args.key else key.fresh()
  plan = deidentify.Plan(
    secret.secret, options, args.trust_pixels, args.faces, args.ocr
  )
  done = deidentify.deidentify(source, out, plan, workers=args.workers)
  for line in done.passed:
    print(line)
  made = record.make(done, plan, secret, kept=bool(args.key), source=source)
  print(f'{done.written} files of {done.patients} patients → {out}')
  if not args.key:
    print(
      'no --key: another run will give other pseudonyms, unrelated to these'
    )
  if done.doubtful:
    print(
      f'{done.doubtful} patient ids come with several dates of birth: two '
      'people may have one pseudonym'
    )
  for why, n in collections.Counter(w for _, w in done.refused).most_common():
    print(f'quarantined: {n} {why}')
  print(f'wrote {record.write(out, made)}')
  if args.key and done.refused:
    path = pathlib.Path(f'{args.key}.quarantine.csv')
    record.write_quarantine(path, done, source)
    print(f'wrote {path}: which files, for those who may know')
  if not done.written:
    raise ValueError(f'{source}: no file could be de-identified')


def _check(args):
  secret = key.read(args.key, args.out, args.against) if args.key else None
  found = check.check(args.out, args.against, key=secret)
  for line in check.lines(found):
    print(line)
  if args.report:
    print(f'wrote {check.write_report(found, args.report)}')
  if found.hits:
    raise ValueError(
      f'{args.out}: {len(found.hits)} places still identify; quarantine these '
      'files'
    )


def _parser():
  parser = cli.parser(
    __doc__,
    'privacy deidentify scans --out=shared --key=../secret.key '
    '--options=clean-descriptors,clean-pixels,retain-modified-dates',
    'privacy check shared --against=scans --report=check.html',
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
  make = verbs.add_parser(
    'deidentify', help='make files anew without a patient'
  )
  make.add_argument('source', metavar='IN', help='DICOM file or folder')
  make.add_argument('--out', required=True, help='folder for the results')
  make.add_argument(
    '--key',
    help='file of the secret, made where there is none; the same key gives the '
    'same pseudonyms [a random one that is not kept]',
  )
  make.add_argument(
    '--options',
    default='',
    help=f'of Annex E, by commas: {", ".join(_OPTIONS)} [the Basic Profile]',
  )
  make.add_argument(
    '--trust-pixels',
    action='store_true',
    help='give away pictures that may show text and were not looked through',
  )
  make.add_argument(
    '--faces',
    choices=('quarantine', 'remove', 'accept'),
    default='quarantine',
    help='what becomes of thin series of heads [quarantine]',
  )
  make.add_argument(
    '--ocr', action='store_true', help='look at pictures with Tesseract, too'
  )
  look = verbs.add_parser('check', help='look for what still identifies')
  look.add_argument('out', metavar='OUT', help='folder of de-identified files')
  look.add_argument(
    '--against', required=True, metavar='IN', help='the files they were made of'
  )
  look.add_argument(
    '--key', help='file of the secret: finds short names of a patient, too'
  )
  look.add_argument('--report', help='an HTML page of what was found')
  make.add_argument('--workers', type=int, help='processes [all cores]')
  for verb in (make, look):
    verb.add_argument('--debug', action='store_true', help='show tracebacks')
  return parser


def main():
  """Command line entry point."""
  args = _parser().parse_args()
  with cli.one_line_errors():
    {'deidentify': _deidentify, 'check': _check}[args.verb](args)


if __name__ == '__main__':
  main()
