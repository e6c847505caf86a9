"""Statements of a card: a value out of a file of the run, and where it stands.

A source is a file of the workdir and a JSON pointer into it (RFC 6901),
'metrics.json#/test/scores/dice', a field of the user's facts, or a way to
compute the value again, 'computed:patients_shared'.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from medjax import files
from medjax.card import computed
from medjax.card import facts as facts_lib

NOT_STATED = 'not stated'
_COMPUTED = 'computed:'


@dataclasses.dataclass(frozen=True)
class Entry:
  """A line of a card: its title, the value as it was read, and its source.

  text: the value as people read it; value None: not stated, and no source.
  interval: bounds of the value, with a source of their own.
  """

  title: str
  text: str = NOT_STATED
  value: Any = None
  source: str = ''
  interval: Sequence[float] | None = None
  interval_source: str = ''

  @property
  def sources(self):
    """All sources, as a card prints them."""
    return ', '.join(filter(None, (self.source, self.interval_source)))


class Sources:
  """The files of a run that a card reads, each once."""

  def __init__(self, workdir, facts):
    self.workdir, self._facts, self._read = pathlib.Path(workdir), facts, {}

  def json(self, name):
    """A JSON file of the workdir, {} where there is none."""
    if name not in self._read:
      found = files.read_json(self.workdir / name, mend='evaluate again')
      self._read[name] = found or {}
    return self._read[name]

  def value(self, source):
    """What stands at a source, None for nothing."""
    if source.startswith(_COMPUTED):
      name = source.removeprefix(_COMPUTED)
      return computed.FUNCTIONS[name](self.workdir)
    name, _, pointer = source.partition('#/')
    if name == facts_lib.NAME:
      return self._facts.get(pointer)
    found = self.json(name)
    for key in pointer.split('/') if pointer else ():
      key = key.replace('~1', '/').replace('~0', '~')
      if isinstance(found, list) and key.isdecimal():
        found = dict(enumerate(found)).get(int(key))
      else:
        found = found.get(key) if isinstance(found, dict) else None
    return found

  def entry(self, title, source, show=str):
    """The `Entry` of what stands at a source; `show` makes it a text."""
    value = self.value(source)
    if value is None or value in ('', [], {}):
      return Entry(title)
    return Entry(title, show(value), value, source)

  def fact(self, name):
    """The `Entry` of a field of the user's facts."""
    return self.entry(facts_lib.FIELDS[name], f'{facts_lib.NAME}#/{name}')


def pointer(*keys):
  """A JSON pointer of keys, whatever is in them."""
  escaped = (str(k).replace('~', '~0').replace('/', '~1') for k in keys)
  return '/'.join(escaped)
