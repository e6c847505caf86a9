"""federated.html and the tables on the console: what each site gains."""

import json
import pathlib

from medjax import cli, files
from medjax.federated import gain
from medjax.reports import page
from medjax.reports.text import interval, number

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
    kind=', '.join(found['algorithms']),
    written=f'{plan["rounds"]} rounds of {plan["steps"]} steps',
    score=found['title'],
    whole=_whole(found),
    own=tables(found, own=True),
    everywhere=tables(found, own=False),
    traffic=[
      _traffic(name, workdir / name / 'metrics.jsonl')
      for name in found['algorithms']
    ],
  )
  path = workdir / 'federated.html'
  files.write_text(path, text)
  return path


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
  sizes = lambda line: [line['site'], str(line['train']), str(line['n'])]
  scores = [
    [*sizes(line), *(_scored(line['scores'][arm]) for arm in arms)]
    for line in lines
  ]
  gains = [
    [*sizes(line), *(_differs(line['gains'][arm]) for arm in arms[1:])]
    for line in lines
  ]
  header = ['Site', 'Train', 'Test']
  return (
    ([*header, *map(title, arms)], scores),
    ([*header, *map(title, arms[1:])], gains),
  )


def _scored(score):
  bounds = interval(score['interval'])
  return number(score['value']) + (f' ({bounds})' if bounds else '')


def _differs(line, p='adjusted'):
  if not line:
    return '–'
  sign = '+' if (line['difference'] or 0) > 0 else ''
  bounds = interval(line['interval'])
  words = f'{sign}{number(line["difference"])}'
  return words + (f' ({bounds}), p {number(line[p])}' if bounds else '')


def _whole(found):
  """(header, rows): each test case by the model that its site has."""
  if 'gains' not in found:
    return [], []
  rows = [
    [
      _TITLES.get(arm, arm),
      _scored(score),
      _differs(found['gains'].get(arm), 'p'),
    ]
    for arm, score in found['own_cases'].items()
  ]
  return ['Model', found['title'], 'Gain'], rows


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
