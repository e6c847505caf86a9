"""Whether every statement of a card still is what the run says."""

import math
import pathlib

from medjax import files
from medjax.card.entries import Sources


def check(workdir, card):
  """Lines on what is no longer true of a card; [] where all of it is.

  Raises ValueError or OSError for a card that cannot be read.
  """
  card = pathlib.Path(card)
  found = files.read_json(card, mend='write the card again')
  if found is None:
    raise FileNotFoundError(f'{card}: no such card')
  try:
    entries = [
      (section['title'], *statement)
      for section in found['sections']
      for entry in section['entries']
      for statement in _statements(entry)
    ]
    sources = Sources(workdir, found['facts'])
  except (TypeError, KeyError) as e:
    raise ValueError(f'{card} is no card of medjax: it lacks {e}') from None
  lines = []
  for section, title, value, source in entries:
    if not source:
      continue
    try:
      now = files.plain(sources.value(source))
    except (ValueError, OSError, KeyError) as e:
      lines.append(f'{section}: {title}: {source} cannot be read: {e}')
      continue
    if not _same(now, value):
      lines.append(f'{section}: {title}: the card says {value}, {source} {now}')
  return lines


def _statements(entry):
  """(title, value, source) of an entry, and of its interval."""
  yield entry['title'], entry['value'], entry['source']
  if source := entry.get('interval_source'):  # cards of before have none
    yield f'{entry["title"]}, interval', entry['interval'], source


def _same(a, b):
  if isinstance(a, float) and isinstance(b, float):
    return a == b or (math.isnan(a) and math.isnan(b))
  return a == b
