"""Files without their patients; what training gives away of them.

`deidentify IN --out=OUT --key=FILE` makes every file anew by the Basic Profile
of DICOM PS3.15 Annex E and the options that are named. What it cannot vouch for
is quarantined: not written, and counted with the reason. `check OUT
--against=IN` looks in OUT for everything that identifies in IN.

`spend` says what epsilon a training with differential privacy would have, and
`audit RUN` attacks the mechanism of a run that has one: epsilon is at least
what the attack shows. `attack RUN` attacks runs like this one, with a budget
and without: does a model give away whom it was trained on?
"""

import collections
import pathlib

from medjax import cli
from medjax.dp import accounting
from medjax.privacy import check, deidentify, key, record, tables

_EXAMPLES = (
  'privacy deidentify scans --out=shared --key=../secret.key '
  '--options=clean-descriptors,clean-pixels,retain-modified-dates',
  'privacy check shared --against=scans --report=check.html',
  'privacy spend --n=4708 --batch=256 --sigma=1.1 --steps=2000',
  'privacy audit runs/private',
  'privacy attack runs/private --shadows=64 --cases=1000 --epsilon=8,1',
)
_OPTIONS = [o for o in tables.OPTIONS if o != 'clean-faces']


def _deidentify(args):
  source, out = pathlib.Path(args.source), pathlib.Path(args.out)
  options = deidentify.checked(args.options.split(','))
  deidentify.check_places(source, out)
  secret = key.read(args.key, out, source) if args.key else key.fresh()
  plan = deidentify.Plan(
    secret.secret, options, args.trust_pixels, args.faces, args.ocr
  )
  record.check_folder(out, plan, secret)
  done = deidentify.deidentify(source, out, plan, workers=args.workers)
  for line in done.passed:
    print(line)
  made = record.make(done, plan, secret, kept=bool(args.key), source=source)
  print(f'{done.written} files of {len(done.people)} patients → {out}')
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
  if done.taken_back:
    print(f'removed {done.taken_back} files of an earlier run, now quarantined')
  print(f'wrote {record.write(out, made)}')
  path = pathlib.Path(f'{args.key}.quarantine.csv')
  if args.key and (done.refused or path.exists()):
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


def _spend(args):
  if not 0 < args.batch <= args.n:
    raise ValueError(f'--batch={args.batch}: it is 1 to --n={args.n} patients')
  if not (args.sigma > 0 and args.steps > 0 and 0 < args.delta < 1 / args.n):
    raise ValueError(
      f'--sigma and --steps must be above 0, and --delta below 1/{args.n}'
    )
  spent = accounting.both(
    args.sigma, args.batch / args.n, args.steps, args.delta
  )
  print(
    f'epsilon {spent["pld"]:.3f} by PLD, {spent["rdp"]:.3f} by RDP, at delta '
    f'{args.delta:g}: Poisson draws of {args.batch} of {args.n} patients, '
    f'noise {args.sigma:g}, {args.steps} steps'
  )


def _audit(args):
  from medjax.privacy import audit  # files need no jax

  found = audit.audit(args.run, canaries=args.canaries, seed=args.seed)
  print(
    f'epsilon {found.epsilon:g}: recomputed {found.recomputed:.3f}; with '
    f'{found.canaries} canaries the best attack shows at least '
    f'{found.lower:.3f}, at {found.level:.0%} confidence; noise '
    f'{found.noise:.4f}, measured {found.measured:.4f}'
  )
  print(f'wrote {args.run}/{audit.FILE}')
  if not found.holds:
    raise ValueError(
      f'{args.run}: epsilon is more than it says: do not give the run away'
    )


def _attack(args):
  from medjax.privacy import membership
  from medjax.reports import attacked
  from medjax.reports.report import write_report
  from medjax.run.programs import keep_programs

  keep_programs()
  found = membership.attack(
    args.run,
    runs=args.shadows,
    cases=args.cases,
    epsilons=_numbers(args.epsilon),
    seed=args.seed,
    trust=args.trust,
  )
  header, rows = attacked.table(found)
  print(cli.aligned(header, rows, 'l' + 'r' * (len(header) - 1)))
  for line in attacked.words(found):
    print(line)
  for name in (membership.FILE, membership.CASES):
    print(f'wrote {args.run}/{name}')
  print(f'page: {write_report(args.run)}')


def _numbers(text):
  try:
    found = [float(part) for part in text.split(',') if part]
  except ValueError:
    raise ValueError(f'--epsilon={text}: write numbers, 8,3,1') from None
  if not all(0 < epsilon < 1e3 for epsilon in found):
    raise ValueError(f'--epsilon={text}: a budget is above 0')
  return found


def _verb(verbs, name, about):
  like = cli.parser(about, *(e for e in _EXAMPLES if name in e))
  return verbs.add_parser(
    name,
    help=about,
    description=like.description,
    epilog=like.epilog,
    formatter_class=like.formatter_class,
  )


def _parser():
  parser = cli.parser(__doc__, *_EXAMPLES)
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
  make = _verb(verbs, 'deidentify', 'makes files anew, without a patient')
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
  look = _verb(verbs, 'check', 'looks for what still identifies')
  look.add_argument('out', metavar='OUT', help='folder of de-identified files')
  look.add_argument(
    '--against', required=True, metavar='IN', help='the files they were made of'
  )
  look.add_argument(
    '--key', help='file of the secret: finds short names of a patient, too'
  )
  look.add_argument('--report', help='an HTML page of what was found')
  make.add_argument('--workers', type=int, help='processes [all cores]')
  for verb in (make, look, *_of_training(verbs)):
    verb.add_argument('--debug', action='store_true', help='show tracebacks')
  return parser


def _of_training(verbs):
  cost = _verb(verbs, 'spend', 'says what epsilon a training would have')
  cost.add_argument('--n', type=int, required=True, help='patients of training')
  cost.add_argument(
    '--batch', type=int, required=True, help='of them in a step, on average'
  )
  cost.add_argument(
    '--sigma', type=float, required=True, help='noise, over the clipping norm'
  )
  cost.add_argument('--steps', type=int, required=True, help='of the training')
  cost.add_argument('--delta', type=float, default=1e-5, help='[1e-5]')
  attack = _verb(verbs, 'audit', 'attacks the mechanism of a run with canaries')
  attack.add_argument('run', metavar='RUN', help='workdir of a private run')
  attack.add_argument(
    '--canaries',
    type=int,
    default=20_000,
    help='how many; more see a larger epsilon [20,000]',
  )
  attack.add_argument('--seed', type=int, default=0, help='of the attack [0]')
  like = _verb(verbs, 'attack', 'says whom a model gives away, by shadow runs')
  like.add_argument('run', metavar='RUN', help='a workdir, with its data')
  like.add_argument(
    '--shadows', type=int, default=64, help='runs like it to train [64]'
  )
  like.add_argument(
    '--cases', type=int, default=0, help='patients of training, drawn [all]'
  )
  like.add_argument(
    '--epsilon',
    default='',
    metavar='8,1',
    help='budgets, beside none and its own [none more]',
  )
  like.add_argument('--seed', type=int, default=0, help='of all chance [0]')
  like.add_argument(
    '--trust', action='store_true', help='let the run name code of its own'
  )
  return cost, attack, like


def main():
  """Command line entry point."""
  args = _parser().parse_args()
  with cli.one_line_errors():
    {
      'deidentify': _deidentify,
      'check': _check,
      'spend': _spend,
      'audit': _audit,
      'attack': _attack,
    }[args.verb](args)


if __name__ == '__main__':
  main()
