"""The page of a plan, as all verbs write it: research only."""

import datetime

from medjax import files
from medjax.reports import figures, page, text
from medjax.reports.figures.cuts import structure_colour

RESEARCH = (
  'Research only. This is no medical device: nothing here was tested for use '
  'on patients, and every number is only as good as the label map it was made '
  'of.'
)
BANNER = 'For research only, not for use on patients.'


def write(out, *, title, kind, cards, sections, notes=(), name='plan.html'):
  """Writes the page; returns its path.

  sections: dicts of title, and optionally text, table (header, rows), and
  pictures, as `page.Pictures` gives them.
  """
  whole = [
    {
      'title': s['title'],
      'text': s.get('text', ''),
      'pictures': s.get('pictures', ()),
      'table': s.get('table'),
    }
    for s in sections
  ]
  said = page.render(
    'sections.html.jinja',
    title=title,
    kind=kind,
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    notes=(RESEARCH, *notes),
    cards=cards,
    sections=whole,
    written_by='medjax.surgery',
  )
  files.write_text(out / name, said)
  return out / name


def cells(rows, columns):
  """(header, rows) of a table of the page; columns: {key: title}."""
  table = [[_cell(row.get(key)) for key in columns] for row in rows]
  return [*columns.values()], table


def _cell(value):
  if value is None or isinstance(value, str):
    return value or '–'
  return text.number(value)


def colours(labels):
  """{label: its colour, three numbers}; those of the outlines."""
  return {k: _rgb(structure_colour(k)) for k in labels}


def _rgb(colour):
  return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def named_colours(names):
  """{name: colour} of {label: name}, for a legend."""
  return {name: structure_colour(k) for k, name in names.items()}


def style():
  """The context in which figures are made."""
  return figures.style()
