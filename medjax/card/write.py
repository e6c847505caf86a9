"""A card as JSON, Markdown and a page; the same run gives the same bytes."""

import dataclasses
import pathlib

from medjax import __version__, files
from medjax.card import law
from medjax.card import sections as sections_lib
from medjax.card.entries import Sources
from medjax.reports import figures, page
from medjax.reports import workdir as workdir_lib

NAMES = ('card.json', 'card.md', 'card.html')
BANNER = (
  'For research use. Not a medical device. Nothing here is a statement of '
  'compliance with any law or standard.'
)
_FIGURES = 'figures'


def write(workdir, out, facts):
  """Writes the card of a run into the folder `out`; returns its three paths.

  facts: {field: text} of what the run cannot know. Raises FileNotFoundError for
  a folder that holds no evaluated run.
  """
  workdir, out = pathlib.Path(workdir), pathlib.Path(out)
  if not (workdir / 'metrics.json').is_file():
    raise FileNotFoundError(
      f'{workdir} holds no metrics.json: give the workdir of a run that was '
      'evaluated'
    )
  sources = Sources(workdir, facts)
  found = sections_lib.sections(sources)
  law_table = law.table(found)
  files.write_json(out / 'card.json', as_json(found, facts), sealed=True)
  files.write_text(out / 'card.md', as_markdown(found, law_table))
  digest = sources.value('computed:digest')
  text = page.render(
    'card.html.jinja',
    title='Model card',
    kind=BANNER,
    written=f'by medjax {__version__} for the model {digest[:12]}',
    sections=found,
    law=law_table,
    failures=_pictures(workdir, out),
  )
  files.write_text(out / 'card.html', text)
  return [out / name for name in NAMES]


def as_json(sections, facts):
  """What card.json holds: each statement with its value and its source."""
  return {
    'card': 1,
    'medjax': __version__,
    'banner': BANNER,
    'facts': facts,
    'sections': [dataclasses.asdict(section) for section in sections],
  }


def as_markdown(sections, law_table):
  """The text of card.md."""
  lines = ['# Model card', '', BANNER, '']
  for section in sections:
    lines += [f'## {section.title}', '']
    lines += [section.about, ''] if section.about else []
    rows = [[e.title, e.text, e.sources] for e in section.entries]
    lines += [*_table(['', 'Value', 'Source'], rows), '']
  lines += ['## What regulators ask for', '', *_table(*law_table), '']
  return '\n'.join(lines)


def _table(header, rows):
  cells = [header, ['---'] * len(header), *rows]
  clean = lambda x: str(x).replace('|', '\\|').replace('\n', ' ')
  return ['| ' + ' | '.join(map(clean, row)) + ' |' for row in cells]


def _pictures(workdir, out):
  """Pictures of the worst cases, without their names."""
  run = workdir_lib.read(workdir)
  worst = [
    {**c, 'id': ''} for c in run.cases if c.get('caption', '') == 'worst'
  ]
  pictures = page.Pictures(out / _FIGURES, old='worst_*.png')
  found, masked = [], [c for c in worst if 'mask' in c and 'prediction' in c]
  with figures.style():
    for i, case in enumerate(masked):
      heading = 'One of the worst'
      figure = figures.segmentation_case(case, run.label_names, heading)
      found.append(pictures(f'worst_{i + 1}', figure, 'A case, its masks'))
    rest = [c for c in worst if 'mask' not in c or 'prediction' not in c]
    if rest:
      names = list(run.summary.get('classes', {}))
      figure = figures.image_grid(rest, names)
      found.append(pictures('worst_images', figure, 'The worst cases'))
  return found
