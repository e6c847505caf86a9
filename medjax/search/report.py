"""The page of a search: what was tried, what mattered, what it cost."""

import datetime
import pathlib

from medjax import files
from medjax.reports import figures, page
from medjax.reports.text import counted, duration, interval, is_defined, number
from medjax.search import ledger, nested, population, sampler, winner


def write(workdir):
  """Writes search.html and figures/ into a search; returns the page's path.

  Of a nested search one for each fold, too. Raises ValueError for a folder
  without trials.
  """
  workdir = pathlib.Path(workdir)
  if inside := nested.places(workdir):
    return _write_nested(workdir, inside)
  trials = ledger.read(workdir)
  if not trials:
    raise ValueError(f'{workdir} holds no trials: give the workdir of a search')
  scored = [t for t in trials if t.values]
  succeeded = any(t.parent is not None for t in trials)
  importances = {}  # of settings that changed on the way there are none
  if not succeeded:
    importances = sampler.Study(workdir).importances(trials)
  result = files.read_json(workdir / winner.RESULT, mend='run `best` again')
  pictures = page.Pictures(workdir / 'figures', old='search_*.png')
  with figures.style():
    shown = {
      'history': pictures(
        'search_history',
        figures.search_history([(t.number, t.value) for t in scored]),
        'Score of each trial, and the best so far',
      ),
      'curves': pictures(
        'search_curves',
        figures.search_curves([_own(t) for t in trials]),
        'Validation score of each trial by step',
        'A line is a trial, darker with a better score.',
      ),
      'parallel': pictures(
        'search_parallel',
        figures.parallel([(t.params, t.value) for t in scored]),
        'Parameters and score of each trial',
        'A line is a trial, darker with a better score.',
      ),
      'importance': pictures(
        'search_importance',
        figures.importances(importances),
        'How much of the scores each parameter explains',
      ),
    }
  text = page.render(
    'search.html.jinja',
    title=f'Search: {workdir.name}',
    kind=f'{counted(len(trials), "trial")}: {_counts(trials)}',
    written=_now(),
    table_of=_table(trials),
    failed=[(t.number, t.reason) for t in trials if t.state == 'failed'],
    spent=duration(sum(t.seconds for t in trials)),
    optimism=_optimism(result),
    schedule=_schedule(trials) if succeeded else None,
    **shown,
  )
  path = workdir / 'search.html'
  files.write_text(path, text)
  return path


def _now():
  """When the page is written, as it says."""
  return datetime.datetime.now().strftime('%Y-%m-%d %H:%M')


def _own(trial):
  """The curve of a trial, from where it took over on."""
  return {k: v for k, v in trial.curve.items() if k >= trial.since}


def _schedule(trials):
  """Header and rows of what the best trial found, or the best so far."""
  scored = [t for t in trials if t.values]
  trial = max(scored, key=lambda t: (max(t.values), t.value, -t.number))
  try:
    found = population.schedule(trials, trial)
  except ValueError as e:  # the page shows what there is
    return ['Schedule'], [[str(e)]]
  names = list(dict.fromkeys(k for _, settings in found for k in settings))
  begun = [0, *(until for until, _ in found)]
  rows = [
    [f'{since} to {until}', *(_cell(settings.get(k, '–')) for k in names)]
    for since, (until, settings) in zip(begun, found, strict=False)
  ]
  return ['Steps', *names], rows


def _write_nested(workdir, inside):
  """The page of a nested search, and of the search in each of its folds."""
  rows, spent = [], 0.0
  for path in inside:
    page_of, trials = write(path), ledger.read(path)
    spent += sum(t.seconds for t in trials)
    result = files.read_json(path / winner.RESULT, mend='run `best` again')
    found = result or {}
    rows.append([
      path.name, f'{path.name}/{page_of.name}', _counts(trials),
      str(found.get('trial', '–')), number(found.get('searched')),
      ', '.join(map(number, found.get('test', ()))),
      number(found.get('optimism')),
    ])  # fmt: skip
  result = files.read_json(workdir / nested.RESULT, mend='run `best` again')
  said = ''
  if result:
    said = (
      f'On test, mean over folds of {result["monitor"]}: '
      f'{_bounded(result["test"], result["interval"])}. Optimism of the '
      'searches: '
      f'{_bounded(result["optimism"], result["optimism_interval"])}.'
      + _undefined([v for each in result['folds'] for v in each['test']])
    )
  text = page.render(
    'nested.html.jinja',
    title=f'Search: {workdir.name}',
    kind=f'nested, {counted(len(inside), "fold")}',
    written=_now(),
    spent=duration(spent),
    said=said,
    rows=rows,
  )
  path = workdir / 'search.html'
  files.write_text(path, text)
  return path


def _bounded(value, bounds):
  return number(value) + (f' ({interval(bounds)})' if bounds else '')


def _undefined(tests):
  count = sum(not is_defined(value) for value in tests)
  of = counted(len(tests), 'run')
  return f' Not defined on test in {count} of {of}.' if count else ''


def _counts(trials):
  states = [t.state for t in trials]
  return ', '.join(f'{states.count(s)} {s}' for s in dict.fromkeys(states))


def _table(trials):
  """Header and rows of the trials, the best first."""
  names = list(dict.fromkeys(k for t in trials for k in t.overrides))
  after = any(t.parent is not None for t in trials)
  order = sorted(
    trials,
    key=lambda t: (
      -max(t.values, default=0),
      -(t.value if t.values else 0),
      t.number,
    ),
  )
  rows = [
    [
      str(t.number), t.state, number(max(t.values, default=None)),
      number(t.value), *([_after(t)] if after else []),
      *(_cell(t.overrides.get(k, '–')) for k in names),
    ]
    for t in order
  ]  # fmt: skip
  words = ['Trial', 'State', 'Step', 'Score', *(['After'] if after else [])]
  return [*words, *names], rows


def _after(trial):
  """Whose state a trial took over, and when."""
  return '' if trial.parent is None else f'{trial.parent} at {trial.since}'


def _cell(value):
  return f'{value:.4g}' if isinstance(value, float) else str(value)


def _optimism(result):
  if not result:
    return ''
  bounds = interval(result['interval'])
  return (
    f'The winner, trial {result["trial"]}, scored {number(result["searched"])} '
    f'on validation while it was searched for; on test, in '
    f'{counted(len(result["test"]), "seed")}, '
    f'{", ".join(map(number, result["test"]))}. '
    f'Optimism: {number(result["optimism"])}'
    + (f' ({bounds}).' if bounds else '.')
    + _undefined(result['test'])
  )
