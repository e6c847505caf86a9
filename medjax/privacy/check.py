"""Looks in de-identified files for whatever identifies in those they came of.

Nothing is taken from the program that made them but the words of what to look
for: every element of every file is decoded and compared, and the text that lies
in its bytes, wherever it lies.
"""

import collections
import dataclasses
import datetime
import functools
import operator
import pathlib
import re

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.uid import UID_dictionary

from medjax import files, progress
from medjax.data import walk
from medjax.privacy import (
  dates,
  header,
  identifiers,
  nifti,
  objects,
  record,
  survey,
  tables,
  values,
  words,
)
from medjax.privacy.finder import NUMBER, Finder
from medjax.reports import page

_MEASURED = ('DS', 'IS', 'TM', 'AS')  # any digits may be in there
_TEXTS = re.compile(rb'[\x20-\x7e]{6,}')
_WIDE = re.compile(rb'(?:[\x20-\x7e]\0){6,}')
_SHOWN = 200


@dataclasses.dataclass
class Found:
  """hits: [(file, place, what kind)], never the value. files: looked through.

  unstamped: files that do not say that the identity was removed. dates_unseen:
  dates are shifted, and without a key nobody knows whose one is.
  """

  files: int = 0
  values: int = 0
  patients: int = 0
  looked_for: int = 0
  hits: list = dataclasses.field(default_factory=list)
  unstamped: int = 0
  dates_unseen: bool = False
  unreadable: int = 0


def check(out, against, *, key=None):
  """`Found` of the files below `out`, by the identifiers below `against`.

  Every text of five or more characters of any patient is looked for in every
  file; shorter names, and words of medicine, only in the files of their own
  patient, which takes the `Key` to know. Dates are those of anybody, or where
  they are shifted those of the same patient, which takes the key, too. Raises
  ValueError of one line where either has no DICOM and no NIfTI file.
  """
  out, against = pathlib.Path(out), pathlib.Path(against)
  options = _options(out)
  known, uids, days = _known(against, options)
  everyone = functools.reduce(
    operator.or_, known.values(), identifiers.Identifiers()
  )
  paths = _files(out)
  found = Found(patients=len(known), looked_for=len(everyone.texts))
  ordinary = words.vocabulary()
  rare = {t for t in everyone.texts if not ordinary & {t, t[::-1]}}
  everyone = dataclasses.replace(everyone, words=frozenset(), texts=rare)
  finder = Finder(everyone)
  own = {}
  if key is not None:
    own = {_pseudonym(p, key): Finder(k) for p, k in known.items()}
  found.dates_unseen = 'retain-modified-dates' in options and key is None
  whose = _whose(days, options, key)
  with progress.bar('checking', len(paths)) as advance:
    for path in paths:
      _check_file(
        path, path.relative_to(out), (finder, own), uids, whose, found
      )
      advance()
  if not found.files:
    raise ValueError(f'{out}: holds no DICOM or NIfTI file')
  found.hits.sort()
  return found


def _options(out):
  made = files.read_json(out / record.NAME, mend='de-identify again') or {}
  return tuple(o for o in made.get('options', ()) if o in tables.OPTIONS)


def _files(folder):
  if not folder.exists():
    raise FileNotFoundError(f'{folder}: no such file or folder')
  if folder.is_file():
    return [folder]
  paths = walk.files_below(folder, unreadable={})
  return [p for p in paths if p.name != record.NAME]


def _known(against, options):
  """What identifies in the files of a folder: by patient; UIDs; its dates."""
  retained = {t for t, a in tables.actions(options).items() if a == 'K'}
  uids, days = set(), collections.defaultdict(set)
  about = collections.defaultdict(lambda: collections.defaultdict(set))
  paths = _files(against)
  for path in paths:
    try:
      dataset = objects.read(path, pixels=False)
    except (objects.RefusedError, OSError):
      continue
    patient = str(dataset.get('PatientID') or '').strip(' \0')
    study = dataset.get('StudyInstanceUID') or dataset.SOPInstanceUID
    patient = patient or f'{survey.NOBODY}{study}'
    for kind, texts in identifiers.gather(dataset, retained).items():
      about[patient][kind] |= texts
    for _, element, vr in _elements(dataset):
      if vr == 'UI' and 'retain-uids' not in options:
        uids |= {
          u
          for u in values.text(element).split('\\')
          if u.count('.') > 3 and u not in UID_dictionary
        }
      if vr in ('DA', 'DT') and 'retain-full-dates' not in options:
        days[patient] |= _days(element)
  if not about and not any(map(_is_nifti, paths)):
    raise ValueError(f'{against}: holds no DICOM or NIfTI file')
  known = {
    patient: identifiers.of_values(**{k: sorted(v) for k, v in kinds.items()})
    for patient, kinds in about.items()
  }
  return known, uids, days


def _days(element):
  """Dates of an element, of a time with its date as well; dummies are none."""
  found = {text[:8] for text in values.text(element).split('\\')}
  return {d for d in found if len(d) == 8 and d != dates.DUMMIES['DA']}


def _pseudonym(patient, key):
  if not patient.startswith(survey.NOBODY):
    return key.patient(patient)
  study = patient.removeprefix(survey.NOBODY)
  return key.patient(f'{survey.NOBODY}{key.uid(study)}')


def _whose(days, options, key):
  """({pseudonym: dates that it may not have}, dates that others may not have).

  A date that was shifted may be one of somebody else's by chance, and one that
  the same patient has.
  """
  everyone = set().union(*days.values())
  if 'retain-modified-dates' not in options:
    return {}, everyone
  if key is None:
    return {}, set()
  own = {}
  for patient, found in days.items():
    shifted = {dates.shifted(d, 'DA', key.days(patient)) for d in found}
    own[_pseudonym(patient, key)] = found - shifted
  return own, everyone


def _elements(dataset, place=''):
  """(place, element, VR) of all elements at any depth but pixels."""
  for tag in list(dataset.keys()):
    if tag in header.PIXELS:
      continue
    element = dataset.get_item(tag)
    vr = values.vr_of(element) or 'UN'
    name = place + (keyword_for_tag(tag) or str(tag))
    if vr == 'SQ' or element.VR == 'SQ':
      try:
        items = list(dataset[tag].value or ())
      except Exception:
        yield name, element, 'OB'
        continue
      for item in items:
        yield from _elements(item, f'{name}.')
    else:
      yield name, element, vr


def _is_nifti(path):
  return path.name.lower().endswith(nifti.SUFFIXES)


def _check_file(path, name, finders, uids, whose, found):
  everyone, own = finders
  if everyone.in_text(str(name), words=False):
    found.hits.append(('(a file)', 'its name', 'identifier'))
  if _is_nifti(path):
    _check_nifti(path, name, found)
    return
  try:
    dataset = pydicom.dcmread(path)
    encodings = values.encodings_of(dataset, ('ascii',))
    elements = list(_elements(dataset))
  except Exception:  # not made by us
    _unreadable(name, 'DICOM', found)
    return
  found.files += 1
  found.unstamped += dataset.get('PatientIdentityRemoved') != 'YES'
  patient = dataset.get('PatientID')
  finder = own.get(patient, everyone)
  days = whose[0].get(patient, whose[1])
  for place, element, vr in elements:
    found.values += 1
    what = _kind_of_hit(element, vr, encodings, everyone, uids, days)
    if not what and finder is not everyone:
      what = _kind_of_hit(element, vr, encodings, finder, uids, days)
    if what:
      found.hits.append((str(name), place, what))
  _check_bytes(path, name, everyone, elements, found)


def _unreadable(name, kind, found):
  found.unreadable += 1
  found.hits.append((str(name), 'file', f'is no readable {kind} file'))


def _check_nifti(path, name, found):
  """A NIfTI file may have no text: it does not say whose it would be."""
  try:
    texts = nifti.texts(path.read_bytes())
  except objects.RefusedError:
    _unreadable(name, 'NIfTI', found)
    return
  found.files += 1
  found.hits += [(str(name), place, 'text') for place in texts]


def _kind_of_hit(element, vr, encodings, finder, uids, days):
  """What is wrong with an element, '' for nothing."""
  tag = element.tag
  if tag.group & 1 and tag.element >= 0x1000:
    creator = tag.group, tag.element & 0xFF
    if not any(creator == entry[1:] for entry in tables.safe_private()):
      return 'private attribute'
  if vr == 'UI':
    text = values.text(element)
    return 'UID' if uids.intersection(text.split('\\')) else ''
  if vr in ('DA', 'DT'):
    return 'date' if days & _days(element) else ''
  if not values.is_string(vr):
    return ''
  text = values.text(element, encodings)
  if vr in _MEASURED:
    whole = vr != 'TM' and any(map(finder.is_number, text.split('\\')))
    return 'identifier' if whole or finder.in_letters(text) else ''
  short = tag not in header.STRUCTURE
  return 'identifier' if finder.in_text(text, words=short) else ''


def _check_bytes(path, name, finder, elements, found):
  """Looks at runs of letters in the bytes of a file, UIDs aside.

  A long number is one that no measured value or date of the file is.
  """
  data = path.read_bytes()
  runs = [m.group().decode('ascii') for m in _TEXTS.finditer(data)]
  runs += [m.group()[::2].decode('ascii') for m in _WIDE.finditer(data)]
  numbers, letters = set(), False
  for run in runs:
    run = re.sub(r'[\d.]{20,}', ' ', run)
    numbers |= finder.numbers_in(run)
    letters = letters or finder.in_letters(run)
  if numbers:
    numbers -= {
      n
      for _, element, vr in elements
      if vr in (*_MEASURED, 'DA', 'DT')
      for n in NUMBER.findall(values.text(element))
    }
  if letters or numbers:
    found.hits.append((str(name), 'bytes of the file', 'identifier'))


def lines(found):
  """The result as lines of text."""
  yield (
    f'{found.files} files, {found.values} values, and the bytes of the files '
    f'were searched for {found.looked_for} texts of {found.patients} patients'
  )
  kinds = collections.Counter(kind for _, _, kind in found.hits)
  yield f'{len(found.hits)} hits' + (
    ': ' + ', '.join(f'{n} {k}' for k, n in kinds.most_common())
    if kinds
    else ''
  )
  for name, place, kind in found.hits[:20]:
    yield f'  {name}: {place}: {kind}'
  if len(found.hits) > 20:
    yield f'  … and {len(found.hits) - 20} more'
  if found.dates_unseen:
    yield (
      'dates were not compared: they are shifted, and without --key nobody '
      'knows whose a date is'
    )
  if found.unstamped:
    yield (
      f'{found.unstamped} files do not say YES in PatientIdentityRemoved: '
      'their pixels were not looked through'
    )


def write_report(found, path):
  """Writes the result as one HTML page; returns its path."""
  text = page.render(
    'check.html.jinja',
    title='De-identification',
    kind='',
    written=datetime.date.today().isoformat(),
    found=dataclasses.asdict(found),
    hits=found.hits[:_SHOWN],
    more=max(len(found.hits) - _SHOWN, 0),
  )
  files.write_text(path, text)
  return path
