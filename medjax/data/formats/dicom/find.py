"""Which files below a folder are images, and which belong to one series."""

import collections
import dataclasses
import os
import pathlib

from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, quiet
from medjax.data.formats.dicom.frames import TAGS, size_of


class NoImagesError(DicomError):
  """A folder without any DICOM image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
  """The image files of one SeriesInstanceUID below a folder."""

  uid: str
  modality: str
  number: str
  files: tuple[pathlib.Path, ...]
  headers: tuple = dataclasses.field(repr=False)

  @property
  def placed(self):
    """Whether its files say where in the patient they lie."""
    return any(
      'ImagePositionPatient' in d or 'PerFrameFunctionalGroupsSequence' in d
      for d in self.headers
    )

  def __str__(self):
    size = size_of(self.headers[0], self.files[0])
    return (
      f'{self.modality or "?"} {len(self.files)} files {size[1]}x{size[0]} '
      f'{self.uid}'
    )


def is_series_folder(path):
  """Whether a folder itself (not its subfolders) holds a DICOM file.

  By suffix, else by the first bytes of its first few files.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return False
  names = sorted(p for p in path.iterdir() if not p.name.startswith('.'))
  if any(
    p.name.lower().endswith(header.SUFFIXES) and p.is_file() for p in names
  ):
    return True
  return any(is_dicom(p) for p in names[:16])


@quiet()
def list_series(folder, *, damaged=None):
  """The image series below a folder, in order of series number.

  Files that are not DICOM are passed over, as are DICOM objects that are no
  images (structure sets, segmentations, reports). A damaged DICOM file is a
  ValueError, since its slice would be missing; with a dict `damaged`, it goes
  there with its line instead.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  groups = collections.defaultdict(list)
  others, seen = collections.Counter(), 0
  for path in files_below(folder):
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
    if dataset.get('SOPClassUID') == '1.2.840.10008.1.3.10':  # a DICOMDIR
      continue
    modality = header.modality_of(dataset)
    if modality in header.NOT_IMAGES or size is None:
      others[modality or 'unknown'] += 1
      continue
    groups[str(dataset.get('SeriesInstanceUID') or '')].append((path, dataset))
  if not groups:
    found = ', '.join(f'{n} {k}' for k, n in others.items())
    raise NoImagesError(
      f'{folder}: no DICOM images among {seen} files'
      + (f' (but {found})' if found else '')
    )
  series = [
    Series(
      uid=uid,
      modality=header.modality_of(members[0][1]),
      number=str(members[0][1].get('SeriesNumber') or ''),
      files=tuple(p for p, _ in members),
      headers=tuple(d for _, d in members),
    )
    for uid, members in groups.items()
  ]
  return sorted(series, key=lambda s: (_order(s.number), s.uid))


def files_below(folder):
  """Regular files below a folder, sorted; hidden ones are left out."""
  for parent, folders, names in os.walk(folder):
    folders[:] = sorted(f for f in folders if not f.startswith('.'))
    for name in sorted(names):
      path = pathlib.Path(parent, name)
      if not name.startswith('.') and path.is_file():
        yield path


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
