"""Text without the words that could identify: only known words are kept.

The vocabulary is that of DICOM itself: the meanings of its coded concepts, the
names of its attributes, and the abbreviations of scanners.
"""

import functools
import re

from medjax.privacy import tables

_TOKEN = re.compile(r'[^\W_]+(?:\.\d+)?|.', re.DOTALL)
_KEPT = set(" '_-+./,;:()[]%*=<>&#")
_MEASURE = re.compile(r'[a-z]{0,3}\d{1,3}(\.\d{1,3})?[a-z]{0,3}|b\d{4}')
_PARTS = re.compile(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+')
_VERSION = re.compile(r'\d{1,4}(\.\d{1,4}){3,5}')
_DIGITS = 5  # in a row, with signs in between: more may be an id or a date
_NUMBER = 3  # digits behind a word: code35, WINDOW1
_LONGEST = 24  # of a device's word; longer ones may be an encoded text


@functools.cache
def vocabulary():
  """All known words, in small letters."""
  from pydicom._dicom_dict import DicomDictionary
  from pydicom.sr._cid_dict import name_for_cid
  from pydicom.sr._concepts_dict import concepts

  found = set()
  texts = [entry[2] for entry in DicomDictionary.values()]
  texts += name_for_cid.values()
  for codes in concepts.values():
    for entries in codes.values():
      texts += [meaning for meaning, _ in entries.values()]
  for text in texts:
    found.update(re.findall(r'[a-z]{3,}', text.lower()))
  # Words of scanners and radiographers; and some that are names of people, too.
  found.update(tables.words('known_words.txt'))
  return frozenset(found - tables.words('names.txt'))


def cleaned(text, identifiers=None):
  """A text of known words and short numbers alone; '' if none is left.

  identifiers: `Identifiers` of the patient, which are taken out as well.
  Cleaned again, it stays as it is.
  """
  while True:
    before, text = text, _cleaned_once(text, identifiers)
    if text == before:
      break
  if identifiers and identifiers.within(text):
    return ''
  return text


def _cleaned_once(text, identifiers):
  known = vocabulary()
  tokens = []
  for token in _TOKEN.findall(text):
    if not token[0].isalnum():
      tokens.append(token if token in _KEPT else ' ')
    elif _is_known(token, known) and not (
      identifiers and identifiers.is_word(token)
    ):
      tokens.append(token)
    else:
      tokens.append(' ')
  joined = ' '.join(_without_runs(tokens).split())
  return joined.strip(' _-+./,;:*=&#')


def _is_known(token, known):
  low = token.lower()
  if not token.isascii():
    return False
  if low in known or _MEASURE.fullmatch(low) or re.fullmatch(r'\d+', low):
    return True
  parts = _PARTS.findall(token)
  worded = [p for p in parts if not (p.isdigit() and len(p) <= _NUMBER)]
  return (
    len(parts) > 1
    and ''.join(parts) == token
    and len(worded) > 0
    and all(len(p) > 2 and p.lower() in known for p in worded)
  )


def _without_runs(tokens):
  """The tokens without long rows of digits, and of single letters."""
  kept = list(tokens)
  row, digits, singles = [], 0, 0

  def close():
    if digits > _DIGITS or singles > 2:
      for i in row:
        kept[i] = ' '

  for i, token in enumerate(tokens):
    listed = token == ',' and tokens[i + 1 : i + 2] == [' ']
    if listed or token.isalnum() or token[0].isdigit():
      number = sum(c.isdigit() for c in token)
      single = len(token) == 1 and token.isalpha()
      if not (number or single):
        close()
        row, digits, singles = [], 0, 0
        continue
      row.append(i)
      digits, singles = digits + number, singles + single
  close()
  return ''.join(kept)


def of_device(text, identifiers=None, *, digits=8):
  """What a maker wrote into its device: any short word, but no identifier.

  digits: so many in a row, with signs in between, may be a version or a code.
  """
  if identifiers and identifiers.within(text):
    return ''
  if not text.isprintable() or not text.isascii() or '@' in text or '^' in text:
    return ''
  words = text.split(' ')
  fine = [
    w
    for w in words
    if (len(w) <= _LONGEST or _is_version(w))
    and not (identifiers and identifiers.is_word(w))
  ]
  joined = ' '.join(fine)
  for row in re.findall(r'\d[\d\-/:., ]*\d', joined):
    many = sum(c.isdigit() for c in row) > digits
    if many and not _VERSION.fullmatch(row):
      joined = joined.replace(row, '')
  return ' '.join(joined.split())


def _is_version(word):
  """Whether a long word is short pieces with a number in each: Apps14.13_2."""
  pieces = word.split('.')
  return len(pieces) > 1 and all(
    len(p) <= _LONGEST and any(map(str.isdigit, p)) for p in pieces
  )
