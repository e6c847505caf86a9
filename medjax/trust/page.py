"""stress.html: the table, the curves and the pictures of a stress test."""

import datetime

from medjax import files
from medjax.reports import figures, page
from medjax.reports.gallery import display_slice
from medjax.reports.measures import Measures
from medjax.reports.text import interval, number

_TITLES = {
  'set_coverage': 'Coverage of conformal sets',
  'flagged_as_new': 'Flagged as new',
  'answered_at_operating_point': 'Answered',
  'error_at_operating_point': 'Error of the answered',
}
_CURVES = ('ece', *_TITLES)


def write(out, found, pictures, affine):
  """Writes stress.html into `out` of what stress.json holds; returns its path.

  pictures: [(corruption, [image (*s, C) clean and at each severity])], all of
  one case with this affine.
  """
  monitor = found['monitor']
  measures = Measures(found['measures'])
  rows, clean = found['table'], found['clean']
  title = lambda k: _TITLES.get(k) or measures.headline(k)
  draw = page.Pictures(out / 'figures', old='stress_*.png')
  with figures.style():
    shown = [monitor, *(k for k in _CURVES if clean.get(k) is not None)]
    plots = [
      draw(
        f'stress_{name}',
        figures.by_severity(rows, name, title(name)),
        f'{title(name)} by severity of each corruption',
      )
      for name in shown
    ]
    severities = sorted({row['severity'] for row in rows} - {0})
    looks = draw(
      'stress_pictures',
      figures.corrupted(
        [
          (name, [_flat(x, affine) for x in images])
          for name, images in pictures
        ],
        severities,
      ),
      'A case under each corruption at each severity',
    )
  text = page.render(
    'stress.html.jinja',
    title=f'{found["suite"]} stress',
    kind=f'monitor: {title(monitor)}',
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    about=f'{found["cases"]} test cases of {found["workdir"]}, suite '
    f'{found["suite"]}, seed {found["seed"]}.',
    left=found['cases'] - clean.get('adapted_to', found['cases']),
    cards=_cards(found, title),
    corruptions=_corruptions(found, title),
    adaptation=found['adapt'],
    plots=plots,
    pictures=looks,
    rows=_rows(rows),
  )
  path = out / 'stress.html'
  files.write_text(path, text)
  return path


def _flat(image, affine):
  """A picture (h, w) of an image: of a volume its middle slice."""
  (picture,) = display_slice(image, affine=affine)
  return picture if picture.ndim == 2 else picture.mean(-1)


def _cards(found, title):
  monitor, mean = found['monitor'], found['mean']
  cards = [
    (title(monitor), number(found['clean'][monitor]), 'clean'),
    (title(monitor), number(mean[monitor]), 'mean over the suite'),
  ]
  if 'relative' in mean:
    cards.append(('Relative error', number(mean['relative']), 'mean'))
  worst = min(
    found['corruptions'].items(), key=lambda item: -abs(item[1]['change'])
  )
  cards.append(('Most changed by', worst[0].replace('_', ' '),
                number(worst[1]['change'])))  # fmt: skip
  return cards


def _corruptions(found, title):
  mean = found['mean']
  names = {'change': 'Change', 'error': 'Balanced error',
           'relative': 'Relative error', 'adapted': 'Adapted',
           'adaptation': 'Adaptation'}  # fmt: skip
  keys = list(next(iter(found['corruptions'].values())))
  header = ['Corruption', *(names.get(k) or title(k) for k in keys)]
  cell = lambda v: v if isinstance(v, str) else number(v)
  rows = [
    [name.replace('_', ' '), *(cell(one[k]) for k in keys)]
    for name, one in found['corruptions'].items()
  ]
  return header, [*rows, ['mean', *(cell(mean.get(k, '')) for k in keys)]]


def _rows(rows):
  apart = ['corruption', 'severity']
  apart += [f'{k}_{end}' for k in ('change', 'gain') for end in ('low', 'high')]
  every = dict.fromkeys(k for row in rows for k in row)
  keys = [k for k in every if k not in apart]
  table = []
  for row in rows:
    cells = [number(row.get(k)) for k in keys]
    for key in ('change', 'gain'):
      if f'{key}_low' in row:
        bounds = interval([row[f'{key}_low'], row[f'{key}_high']])
        cells[keys.index(key)] += f' ({bounds})'
    table.append([row['corruption'], str(row['severity']), *cells])
  return ['Corruption', 'Severity', *keys], table
