"""Searches hyper-parameters: `python -m medjax.search --config=… --space=FILE`.

FILE has a function space(trial) that gives {field of the config: value}, by
Optuna's trial.suggest_…. Each trial is an ordinary run, WORKDIR/trials/0007,
and counts by its best validation score; the test split is never opened. The
same command elsewhere joins in; after a kill it goes on. With --rungs=3 trials
are compared at 1/9 and 1/3 of the steps and only the best third goes on (ASHA).
`search report WORKDIR` writes search.html; `search best WORKDIR` writes the
winner's config, trains it in new seeds, and reads the test split once. With
--nested the search runs inside each fold of a config with folds, WORKDIR/fold0,
…, and `best` tests the winner of each in its fold: the score of the procedure.
With --population the trials are compared --rungs times, at equal distances, and
those behind go on from the weights of those ahead with other settings (PBT).
"""

import sys

from medjax import cli
from medjax.main import keep_programs


def main():
  """Command line entry point."""
  verbs = {'report': _report, 'best': _best}
  argv = sys.argv[1:]
  if argv and argv[0] in verbs:
    verbs[argv[0]](argv[1:])
  else:
    _search(argv)


def _search(argv):
  parser = cli.parser(
    __doc__,
    'search --config=configs/unet.py:hippocampus '
    '--space=configs/search/unet.py --trials=40 --workdir=searches/one',
    'search report searches/one',
    'search best searches/one --out=mine.py --seeds=3',
  )
  add = parser.add_argument
  add('--config', required=True, help='as in training')
  add('--space', required=True, metavar='FILE', help='what is searched')
  add('--workdir', required=True, help='of the search')
  add('--trials', type=int, default=40, help='in all [40]')
  add('--rungs', type=int, default=1, help='comparisons on the way [1]')
  add('--eta', type=int, default=3, help='one in so many goes on [3]')
  add('--sampler', default='tpe', help='tpe or random [tpe]')
  add('--seed', type=int, default=0, help='of the sampler [0]')
  add('--nested', action='store_true', help='a search inside each fold')
  add('--population', action='store_true', help='weights are taken over')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    from medjax.search import nested, report, sampler, space, winner, worker

    keep_programs()
    found = space.load(args.space)
    draw = lambda seed: sampler.drawn(found, seed)
    # A typo shows now, and not as the reason of each trial that fails; and all
    # that is refused is so before anything is written down.
    space.check(args.config, draw)
    if args.population:
      _check_population(args, draw)
    _levels(args, space.configured(args.config, {}).train.steps)
    folds = range(nested.folds(args.config)) if args.nested else (None,)
    winner.check_unread(args.workdir)
    names = ('config', 'space', 'rungs', 'eta', 'sampler', 'seed', 'nested')
    settings = {name: getattr(args, name) for name in names}
    # Who is behind depends on how many there are.
    settings['population'] = args.trials if args.population else 0
    settings['digest'] = space.digest(args.config, args.space)
    worker.settled(args.workdir, settings)
    for fold in folds:
      _inside(args, found, fold, seed=args.seed * len(folds) + (fold or 0))
    print(f'page: {report.write(args.workdir)}')
    for place in nested.places(args.workdir) or [args.workdir]:
      winner.done(place)


def _levels(args, steps):
  """The steps of a run at which its trial is compared with others."""
  from medjax.search import population, rungs

  rungs.check(args.eta)
  if args.population:
    return population.levels(steps, count=args.rungs)
  return rungs.rungs(steps, count=args.rungs, eta=args.eta)


def _check_population(args, draw):
  from medjax.search import population

  if args.nested:
    raise ValueError('--nested and --population: take one of them')
  if args.trials < 2:
    raise ValueError(
      f'--trials={args.trials}: with --population the size of it, 2 or more'
    )
  population.check(args.config, draw)


def _inside(args, found, fold, seed):
  """Searches, in a fold if one is given."""
  from medjax.search import nested, objective, worker

  workdir, said = args.workdir, ''
  if fold is not None:
    workdir, said = nested.place(workdir, fold), f'fold {fold}: '
  work = objective.Objective(args.config, fold)
  worker.search(
    workdir, work, found, trials=args.trials, eta=args.eta, kind=args.sampler,
    levels=_levels(args, work.steps), seed=seed, population=args.population,
    show=lambda line: print(f'{said}{line}', flush=True),
  )  # fmt: skip


def _report(argv):
  parser = cli.parser(
    'Writes the page of a search.', 'search report searches/one'
  )
  parser.add_argument('workdir', metavar='WORKDIR', help='of the search')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    from medjax.search import report

    print(f'page: {report.write(args.workdir)}')


def _best(argv):
  parser = cli.parser(
    "Writes the winner's config, trains it in new seeds, reads test once.",
    'search best searches/one --out=mine.py --seeds=3',
  )
  parser.add_argument('workdir', metavar='WORKDIR', help='of the search')
  parser.add_argument('--out', metavar='FILE.py', help="the winner's config")
  parser.add_argument(
    '--seeds', type=int, default=3, help='trainings of it; 0 for none [3]'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    from medjax.search import nested, report, space, winner, worker

    keep_programs()
    settings = worker.settings(args.workdir)
    config = settings['config']
    settings['digest'] = space.digest(config, settings['space'])
    worker.settled(args.workdir, settings)
    if settings.get('nested'):
      if args.out:
        raise ValueError(
          '--out: a nested search has a winner for each fold, and none of all; '
          'search without --nested for a config'
        )
      if args.seeds:
        nested.judge(args.workdir, config, seeds=args.seeds)
      print(f'page: {report.write(args.workdir)}')
      return
    if args.out and settings.get('population'):
      raise ValueError(
        '--out: what a population finds is a schedule, which no config says; '
        '`search report` shows it, and --seeds trains by it'
      )
    if args.out:
      print(f'config: {winner.write_config(args.workdir, args.out, config)}')
    if args.seeds:
      winner.judge(args.workdir, config, seeds=args.seeds)
    print(f'page: {report.write(args.workdir)}')


if __name__ == '__main__':
  main()
