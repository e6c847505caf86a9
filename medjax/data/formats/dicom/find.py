"""Which files below a folder are images, and which belong to one series."""

import collections
import dataclasses
import pathlib

from medjax.data import walk
from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, quiet
from medjax.data.formats.dicom.frames import TAGS, frames_of, size_of
from medjax.data.formats.dicom.stack import stack


class NoImagesError(DicomError):
  """A folder without any DICOM image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
  """The image files of one series below a folder.

  uid: its SeriesInstanceUID; where several patients, studies, modalities or
  series numbers share one, '#1', '#2', … stands behind it.
  notes: what was assumed of its files.
  """

  uid: str
  modality: str
  number: str
  files: tuple[pathlib.Path, ...]
  headers: tuple = dataclasses.field(repr=False)
  notes: tuple[str, ...] = ()

  @property
  def placed(self):
    """Whether its files say where in the patient they lie."""
    return any(
      'ImagePositionPatient' in d or 'PerFrameFunctionalGroupsSequence' in d
      for d in self.headers
    )

  @property
  def multiframe(self):
    """Whether it has several files of several frames each."""
    counts = {str(d.get('NumberOfFrames') or 1).strip() for d in self.headers}
    return len(self.files) > 1 and '1' not in counts

  def __str__(self):
    size = size_of(self.headers[0], self.files[0])
    return (
      f'{self.modality or "?"} {len(self.files)} files {size[1]}x{size[0]} '
      f'{self.uid}'
    )


def is_series_folder(path):
  """Whether a folder itself (not its subfolders) holds a DICOM file.

  By suffix, else by the first bytes of its first few files. A DICOMDIR, which
  lies beside folders of images, is none.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return False
  names = sorted(p for p in path.iterdir() if not p.name.startswith('.'))
  if any(
    p.name.lower().endswith(header.SUFFIXES) and p.is_file() for p in names
  ):
    return True
  files = [p for p in names if p.is_file() and not is_directory(p)]
  return any(is_dicom(p) for p in files[:16])


@quiet()
def list_series(folder, *, damaged=None):
  """The image series below a folder, in order of series number.

  Files that are not DICOM are passed over, as are DICOM objects that are no
  images (structure sets, segmentations, reports). A damaged DICOM file is a
  ValueError, since its slice would be missing; with a dict `damaged`, it goes
  there with its line instead, as does a folder that cannot be read.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  files = walk.files_below(folder, unreadable=damaged)
  return series_of(files, folder, damaged=damaged)


def series_of(files, where, *, damaged=None):
  """The image series among files, as `list_series` has those of a folder.

  A series is of one patient, study, modality and series number, whatever its
  uid says.
  """
  groups = collections.defaultdict(list)
  others, seen = collections.Counter(), 0
  for path in files:
    seen += 1
    try:
      if not is_dicom(path):
        continue
      dataset = header.load(path, pixels=False, tags=list(TAGS))
      size = size_of(dataset, path)
    except (DicomError, OSError) as e:
      if damaged is None:
        raise
      damaged[path] = str(e)
      continue
    if header.is_directory(dataset):
      continue
    modality = header.modality_of(dataset)
    if modality in header.NOT_IMAGES or size is None:
      others[modality or 'unknown'] += 1
      continue
    groups[_identity(dataset)].append((path, dataset))
  if not groups:
    found = ', '.join(f'{n} {k}' for k, n in others.items())
    raise NoImagesError(
      f'{where}: no DICOM images among {seen} files'
      + (f' (but {found})' if found else '')
    )
  series = _joined([_series(members) for members in groups.values()])
  shared = collections.Counter(s.uid for s in series)
  order = sorted(
    series, key=lambda s: (_order(s.number), s.uid, _identity(s.headers[0]))
  )
  count = collections.Counter()
  for k, one in enumerate(order):
    if shared[one.uid] > 1:
      count[one.uid] += 1
      order[k] = dataclasses.replace(one, uid=f'{one.uid}#{count[one.uid]}')
  return order


def _identity(dataset):
  """What the files of a series agree in: its uid, patient, study and kind."""
  keywords = (
    'SeriesInstanceUID', 'PatientID', 'StudyInstanceUID', 'Modality',
    'SeriesNumber',
  )  # fmt: skip
  return tuple(str(dataset.get(k) or '').strip() for k in keywords)


def _series(members, notes=()):
  files, headers = zip(*members, strict=True)
  return Series(
    uid=str(headers[0].get('SeriesInstanceUID') or ''),
    modality=header.modality_of(headers[0]),
    number=str(headers[0].get('SeriesNumber') or ''),
    files=files,
    headers=headers,
    notes=notes,
  )


def _joined(series):
  """Series of one slice each, put together where they make a volume.

  Some scanners give each slice a SeriesInstanceUID of its own. Such slices
  agree in patient, study, frame of reference, series number and kind, and lie
  evenly side by side.
  """
  kept, alone = [], collections.defaultdict(list)
  for one in series:
    key = _kind(one)
    if key is None:
      kept.append(one)
    else:
      alone[key].append(one)
  for slices in alone.values():
    whole = _side_by_side(slices) if len(slices) > 1 else None
    kept += slices if whole is None else [whole]
  return kept


def _kind(series):
  """What slices of one volume agree in; None unless it is one slice."""
  dataset = series.headers[0]
  if len(series.files) > 1 or not series.number:
    return None
  if not dataset.get('ImagePositionPatient') or dataset.get('NumberOfFrames'):
    return None
  _, *identity = _identity(dataset)
  frame = str(dataset.get('FrameOfReferenceUID') or '')
  kind = [str(dataset.get(k)) for k in ('SOPClassUID', 'ImageType', 'EchoTime')]
  return (*identity, frame, series.number, *kind) if frame else None


def _side_by_side(slices):
  """The `Series` of slices that lie evenly; None where they do not."""
  members = [(s.files[0], s.headers[0]) for s in slices]
  try:
    stack([f for path, d in members for f in frames_of(d, path)], '')
  except DicomError:
    return None
  said = f'{len(slices)} series of one slice each are taken as one'
  return _series(members, (said,))


def is_directory(path):
  """Whether a file is called as the list of a medium is."""
  return path.name.upper() == 'DICOMDIR'


def is_dicom(path):
  """Whether a file is DICOM, by its suffix or its first bytes."""
  if not path.is_file() or path.name.startswith('.'):
    return False
  if path.name.lower().endswith(header.SUFFIXES):
    return True
  with path.open('rb') as f:
    return header.matches(f.read(132))


def _order(number):
  return (0, int(number)) if number.isdecimal() else (1, 0)
