"""`record.json`: what a run did, by which rule; what is to be filled in."""

import collections
import datetime
import getpass
import os

from pydicom.datadict import keyword_for_tag
from pydicom.uid import UID

from medjax import __version__, files
from medjax.privacy import tables

NAME = 'record.json'
_COLUMNS = ('source', 'file', 'reason')
STATE = (
  'pseudonymised, not anonymous: whoever has the key, or the originals, can '
  'say who it is'
)
# 45 CFR 164.514(b)(2)(i), and which rule of this program handles each.
SAFE_HARBOR = (
  ('A names', 'VR PN and Table E.1-1: removed, emptied or REMOVED; PatientName '
   'is the pseudonym; the names of the header are looked for in every text'),
  ('B geographic subdivisions', 'Table E.1-1: addresses, institutions, regions '
   'and locations removed; --options=retain-institution keeps institutions'),
  ('C dates, and ages over 89', 'Table E.1-1: removed or dummies; with '
   'retain-modified-dates shifted by one number of days per patient; birth '
   'dates emptied; ages over 89 are 090Y'),
  ('D telephone numbers', 'Table E.1-1; rows of digits in texts removed'),
  ('E fax numbers', 'as telephone numbers'),
  ('F e-mail addresses', 'Table E.1-1 removed; unknown words in texts removed'),
  ('G social security numbers', 'as medical record numbers'),
  ('H medical record numbers', 'PatientID is a keyed pseudonym, others '
   'removed; looked for in every text and number'),
  ('I health plan beneficiary numbers', 'Table E.1-1 removed'),
  ('J account numbers', 'Table E.1-1: accession, admission, order numbers '
   'emptied or removed'),
  ('K certificate and licence numbers', 'no SOP class has them; unknown '
   'attributes removed'),
  ('L vehicle identifiers', 'as certificate numbers'),
  ('M device identifiers and serial numbers', 'Table E.1-1: removed or a '
   'dummy; --options=retain-device keeps them'),
  ('N URLs', 'VR UR and Table E.1-1: removed'),
  ('O IP addresses', 'AE titles, network names and addresses removed'),
  ('P biometric identifiers', 'voices and raw data quarantined'),
  ('Q full-face photographs', 'photographs quarantined unless --trust-pixels; '
   'thin series of heads quarantined unless --faces says otherwise'),
  ('R any other unique number or code', 'UIDs replaced by keyed ones, private '
   'attributes removed, what neither Annex E nor the SOP class names removed'),
)  # fmt: skip
# GDPR Article 30(1): what only the controller can say.
ARTICLE_30 = (
  'name and contact of the controller', 'data protection officer',
  'purposes of the processing', 'categories of recipients',
  'transfers to a third country and their safeguards',
  'time limits for erasure', 'legal basis (Article 6, Article 9)',
)  # fmt: skip
_BLANK = '(to be filled in)'


def check_folder(out, plan, key):
  """Raises ValueError where a folder has files that were made otherwise.

  One record speaks for all files of a folder, those of earlier runs included.
  """
  earlier = files.read_json(out / NAME, mend='choose another folder')
  if earlier is None:
    return
  now = _settings(plan, key)
  other = [f'--{k.replace("_", "-")}' for k in now if earlier.get(k) != now[k]]
  if other:
    raise ValueError(
      f'{out}: holds files that were made with another '
      f'{" and ".join(other).replace("--key-id", "--key")}; give a folder of '
      'its own, or delete this one'
    )


def _settings(plan, key):
  return {
    'options': ['basic', *plan.options],
    'trust_pixels': plan.trust_pixels,
    'faces': plan.faces,
    'key_id': key.id,
  }


def make(done, plan, key, *, kept, source):
  """The record of a run as a dict; nothing in it is from a patient.

  kept: whether the key lies in a file. source: where the files lay, for the
  digests that name refused ones.
  """
  reasons = collections.Counter(why for _, why in done.refused)
  by_rule = collections.Counter()
  tags = collections.defaultdict(dict)
  for (tag, action, rule), n in sorted(done.actions.items()):
    by_rule[f'{rule}: {_WORDS[action]}'] += n
    name = _name_of(tag)
    tags[name][action] = tags[name].get(action, 0) + n
  return {
    'tool': f'medjax {__version__}, medjax.privacy deidentify',
    'standard': f'DICOM PS3.15 {tables.EDITION}, Annex E, Tables E.1-1, '
    'E.3.4-1, E.3.10-1',
    'profile': [tables.BASIC[0], *(tables.OPTIONS[o][0] for o in plan.options)],
    **_settings(plan, key),
    'state': STATE if kept else 'pseudonymised with a random key that was not '
    'kept: another run gives unrelated pseudonyms',
    'run_by': _account(),
    'run_on': datetime.date.today().isoformat(),
    'counts': {
      'patients': len(done.people),
      'files_written': done.written,
      'files_quarantined': len(done.refused),
      'same_files_left_out': done.copies,
      'files_whose_pixels_were_examined': done.examined,
      'boxes_of_text_blanked': done.boxes,
      'files_without_a_face': done.faced,
      'files_of_an_earlier_run_removed': done.taken_back,
      'patient_ids_with_several_birth_dates': done.doubtful,
    },
    'sop_classes': {
      UID(k).name if k[0].isdigit() else k: n
      for k, n in sorted(done.kinds.items())
    },
    'quarantine_by_reason': dict(reasons.most_common()),
    'quarantine': [
      {'file': key.digest('file', _place(path, source)), 'reason': why}
      for path, why in done.refused
    ],
    'by_rule': dict(sorted(by_rule.items())),
    'by_attribute': dict(sorted(tags.items())),
    'safe_harbor': [{'identifier': i, 'rule': r} for i, r in SAFE_HARBOR],
    'gdpr_article_30': {
      'categories of data subjects': 'patients',
      'categories of personal data': 'health data in medical images, '
      'pseudonymised',
      'technical measures': f'PS3.15 {tables.EDITION} Annex E; key kept apart',
      **dict.fromkeys(ARTICLE_30, _BLANK),
    },
  }  # fmt: skip


def _account():
  try:
    return getpass.getuser()
  except (KeyError, OSError):  # a container without accounts
    return _BLANK


_WORDS = {
  'X': 'removed', 'Z': 'emptied', 'D': 'dummy', 'U': 'UID replaced',
  'K': 'kept', 'C': 'cleaned', 'W': 'sequence looked through',
}  # fmt: skip


def _place(path, source):
  return str(path.relative_to(source)) if path != source else path.name


def _name_of(tag):
  """An attribute's keyword; of a private one, that it is private."""
  if tag >> 16 & 1:
    return 'private'
  return keyword_for_tag(tag) or f'{tag >> 16:04x},{tag & 0xFFFF:04x}'


def write(out, record):
  """Writes the record into the folder of the results."""
  files.write_json(out / NAME, record, sealed=True)
  return out / NAME


def write_quarantine(path, done, source):
  """Which file was refused, for those who may know: beside the key alone.

  The list is of all that its key was used for: a run replaces the lines of its
  own source. Its owner alone may read it, as file names may name patients.
  """
  where, earlier = str(source.resolve()), []
  if path.exists():
    earlier, _ = files.read_csv(path, mend='delete it')
  lines = [row for row in earlier if row.get('source') != where]
  lines += [
    {'source': where, 'file': _place(p, source), 'reason': why}
    for p, why in done.refused
  ]
  mask = os.umask(0o077)
  try:
    files.write_csv(path, lines, columns=_COLUMNS)
  finally:
    os.umask(mask)
