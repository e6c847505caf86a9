"""Structures by name: masks of a file, and their classes among given ones."""

import collections
import re

from medjax.data.formats.dicom.errors import DicomError


class Segments(dict):
  """{name: mask (*spatial,) bool} of a SEG or RTSTRUCT; masks may overlap.

  codes: {name: coded meaning, or ''}. labels: {name: what the file calls it};
  names are labels that were told apart. notes: what was assumed, as lines.
  """

  def __init__(self, masks, *, labels=None, codes=None, notes=()):
    super().__init__(masks)
    self.labels = {name: name for name in masks} | dict(labels or {})
    self.codes = dict(codes or {})
    self.notes = tuple(notes)


def told_apart(labels, default):
  """{number: name}: labels that are empty or occur twice get their number."""
  counts = collections.Counter(labels.values())
  return {
    n: label if label and counts[label] == 1 else f'{label or default} {n}'
    for n, label in labels.items()
  }


def classes_of(segments, class_names, path):
  """{name: index in `class_names`} of the segments that are one, and notes.

  A segment is of the class that is called as its coded meaning (unless others
  share it) or else as its label; case, blanks and underscores do not count.
  Those of no class are left out, which is said. Raises ValueError where none
  is of a class.
  """
  known = {plain(c): i for i, c in enumerate(class_names) if i > 0}
  codes = collections.Counter(map(plain, segments.codes.values()))
  found, notes = {}, []
  for name in segments:
    code = plain(segments.codes.get(name, ''))
    label = plain(segments.labels[name])
    tries = [code] if codes[code] == 1 else []
    matches = [known[t] for t in (*tries, label) if t in known]
    if not matches:
      continue
    found[name] = matches[0]
    if label in known and known[label] != matches[0]:
      notes.append(
        f'segment {name!r} goes by its code as {class_names[matches[0]]!r}'
      )
  if segments and not found:
    raise DicomError(
      f'{path}: none of its structures ({", ".join(segments)}) is a class '
      f'({", ".join(class_names[1:])}); name them in class_names, or give the '
      'case an empty mask'
    )
  unknown = [name for name in segments if name not in found]
  if unknown:
    notes.append(f'structures of no class are left out: {", ".join(unknown)}')
  count = collections.Counter(found.values())
  notes += [
    f'{n} structures are joined as {class_names[i]!r}'
    for i, n in count.items()
    if n > 1
  ]
  absent = [c for i, c in enumerate(class_names) if i and i not in count]
  if absent:
    notes.append(f'no structure is called {", ".join(absent)}')
  return found, tuple(notes)


def plain(name):
  """A name as it is compared: without case, underscores and spare blanks."""
  return re.sub(r'[\s_-]+', ' ', str(name)).strip().casefold()
