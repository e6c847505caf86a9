"""The classes of labels: their names, their order, several in one cell."""

import dataclasses

from medjax.data.folder import checks, masks, pattern

# What 'A|B' is joined with where it is none of them.
_NONE = frozenset(('no finding', 'none', 'normal', 'no findings', 'negative'))


def labelled(entries, about, source, columns, given, uncertain=''):
  """(entries, `About`) with the classes of the labels, or of the masks."""
  labels = [e.label for e in entries if e.label is not None]
  notes = ()
  if any(isinstance(label, tuple) for label in labels):
    names = pattern.expand(columns)
    if uncertain == 'class':
      names = (*names, *(f'{n} uncertain' for n in names))
    names, entries = checks.label_names(entries, names, given)
  elif any('|' in label for label in labels):
    names, entries = _several(entries, given)
    notes = (
      f"labels joined by '|' are several: {len(names)} labels of 0 and 1, for "
      'a task with multi_label',
    )
  elif labels or given:
    names = checks.class_names(entries, source, given)
  else:
    if not about.class_names:
      about = masks.named(entries, about)
    names = about.class_names
  if labels:
    about = dataclasses.replace(about, regions=(), region_order=())
  return entries, dataclasses.replace(
    about, class_names=tuple(names), notes=about.notes + notes
  )


def _several(entries, given):
  """Labels 'A|B' as tuples of 0 and 1, and the names."""
  sets = [
    {part.strip() for part in e.label.split('|') if part.strip()}
    if e.label is not None
    else None
    for e in entries
  ]
  found = {name for own in sets if own for name in own}
  names = tuple(given or sorted(n for n in found if n.lower() not in _NONE))
  odd = sorted(n for n in found - set(names) if n.lower() not in _NONE)
  if odd:
    raise ValueError(f'label {odd[0]!r} is none of the classes {names}')
  return names, [
    e
    if own is None
    else dataclasses.replace(e, label=tuple(int(n in own) for n in names))
    for e, own in zip(entries, sets, strict=True)
  ]
