"""federated.html and the table on the console: what each site gains."""

import json
import pathlib

from medjax import cli, files
from medjax.federated import gain
from medjax.reports import page
from medjax.reports.text import interval, number

_ARMS = {'local': 'By itself', 'federated': 'Federated', 'pooled': 'Pooled'}


def write(workdir):
  """Writes federated.html into a federation; returns its path.

  Raises ValueError for a folder without gain.json.
  """
  workdir = pathlib.Path(workdir)
  found = files.read_json(workdir / gain.FOUND, mend='run `simulate` again')
  if found is None:
    raise ValueError(f'{workdir} holds no {gain.FOUND}: simulate it first')
  plan, log = found['plan'], _log(workdir)
  text = page.render(
    'federated.html.jinja',
    title=f'Federation: {workdir.name}',
    kind=found['algorithm']['name'],
    written=f'{plan["rounds"]} rounds of {plan["steps"]} steps',
    score=found['title'],
    whole=_whole(found),
    own=_table(found, own=True),
    everywhere=_table(found, own=False),
    traffic=_traffic(log),
  )
  path = workdir / 'federated.html'
  files.write_text(path, text)
  return path


def text(found):
  """The tables for the console."""
  parts = []
  for own, words in ((True, 'its own test cases'), (False, 'all test cases')):
    header, rows = _table(found, own=own)
    if rows:
      table = cli.aligned(header, rows, 'l' + 'r' * (len(header) - 1))
      parts.append(f'{found["title"]} on {words}\n{table}')
  return '\n\n'.join(parts)


def _table(found, *, own):
  """Header and rows: by site, on its own test cases or on those of all."""
  header = [
    'Site', 'Train', 'Test', *_ARMS.values(), 'Gain', 'p', 'Pooled − federated'
  ]  # fmt: skip
  rows = []
  for line in found['table']:
    if (line['on'] == line['site']) != own:
      continue
    rows.append(
      [
        line['site'], str(line['train']), str(line['n']),
        *(_scored(line[arm]) for arm in _ARMS),
        _differs(line['gain']),
        number(line['gain'].get('adjusted')),
        _differs(line['to_pooled']),
      ]
    )  # fmt: skip
  return header, rows


def _scored(score):
  bounds = interval(score['interval'])
  return number(score['value']) + (f' ({bounds})' if bounds else '')


def _differs(line):
  if not line:
    return '–'
  bounds = interval(line['interval'])
  sign = '+' if (line['difference'] or 0) > 0 else ''
  return f'{sign}{number(line["difference"])}' + (
    f' ({bounds})' if bounds else ''
  )


def _whole(found):
  """The sentence on all sites' own test cases."""
  if not found.get('gain'):
    return ''
  scores = found['own_cases']
  return (
    'Each test case by the model that its site has: '
    + ', '.join(
      f'{words.lower()} {_scored(scores[arm])}' for arm, words in _ARMS.items()
    )
    + f'; gain {_differs(found["gain"])}, {found["gain"]["test"]} p '
    f'{number(found["gain"]["p"])}.'
  )


def _log(workdir):
  lines = (workdir / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()
  return [json.loads(line) for line in lines]


def _traffic(log):
  """What went over the wire, in words."""
  rounds = [line for line in log if 'federated/sites' in line]
  down, up = (rounds[-1][f'federated/bytes_{way}'] for way in ('down', 'up'))
  short = sum(line['federated/left_out'] > 0 for line in rounds)
  sites = sum(line['federated/sites'] for line in rounds)
  return (
    f'{len(rounds)} rounds; {down / 1e6:.2f} MB to a site and {up / 1e6:.2f} MB '
    f'back in a round, {(down + up) * sites / 1e6:.1f} MB in all. Rounds in '
    f'which a site was left out: {short}.'
  )
