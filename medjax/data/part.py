"""Some cases of a split."""

import hashlib
from collections.abc import Sequence


class Part(Sequence):
  """A view of raw cases: those at some places, in that order.

  All else that a split says is that of the cases.
  """

  def __init__(self, cases, places):
    self._cases, self._places = cases, [int(i) for i in places]

  def __getattr__(self, name):
    if name.startswith('_'):
      raise AttributeError(name)
    found = getattr(self._cases, name)
    return [found[i] for i in self._places] if name == 'entries' else found

  def __len__(self):
    return len(self._places)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(len(self))[index]]
    return self._cases[self._places[index]]

  def __repr__(self):
    digest = hashlib.sha256(repr(self._places).encode()).hexdigest()
    return f'Part({self._cases!r}, {len(self)}, {digest[:8]})'
