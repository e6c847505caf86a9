"""One finding, and the words that findings are made of."""

import dataclasses

import numpy as np

LEVELS = ('error', 'warning', 'note')


@dataclasses.dataclass(frozen=True)
class Finding:
  """What is wrong or odd, in a sentence, with the cases it was seen in."""

  level: str
  text: str
  examples: tuple[str, ...] = ()


def count(n, noun):
  """'1 image', '1,024 images'."""
  return f'{n:,} {noun}{"" if n == 1 else "s"}'


def times(values):
  """'28 × 28'."""
  return ' × '.join(f'{v:.4g}' for v in values)


def named(label, names):
  """The names of a class index or a tuple of them."""
  if label is None:
    return 'none'
  return ', '.join(names[k] for k in np.atleast_1d(label)) or 'none'


def printable(text, most=160):
  """A name as a terminal may show it: no control characters, no endless one."""
  text = ''.join(c if c.isprintable() else '�' for c in str(text))
  half = (most - 1) // 2
  return text if len(text) <= most else f'{text[:half]}…{text[-half:]}'
