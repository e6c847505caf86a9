"""curve.html: the curves of labels, their tests and what they cost."""

import datetime
import pathlib

from medjax import files
from medjax.reports import figures, page
from medjax.reports.measures import Measures
from medjax.reports.text import interval, number


def write(out, result):
  """Writes curve.html and its figure of what curve.json holds; its path."""
  out, rows = pathlib.Path(out), result['table']
  title = Measures(result['measures']).headline(result['monitor'])
  lines = {}
  for row in rows:
    point = row['labels'], row['score'], row['low'], row['high']
    lines.setdefault(row['method'], []).append(point)
  draw = page.Pictures(out / 'figures', old='labels_*.png')
  with figures.style():
    curve = draw(
      'labels_curve',
      figures.label_curves(lines, title),
      f'{title} by the number of labels, a line for each method',
    )
  text = page.render(
    'labels.html.jinja',
    title=f'Labels: {out.name}',
    kind=result['config'],
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    about=_about(result),
    curve=curve,
    scores=_scores(rows, title),
    areas=_areas(result['areas']),
  )
  path = out / 'curve.html'
  files.write_text(path, text)
  return path


def _about(result):
  seeds = result['seeds']
  known = (
    f'{seeds} seeds'
    if seeds > 1
    else ('one seed: the intervals are of the test patients alone')
  )
  return f'{result["config"]}, test split, {known}.'


def _scores(rows, title):
  header = [
    'Method', 'Labels', title, '95 %', 'Seeds', 'Control', 'Change', '95 %',
    'p', 'Wilcoxon p', 'Minutes',
  ]  # fmt: skip
  return header, [
    [
      row['method'].replace('_', ' '), number(row['labels']),
      number(row['score']), interval([row['low'], row['high']]),
      ' '.join(map(number, row['each'])), row.get('control', '–'),
      number(row.get('difference')),
      interval([row.get(f'difference_{k}') for k in ('low', 'high')]),
      number(row.get('p')), number(row.get('wilcoxon_p')),
      number(row['minutes']),
    ]
    for row in rows
  ]  # fmt: skip


def _areas(areas):
  if not areas:
    return None
  header = ['Method', 'Mean height', 'Control', 'Change', '95 %', 'p']
  return header, [
    [
      a['method'].replace('_', ' '), number(a['area']), a['control'],
      number(a['difference']), interval([a['low'], a['high']]),
      number(a['p']),
    ]
    for a in areas
  ]  # fmt: skip


def lines(result):
  """The table as lines of text."""
  for row in result['table']:
    line = (
      f'{row["method"]:<14} {row["labels"]:>5} labels  {number(row["score"])} '
      f'({interval([row["low"], row["high"]])}), {row["minutes"]:.1f} min'
    )
    if 'control' in row:
      line += (
        f'; {row["difference"]:+.4f} on {row["control"]}, p {row["p"]:.3f}'
      )
    yield line
