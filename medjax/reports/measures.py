"""What the scores of a run are called, and whether more of them is better.

The table comes from the run's task and stands in metrics.json; nothing here
knows a score by its name.
"""

import dataclasses
from collections.abc import Iterable, Mapping

# What a task appends to a score's name when it is computed in another way.
_SUFFIXES = {
  '_at_threshold': ' at the threshold',
  '_calibrated': ' after scaling',
}


@dataclasses.dataclass(frozen=True)
class Measures:
  """Titles, units and directions of scores, by name.

  table: {name: {'title': str, 'unit': str, 'higher': bool or None}}, the most
  wanted first. A name that it lacks is shown as it is, capitalised, and has no
  direction. unit_of_length: what stands for 'mm': 'px' of pictures without a
  scale.
  """

  table: Mapping = dataclasses.field(default_factory=dict)
  unit_of_length: str = 'mm'

  @classmethod
  def of(cls, metrics: Mapping):
    """The table in what a metrics.json holds."""
    return cls(
      metrics.get('measures') or {}, metrics.get('unit_of_length') or 'mm'
    )

  def __contains__(self, name):
    return _parted(name)[0] in self.table

  def plain_title(self, name: str) -> str:
    """'hd95' → 'HD95', 'f1_at_threshold' → 'F1 at the threshold'."""
    base, words = _parted(name)
    default = base.replace('_', ' ')
    default = default[:1].upper() + default[1:]
    return (self.table.get(base, {}).get('title') or default) + words

  def title(self, name: str) -> str:
    """'hd95' → 'HD95, mm'."""
    unit = self.unit(name)
    return self.plain_title(name) + (f', {unit}' if unit else '')

  def headline(self, name: str) -> str:
    """'hd95' → 'HD95, mm (lower is better)'."""
    lower = ' (lower is better)' if self.higher(name) is False else ''
    return self.title(name) + lower

  def unit(self, name: str) -> str:
    """'hd95' → 'mm'; '' for a score without one."""
    unit = self.table.get(_parted(name)[0], {}).get('unit') or ''
    return self.unit_of_length if unit == 'mm' else unit

  def higher(self, name: str) -> bool | None:
    """Whether more is better; None: neither, or not known."""
    return self.table.get(_parted(name)[0], {}).get('higher')

  def joined(self, other: 'Measures') -> 'Measures':
    """The tables of two runs, A and B, as one; titles that differ show both.

    Raises ValueError where a score has another unit or direction in B.
    """
    table = dict(other.table) | dict(self.table)
    for name in self.table.keys() & other.table.keys():
      own, theirs = self._kind(name), other._kind(name)
      if own != theirs:
        raise ValueError(
          f'{self.plain_title(name)} is {own} in A, {theirs} in B: '
          'evaluate both runs in the same way'
        )
      own, theirs = self.plain_title(name), other.plain_title(name)
      if own != theirs:
        table[name] = {**table[name], 'title': f'{own} (B: {theirs})'}
    length = self if self.table else other
    return Measures(table, length.unit_of_length)

  def _kind(self, name):
    higher = self.higher(name)
    better = 'without direction'
    if higher is not None:
      better = 'more is better' if higher else 'less is better'
    return f'{self.unit(name) or "without unit"} ({better})'

  def ordered(self, names: Iterable[str], *, first: str | None = None) -> list:
    """The names in the order in which one asks for them.

    That is `first`, then the order of the table, then as they come.
    """
    names = list(dict.fromkeys(names))
    order = [name for name in (first, *self.table) if name in names]
    return list(dict.fromkeys((*order, *names)))


UNNAMED = Measures()  # names as they are


def _parted(name):
  """'f1_at_threshold' → ('f1', ' at the threshold')."""
  for suffix, words in _SUFFIXES.items():
    if name.endswith(suffix):
      return name.removesuffix(suffix), words
  return name, ''
