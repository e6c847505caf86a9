"""What must be known of all files before one is made: `survey(paths)`.

A patient's identifiers are those of all its files, so that a name that one
header has is found in another's text, in whatever order they come.
"""

import collections
import dataclasses
import pathlib
import re

from medjax import files
from medjax.privacy import identifiers, nifti, objects, tables, values

_ENCAPSULATED = '1.2.840.10008.5.1.4.1.1.104.'
# Voices and what no one can look through.
_SPOKEN = ('1.2.840.10008.5.1.4.1.1.9.4.1', '1.2.840.10008.5.1.4.1.1.9.4.2')
_RAW = '1.2.840.10008.5.1.4.1.1.66'
# Parts of words, by which a header says that a face may be in the picture.
_HEAD = (
  'head', 'brain', 'skull', 'face', 'facial', 'neuro', 'mprage', 'cran', 'neck',
  'sinus', 'orbit', 'cereb', 'encef', 'encep', 'maxill', 'mandib', 'dental',
  'tmj', 'vertex', 'temporal', 'petrous', 'pituit', 'hypophys', 'hipofis',
  'ipofis', 'carotid', 'wholebody', 'ganzkorper', 'ganzkoerper', 'corpsentier',
  'cuerpoentero', 'hirn', 'kopf', 'schadel', 'schaedel', 'gesicht', 'kiefer',
  'hals', 'felsenbein', 'tete', 'rocher', 'cabez', 'cabec', 'cuello', 'testa',
  'hoofd', 'schedel', 'huvud', 'hjarn',
)  # fmt: skip
_HEAD_ALONE = frozenset((
  'ear', 'ears', 'eye', 'eyes', 'iac', 'iacs', 'jaw', 'nose', 'wb', 'cou',
  'collo',
))  # fmt: skip
# How a word begins, by which it says that the picture is of another part.
_ELSEWHERE = (
  'chest', 'thora', 'toraco', 'torax', 'torac', 'pulm', 'poumon', 'polmon',
  'breast', 'brust', 'mammo', 'mamma', 'cardi', 'coeur', 'coron', 'aort',
  'abdom', 'liver', 'leber', 'hepat', 'higado', 'fegato', 'foie', 'kidney',
  'niere', 'renal', 'pancrea', 'pankrea', 'spleen', 'enterog', 'pelvi',
  'becken', 'bassin', 'prostat', 'bladder', 'rectum', 'uter', 'ovar', 'spine',
  'tspine', 'lspine', 'cspine', 'lumb', 'wirbel', 'rachis', 'columna',
  'shoulder', 'schulter', 'epaule', 'hombro', 'spalla', 'elbow', 'ellenbogen',
  'wrist', 'handgelenk', 'huft', 'hueft', 'knee', 'knie', 'genou', 'rodilla',
  'ginocchio', 'ankle', 'sprunggelenk', 'cheville', 'tobillo', 'caviglia',
  'fuss', 'thigh', 'calf', 'femur', 'tibia', 'patell', 'humer', 'forearm',
  'finger', 'clavic', 'scapul', 'sternum', 'sacr', 'sspine', 'stomach',
  'esophag', 'oesophag', 'duoden', 'extremit', 'extremid', 'phantom',
)  # fmt: skip
_ELSEWHERE_ALONE = frozenset((
  'lung', 'lungs', 'lunge', 'heart', 'herz', 'abd', 'colon', 'hip', 'hips',
  'hand', 'hands', 'arm', 'arms', 'leg', 'legs', 'foot', 'feet',
))  # fmt: skip
_TOLD = (
  'BodyPartExamined', 'StudyDescription', 'SeriesDescription', 'ProtocolName',
)  # fmt: skip
_THIN = 3.0  # mm
NOBODY = 'study '  # and its UID, where no patient is named


@dataclasses.dataclass(frozen=True)
class Seen:
  """What the first look at a file found; `refused`: why it is not given away.

  patient: as all files of one person have it. head: whether a face could be
  made of its series.
  """

  path: pathlib.Path
  patient: str = ''
  sop_class: str = ''
  instance: str = ''
  series: str = ''
  about: tuple = ()
  birth: str = ''
  head: bool = False
  refused: str = ''


def look(path, options):
  """The `Seen` of one file."""
  if path.name.lower().endswith(nifti.SUFFIXES):
    return Seen(
      path, f'{NOBODY}{path}', nifti.KIND, instance=str(path), head=True
    )
  try:
    dataset = objects.read(path, pixels=False)
    return _seen(path, dataset, options)
  except objects.RefusedError as e:
    return Seen(path, refused=str(e))
  except OSError:
    return Seen(path, refused='not readable: no rights, or damaged storage')
  except MemoryError:
    return Seen(path, refused='does not fit into memory')
  except Exception as e:  # a header in a form that nobody foresaw
    return Seen(path, refused=f'not readable as DICOM ({type(e).__name__})')


def _seen(path, dataset, options):
  kind = str(dataset.SOPClassUID)
  refused = _why_not(kind)
  about = identifiers.gather(dataset, _retained(options))
  encodings = values.encodings_of(dataset, ('ascii',))

  def text(tag):
    element = dataset.get_item(tag) if tag in dataset else None
    return values.text(element, encodings) if element is not None else ''

  name, birth = text(0x00100020), text(0x00100030)
  study = text(0x0020000D) or str(dataset.SOPInstanceUID)
  return Seen(
    path,
    patient=name or f'{NOBODY}{study}',
    sop_class=kind,
    instance=str(dataset.SOPInstanceUID),
    series=text(0x0020000E) or study,
    about=tuple((k, tuple(sorted(v))) for k, v in sorted(about.items())),
    birth=birth,
    head=is_head(dataset),
    refused=refused,
  )


def _why_not(kind):
  if kind.startswith(_ENCAPSULATED):
    return 'an encapsulated document, whose content is not examined'
  if kind in _SPOKEN:
    return 'a recording of a voice'
  if kind == _RAW:
    return 'raw data, whose content is not examined'
  return '' if tables.allowed(kind) else 'its SOP class is unknown'


def _retained(options):
  """Tags of Annex E that an option says to keep."""
  return frozenset(t for t, a in tables.actions(options).items() if a == 'K')


def is_head(dataset):
  """Whether a series of thin slices may be of a head, by what its header says.

  No list has all words for a head: it is none only where another part is named.
  """
  try:
    if dataset.get('Modality') not in ('MR', 'CT', 'PT'):
      return False
    if 'PixelData' not in dataset and not dataset.get('Rows'):
      return False
    return _thickness(dataset) < _THIN and _may_have_face(dataset)
  except (TypeError, ValueError, AttributeError):
    return True  # unsure


def _may_have_face(dataset):
  told = files.composed(' '.join(str(dataset.get(k) or '') for k in _TOLD))
  joined = identifiers.normal(told)  # 'Whole Body', 'HEADNECK'
  words = {identifiers.normal(w) for w in re.findall(r'[^\W\d_]+', told)}
  if any(w in joined for w in _HEAD) or words & _HEAD_ALONE:
    return True
  return not (
    words & _ELSEWHERE_ALONE or any(w.startswith(_ELSEWHERE) for w in words)
  )


def _thickness(dataset):
  thick = dataset.get('SliceThickness')
  if thick in (None, ''):
    try:
      shared = dataset.SharedFunctionalGroupsSequence[0]
      thick = shared.PixelMeasuresSequence[0].SliceThickness
    except (AttributeError, IndexError):
      return 0.0
  return float(thick)


def patients(seen, key):
  """{patient: `Identifiers`} of all files; pseudonyms of the key are none."""
  about = collections.defaultdict(lambda: collections.defaultdict(set))
  for one in seen:
    about[one.patient]  # also of one who has none
    for kind, found in one.about:
      about[one.patient][kind] |= {t for t in found if not key.is_patient(t)}
  return {
    patient: identifiers.of_values(**{k: sorted(v) for k, v in kinds.items()})
    for patient, kinds in about.items()
  }


def doubtful(seen):
  """How many patient ids come with more than one date of birth."""
  births = collections.defaultdict(set)
  for one in seen:
    if one.birth and not one.refused:
      births[one.patient].add(one.birth)
  return sum(len(b) > 1 for b in births.values())


def without_doubles(seen):
  """The files, of which those that share a SOP instance with others are one.

  Copies that are the same, byte by byte, are one file; of those that differ
  none is given away: nobody knows which is the right one.
  """
  same = collections.defaultdict(list)
  for one in seen:
    if not one.refused:
      same[one.instance].append(one)
  kept, copies = [one for one in seen if one.refused], 0
  for group in same.values():
    if len(group) > 1 and len({files.digest_of(o.path) for o in group}) > 1:
      why = 'another file has its SOPInstanceUID and differs'
      kept += [dataclasses.replace(o, refused=why) for o in group]
    else:
      kept.append(min(group, key=lambda o: o.path))
      copies += len(group) - 1
  return sorted(kept, key=lambda o: o.path), copies
