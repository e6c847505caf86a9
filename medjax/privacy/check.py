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
  header,
  identifiers,
  objects,
  record,
  tables,
  values,
  words,
)
from medjax.reports import page

_GRAM = 5
_TEXTS = re.compile(rb'[\x20-\x7e]{6,}')
_WIDE = re.compile(rb'(?:[\x20-\x7e]\0){6,}')
_SHOWN = 200


@dataclasses.dataclass
class Found:
  """hits: [(file, place, what kind)], never the value. files: looked through.

  unstamped: files that do not say that the identity was removed.
  """

  files: int = 0
  values: int = 0
  patients: int = 0
  looked_for: int = 0
  hits: list = dataclasses.field(default_factory=list)
  unstamped: int = 0
  unreadable: int = 0


class Finder:
  """Finds many texts in one at a time: by their first five characters."""

  def __init__(self, known):
    self._words = set(known.words) | {w[::-1] for w in known.words}
    self._grams = collections.defaultdict(list)
    for text in known.texts:
      self._grams[text[:_GRAM]].append(text)
    self._codes = collections.defaultdict(list)
    for code in known.codes:
      self._codes[code[:_GRAM]].append(code)

  def in_text(self, text, *, words=True):
    """Whether a text holds one of them."""
    if words and any(
      identifiers.normal(w) in self._words for w in re.findall(r'[^\W_]+', text)
    ):
      return True
    plain = identifiers.normal(text)
    return _holds(plain, self._grams) or _holds(text, self._codes)


def _holds(text, grams):
  return any(
    text.startswith(t, i)
    for i in range(len(text) - _GRAM + 1)
    for t in grams.get(text[i : i + _GRAM], ())
  )


def check(out, against, *, key=None):
  """`Found` of the files below `out`, by the identifiers below `against`.

  Every text of five or more characters of any patient is looked for in every
  file; shorter names, and words of medicine, only in the files of their own
  patient, which takes the `Key` to know. Raises ValueError of one line where
  either has no DICOM file.
  """
  out, against = pathlib.Path(out), pathlib.Path(against)
  known, uids, dates = _known(against, _options(out))
  everyone = functools.reduce(operator.or_, known.values())
  paths = _files(out)
  found = Found(patients=len(known), looked_for=len(everyone.texts))
  ordinary = words.vocabulary()
  rare = {t for t in everyone.texts if not ordinary & {t, t[::-1]}}
  everyone = identifiers.Identifiers(texts=rare, codes=everyone.codes)
  finder = Finder(everyone)
  own = {}
  if key is not None:
    own = {key.patient(p): Finder(k) for p, k in known.items()}
  with progress.bar('checking', len(paths)) as advance:
    for path in paths:
      _check_file(
        path, path.relative_to(out), (finder, own), uids, dates, found
      )
      advance()
  if not found.files:
    raise ValueError(f'{out}: holds no DICOM file')
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
  """What identifies in the files of a folder: by patient; UIDs; dates."""
  retained = {t for t, a in tables.actions(options).items() if a == 'K'}
  known, uids, dates = {}, set(), set()
  about = collections.defaultdict(lambda: collections.defaultdict(set))
  for path in _files(against):
    try:
      dataset = objects.read(path, pixels=False)
    except (objects.RefusedError, OSError):
      continue
    patient = str(dataset.get('PatientID') or '')
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
        dates.add(values.text(element)[:8])
  if not about:
    raise ValueError(f'{against}: holds no DICOM file')
  for patient, kinds in about.items():
    known[patient] = identifiers.of_values(
      **{k: sorted(v) for k, v in kinds.items()}
    )
  return known, uids, {d for d in dates if len(d) == 8}


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


def _check_file(path, name, finders, uids, dates, found):
  try:
    dataset = pydicom.dcmread(path)
    encodings = values.encodings_of(dataset, ('ascii',))
    elements = list(_elements(dataset))
  except Exception:  # not made by us
    found.unreadable += 1
    found.hits.append((str(name), 'file', 'is no readable DICOM file'))
    return
  found.files += 1
  found.unstamped += dataset.get('PatientIdentityRemoved') != 'YES'
  everyone, own = finders
  finder = own.get(dataset.get('PatientID'), everyone)
  if everyone.in_text(str(name), words=False):
    found.hits.append(('(a file)', 'its name', 'identifier'))
  for place, element, vr in elements:
    found.values += 1
    what = _kind_of_hit(element, vr, encodings, everyone, uids, dates)
    if not what and finder is not everyone:
      what = _kind_of_hit(element, vr, encodings, finder, uids, dates)
    if what:
      found.hits.append((str(name), place, what))
  _check_bytes(path, name, everyone, found)


def _kind_of_hit(element, vr, encodings, finder, uids, dates):
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
    text = values.text(element)
    return 'date' if text[:8] in dates and text[:8] != '19000101' else ''
  if values.is_string(vr):
    text = values.text(element, encodings)
    short = tag not in header.STRUCTURE
    return 'identifier' if finder.in_text(text, words=short) else ''
  return ''


def _check_bytes(path, name, finder, found):
  """Looks at runs of letters in the bytes of a file, UIDs aside."""
  data = path.read_bytes()
  runs = [m.group().decode('ascii') for m in _TEXTS.finditer(data)]
  runs += [m.group()[::2].decode('ascii') for m in _WIDE.finditer(data)]
  for run in runs:
    run = re.sub(r'[\d.]{20,}', ' ', run)
    if finder.in_text(run, words=False):
      found.hits.append((str(name), 'bytes of the file', 'identifier'))
      return


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
