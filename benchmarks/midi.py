"""The ten kinds of action of MIDI-B, scored on files before and after.

Written anew after arXiv:2507.23608 and what CBIIT/MIDI_validation_script
asks of each action, but stricter: a date must be another date, and text is
compared whole, not as parts of words.
The answers come of dicom-anonymizer's reading of PS3.15 (2026c), which medjax
does not use.
"""

import collections
import re

import numpy as np
from dicomanonymizer.dicom_anonymization_databases import (
  dicomfields_2026c as annex,
)
from pydicom.uid import UID_dictionary

from medjax.privacy import tables

KINDS = (
  'tag_retained', 'text_notnull', 'text_retained', 'text_removed',
  'date_shifted', 'uid_changed', 'uid_consistent', 'patid_consistent',
  'pixels_hidden', 'pixels_retained',
)  # fmt: skip
_LISTS = {
  'D': annex.D_TAGS, 'Z': annex.Z_TAGS, 'X': annex.X_TAGS, 'U': annex.U_TAGS,
  'Z/D': annex.Z_D_TAGS, 'X/Z': annex.X_Z_TAGS, 'X/D': annex.X_D_TAGS,
  'X/Z/D': annex.X_Z_D_TAGS, 'X/Z/U': annex.X_Z_U_STAR_TAGS,
}  # fmt: skip
_ACTIONS = {
  t[0] << 16 | t[1]: action
  for action, tags in _LISTS.items()
  for t in tags
  if len(t) == 2
}
_STAMPS = (0x00120062, 0x00120063, 0x00120064, 0x00280303, 0x00280301,
           0x00080005)  # fmt: skip


class Score:
  """Passed and all of each kind of action, and the failures."""

  def __init__(self):
    self.passed, self.all = collections.Counter(), collections.Counter()
    self.failures = []
    self._uids, self._patients = {}, {}

  def note(self, kind, passed, about):
    """Takes one action in."""
    self.all[kind] += 1
    self.passed[kind] += bool(passed)
    if not passed:
      self.failures.append((kind, about))

  @property
  def share(self):
    """Of all actions, those that passed."""
    return self.passed.total() / max(self.all.total(), 1)

  def rows(self):
    """[(kind, passed, all)]."""
    return [(k, self.passed[k], self.all[k]) for k in KINDS if self.all[k]]

  def file(self, before, after, secrets=()):
    """Scores one file; `secrets`: texts that were written into it."""
    self._elements(before, after, before.SOPClassUID, secrets)
    if 'PatientID' in before and before.PatientID:
      new = after.get('PatientID')
      known = self._patients.setdefault(str(before.PatientID), new)
      fine = new and new == known and new != before.PatientID
      self.note('patid_consistent', fine, 'PatientID')
    if 'PixelData' in before:
      same = _pixels(before, after)
      if same is not None:
        self.note('pixels_retained', same, 'PixelData')

  def _elements(self, before, after, kind, secrets, place=''):
    allowed = tables.allowed(str(kind)) or frozenset()
    for element in before:
      tag = int(element.tag)
      if tag in _STAMPS or tag >> 16 in (0x7FE0, 2) or element.tag.element == 0:
        continue
      name = f'{place}{element.tag} {element.keyword}'
      action = _ACTIONS.get(tag)
      if element.tag.is_private or tag >> 24 in (0x50, 0x60):
        self.note('text_removed', tag not in after, name)
        continue
      if action is None:
        self._retained(element, after, kind, secrets, name, tag in allowed)
      elif element.VR == 'UI':
        if 'X' not in action:
          self._uid(element, after, name)
      elif element.VR == 'SQ':
        if (
          action == 'X' and 'clean-descriptors' not in tables.annex_e()[tag][2]
        ):
          self.note('text_removed', tag not in after, name)
      elif element.VR in ('DA', 'DT') and element.value:
        new = after.get(element.tag)
        value = '' if new is None else str(new.value or '')
        self.note('date_shifted', value[:8] != str(element.value)[:8], name)
      elif element.value not in (None, ''):
        new = after.get(element.tag)
        value = '' if new is None else str(new.value or '')
        gone = value != str(element.value) or value in ('', '0')
        if element.VR == 'TM':
          continue  # of a modified date the time stays
        if 'clean-descriptors' in tables.annex_e()[tag][2]:
          gone = not any(s in value for s in secrets)
        self.note('text_removed', gone, name)
        if action == 'D':
          self.note('text_notnull', bool(value), name)

  def _retained(self, element, after, kind, secrets, name, allowed):
    if not allowed:
      if element.VR != 'SQ':
        self.note('text_removed', element.tag not in after, name)
      return
    self.note('tag_retained', element.tag in after, name)
    if element.tag not in after:
      return
    new = after[element.tag]
    if element.VR == 'SQ':
      for i, (a, b) in enumerate(zip(element.value, new.value, strict=False)):
        self._elements(a, b, kind, secrets, f'{name}[{i}].')
    elif element.VR == 'UI':
      self._uid(element, after, name)
    else:
      text, told = str(new.value), str(element.value)
      if any(s in told for s in secrets):
        self.note('text_removed', not any(s in text for s in secrets), name)
      elif not isinstance(element.value, bytes):
        self.note('text_retained', _words(text) == _words(told), name)

  def _uid(self, element, after, name):
    new = after.get(element.tag)
    values = (
      [element.value] if isinstance(element.value, str) else element.value
    )
    found = [] if new is None else (
      [new.value] if isinstance(new.value, str) else new.value)  # fmt: skip
    for i, uid in enumerate(values or ()):
      if not uid or uid in UID_dictionary:
        continue
      now = str(found[i]) if found and i < len(found) else ''
      self.note('uid_changed', now and now != uid, name)
      self.note('uid_consistent', self._uids.setdefault(uid, now) == now, name)


def _words(text):
  return re.findall(r'[\w.+-]+', text)


def _pixels(before, after):
  """Whether the pixels are what they were; None where none can be decoded."""
  try:
    a = before.pixel_array
  except Exception:
    return None
  return np.array_equal(a, after.pixel_array)
