"""Finds what identifies many patients in one text: `Finder(known)`."""

import collections
import re

from medjax.privacy import identifiers

_GRAM = 5
_DATE = 8  # digits
_LONG = 10  # digits of which no number has the same by chance
NUMBER = re.compile(r'(?<!\d)(?<!\d\.)\d+(?!\d)(?!\.\d)')
_GROUP = re.compile(r'\d+(?:[\W_]{1,2}\d+)+')


class Finder:
  """Finds many texts in one at a time: by their first five characters.

  Digits alone are found as whole numbers: five of them lie in many a UID and
  coordinate.
  """

  def __init__(self, known):
    self._words = set(known.words) | {w[::-1] for w in known.words}
    self._numbers = {t for t in known.texts if t.isdecimal()}
    self._grams = _by_gram(known.texts - self._numbers)
    self._long = _by_gram(t for t in self._numbers if len(t) >= _LONG)
    self._codes = _by_gram(known.codes)
    self.is_number = known.is_number

  def in_text(self, text, *, words=True):
    """Whether a text holds one of them."""
    if words and any(
      identifiers.normal(w) in self._words for w in re.findall(r'[^\W_]+', text)
    ):
      return True
    return (
      self.in_letters(text)
      or _holds(identifiers.normal(text), self._long)
      or not self._numbers.isdisjoint(_numbers(text))
    )

  def in_letters(self, text):
    """Whether a text holds one that is not of digits alone."""
    plain = identifiers.normal(text)
    return _holds(plain, self._grams) or _holds(text, self._codes)

  def numbers_in(self, text):
    """The long numbers among them that a text holds as one number."""
    return {
      n for n in NUMBER.findall(text) if len(n) >= _DATE and n in self._numbers
    }


def _by_gram(texts):
  grams = collections.defaultdict(list)
  for text in texts:
    grams[text[:_GRAM]].append(text)
  return grams


def _holds(text, grams):
  return any(
    text.startswith(t, i)
    for i in range(len(text) - _GRAM + 1)
    for t in grams.get(text[i : i + _GRAM], ())
  )


def _numbers(text):
  """The whole numbers of a text, also dates and others with signs in them."""
  yield from NUMBER.findall(text)
  for group in _GROUP.findall(text):
    parts = re.findall(r'\d+', group)
    for i in range(len(parts)):
      joined = ''
      for part in parts[i:]:
        joined += part
        if len(joined) >= _LONG:
          break
        if len(joined) >= _DATE:
          yield joined
