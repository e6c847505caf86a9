"""What a de-identified object says of itself, each only where it is true."""

from pydicom.dataset import Dataset

from medjax.privacy import tables, values

_CODES = 0x00120064


def stamp(new, old, options, *, examined, pixels, faceless=False):
  """Writes the stamps of PS3.15 E.1.1 and of the options into a data set.

  old: the data set that it was made of. examined: whether its pixels were
  looked through, and so hold no text and no face. pixels: whether it has any.
  """
  clean = examined or not pixels
  true = {'clean-pixels': pixels and examined, 'clean-faces': faceless}
  applied = [
    o
    for o in tables.OPTIONS
    if true.get(o, o in options) and (o in options or o == 'clean-faces')
  ]
  new.add(values.new(0x00120062, 'CS', 'YES' if clean else 'NO'))
  methods = [f'PS3.15 {tables.EDITION} Annex E', 'medjax.privacy', *applied]
  new.add(values.new(0x00120063, 'LO', methods))
  codes = [tables.BASIC, *(tables.OPTIONS[o] for o in applied)]
  kept = _known_codes(old, {code for code, _ in codes})
  codes = sorted([*codes, *kept])
  new.add(values.new(_CODES, 'SQ', [_item(*code) for code in codes]))
  if pixels and examined:
    new.add(values.new(0x00280301, 'CS', 'NO'))
  if faceless:
    new.add(values.new(0x00280302, 'CS', 'NO'))
  dates = 'REMOVED'
  if 'retain-full-dates' in options:
    dates = 'UNMODIFIED'
  if 'retain-modified-dates' in options:
    dates = 'MODIFIED'
  new.add(values.new(0x00280303, 'CS', dates))


def _known_codes(old, present):
  """Codes of what was done to the object before, of CID 7050 alone."""
  known = {code: meaning for code, meaning in tables.OPTIONS.values()}
  found = set()
  try:
    for item in (old.get(_CODES) and old[_CODES].value) or ():
      code = str(item.get('CodeValue'))
      if code in known and code not in present:
        found.add((code, known[code]))
  except Exception:  # damaged: nothing is known of it
    return ()
  return found


def _item(code, meaning):
  item = Dataset()
  item.add(values.new(0x00080100, 'SH', code))
  item.add(values.new(0x00080102, 'SH', 'DCM'))
  item.add(values.new(0x00080104, 'LO', meaning))
  return item
