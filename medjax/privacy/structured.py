"""Content of structured reports: what a content item may say, by its concept.

PS3.15 Table E.3.4-1 says so for named concepts; of the others, texts lose all
unknown words, persons their names, dates are shifted or dummies, UIDs replaced.
Codes, numbers and coordinates stay.
"""

from pydicom.dataset import Dataset

from medjax.privacy import dates, tables, values, words

_CONCEPT = 0x0040A043
_CODE, _SCHEME, _MEANING = 0x00080100, 0x00080102, 0x00080104
_VALUE_TYPE = 0x0040A040
# Value type → the attribute that holds the value, and its VR.
_HELD = {
  'TEXT': (0x0040A160, 'UT'),
  'PNAME': (0x0040A123, 'PN'),
  'DATE': (0x0040A121, 'DA'),
  'TIME': (0x0040A122, 'TM'),
  'DATETIME': (0x0040A120, 'DT'),
  'UIDREF': (0x0040A124, 'UI'),
}
_REFERENCES = ('IMAGE', 'COMPOSITE', 'WAVEFORM', 'UIDREF')
_DUMMY_CODE = ('REMOVED', '99MEDJAX', 'Removed')


def dummy(tag):
  """The item of a sequence that says only that something was there."""
  if tag == 0x00401101:  # Person Identification Code Sequence
    return _code(*_DUMMY_CODE)
  item = Dataset()
  item.add(values.new(0x0040A010, 'CS', 'CONTAINS'))
  item.add(values.new(_VALUE_TYPE, 'CS', 'TEXT'))
  comment = _code('121106', 'DCM', 'Comment')
  item.add(values.new(_CONCEPT, 'SQ', [comment]))
  item.add(values.new(0x0040A160, 'UT', 'REMOVED'))
  return item


def _code(code, scheme, meaning):
  item = Dataset()
  item.add(values.new(_CODE, 'SH', code))
  item.add(values.new(_SCHEME, 'SH', scheme))
  item.add(values.new(_MEANING, 'LO', meaning))
  return item


def concept_of(item):
  """(scheme, code) of a content item's name; ('', '') where it has none."""
  if _CONCEPT not in item:
    return '', ''
  codes = item[_CONCEPT].value or ()
  if not codes:
    return '', ''
  return tuple(
    values.text(codes[0].get_item(t)) if t in codes[0] else ''
    for t in (_SCHEME, _CODE)
  )


def item(cleaner, content, encodings):
  """A content item made anew, with what it contains; None if it goes."""
  kind = (
    values.text(content.get_item(_VALUE_TYPE))
    if _VALUE_TYPE in content
    else _kind_of(content)
  )
  key = (*concept_of(content), kind)
  named = tables.content_items().get(key)
  action = tables.chosen(*named[1:], cleaner.options) if named else 'C'
  # What an object refers to is told by UIDs alone, which are replaced.
  if action == 'X' and kind not in _REFERENCES:
    cleaner.done[0x0040A730, 'X', 'E.3.4-1'] += 1
    return None
  new = cleaner.cleaned(content, encodings, root=False)
  if kind in _HELD and _HELD[kind][0] in content:
    tag, vr = _HELD[kind]
    text = values.text(
      content.get_item(tag), values.encodings_of(content, encodings)
    )
    new.add(values.new(tag, vr, _value(cleaner, text, vr, action)))
    cleaner.done[tag, action, 'E.3.4-1'] += 1
  return new


def _kind_of(content):
  """The value type of an item that does not say it, by what it holds."""
  for kind, (tag, _) in _HELD.items():
    if tag in content:
      return kind
  return ''


def _value(cleaner, text, vr, action):
  if vr == 'UI':
    return text if 'retain-uids' in cleaner.options else cleaner.uid(text)
  if vr == 'PN':
    return 'REMOVED'
  if vr in values.DATES:
    shifted = ''
    if 'retain-modified-dates' in cleaner.options:
      shifted = dates.shifted(text, vr, cleaner.days)
    elif 'retain-full-dates' in cleaner.options:
      shifted = dates.shifted(text, vr, 0)
    return shifted or dates.DUMMIES[vr]
  if action == 'D':
    return 'REMOVED'
  return words.cleaned(text, cleaner.identifiers) or 'REMOVED'
