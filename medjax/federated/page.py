"""federated.html and the tables on the console: what each site gains."""

import datetime
import json
import pathlib

from medjax import cli, files
from medjax.federated import gain, spending
from medjax.reports import page
from medjax.reports.text import counted, interval, number

_SIZES = ('train', 'n')
_TITLES = {gain.LOCAL: 'By itself', gain.POOLED: 'Pooled'}


def write(workdir):
  """Writes federated.html into a federation; returns its path.

  Raises ValueError for a folder without gain.json.
  """
  workdir = pathlib.Path(workdir)
  found = files.read_json(workdir / gain.FOUND, mend='run `simulate` again')
  if found is None:
    raise ValueError(f'{workdir} holds no {gain.FOUND}: simulate it first')
  plan = found['plan']
  text = page.render(
    'federated.html.jinja',
    title=f'Federation: {workdir.name}',
    kind=f'{", ".join(found["algorithms"])}; {_counted(plan)}',
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    score=found['title'],
    own=tables(found, own=True),
    everywhere=tables(found, own=False),
    traffic=[
      _traffic(name, workdir / name / 'metrics.jsonl')
      for name in found['algorithms']
    ],
    privacy=[
      _private(name, told)
      for name in (*found['algorithms'], gain.POOLED)
      if (told := spending.read(workdir / name))
    ],
  )
  path = workdir / 'federated.html'
  files.write_text(path, text)
  return path


def _counted(plan):
  """How long it was, in words."""
  rounds, steps = (
    counted(plan['rounds'], 'round'),
    counted(plan['steps'], 'step'),
  )
  return f'{rounds} of {steps}'


def text(found):
  """The tables for the console."""
  parts = []
  for own, words in ((True, 'its own test cases'), (False, 'all test cases')):
    for what, (header, rows) in zip(
      (found['title'], 'Gain over a model of its own (adjusted p)'),
      tables(found, own=own),
      strict=True,
    ):
      if rows:
        table = cli.aligned(header, rows, 'l' + 'r' * (len(header) - 1))
        parts.append(f'{what}, on {words}\n{table}')
  return '\n\n'.join(parts)


def tables(found, *, own):
  """(header, rows) of the scores by site, and of the gains.

  own: on the test cases of the site, else on those of all.
  """
  lines = [k for k in found['table'] if (k['on'] == k['site']) == own]
  arms = [gain.LOCAL, *found['algorithms'], gain.POOLED]
  title = lambda arm: _TITLES.get(arm, arm)
  sizes = lambda line: [line['site'], *(str(line[n]) for n in _SIZES)]
  scores = [
    [*sizes(line), *(_scored(line['scores'][arm]) for arm in arms)]
    for line in lines
  ]
  gains = [
    [*sizes(line), *(_differs(line['gains'][arm]) for arm in arms[1:])]
    for line in lines
  ]
  if own and lines:
    sums = ['mean', *(str(sum(k[n] for k in lines)) for n in _SIZES)]
    score = lambda arm: lambda line: line['scores'][arm]['value']
    change = lambda arm: lambda line: line['gains'][arm].get('difference')
    scores.append([*sums, *(number(_mean(lines, score(a))) for a in arms)])
    means = ({'difference': _mean(lines, change(a))} for a in arms[1:])
    gains.append([*sums, *map(_differs, means)])
  header = ['Site', 'Train', 'Test']
  return (
    ([*header, *map(title, arms)], scores),
    ([*header, *map(title, arms[1:])], gains),
  )


def _scored(score):
  bounds = interval(score['interval'])
  return number(score['value']) + (f' ({bounds})' if bounds else '')


def _differs(line):
  if not line:
    return '–'
  sign = '+' if (line['difference'] or 0) > 0 else ''
  words = f'{sign}{number(line["difference"])}'
  if bounds := interval(line.get('interval')):
    words += f' ({bounds}), p {number(line["adjusted"])}'
  return words


def _mean(lines, value):
  """Mean by test cases of what lines define; of none, NaN.

  Sites are averaged, and not ranked together: models of their own would rank
  the cases of one site above those of another, which is no skill.
  """
  known = [(line['n'], value(line)) for line in lines]
  known = [(n, v) for n, v in known if v is not None]
  if not known:
    return float('nan')
  return sum(n * v for n, v in known) / sum(n for n, _ in known)


def _private(name, told):
  """(header, rows, sentence) of what each site has spent."""
  rows = [
    [
      site,
      str(own['patients']),
      str(own['batch']),
      number(own['noise']),
      str(own['steps']),
      number(own['epsilon']),
    ]
    for site, own in sorted(told['sites'].items())
  ]
  one, several = told['epsilon'], told['several']
  said = (
    f'{_TITLES.get(name, name)}: epsilon {number(one["epsilon"])} at delta '
    f'{one["delta"]:g} for whoever is a patient of one site'
  )
  if len(rows) > 1:
    said += (
      f'; {number(several["epsilon"])} at {several["delta"]:g} for one of all '
      'of them'
    )
  header = ['Site', 'Patients', 'Of a step', 'Noise', 'Steps', 'Epsilon']
  return header, rows, f'{said}.'


def _traffic(name, path):
  """What went over the wire, in words."""
  log = [json.loads(line) for line in path.read_text('utf-8').splitlines()]
  rounds = [line for line in log if 'federated/sites' in line]
  down, up = (rounds[-1][f'federated/bytes_{way}'] for way in ('down', 'up'))
  short = sum(line['federated/left_out'] > 0 for line in rounds)
  sites = sum(line['federated/sites'] for line in rounds)
  return (
    f'{name}: {len(rounds)} rounds; {down / 1e6:.2f} MB to a site and '
    f'{up / 1e6:.2f} MB back in a round, {(down + up) * sites / 1e6:.1f} MB in '
    f'all. Rounds in which a site was left out: {short}.'
  )
