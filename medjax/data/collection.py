"""A folder of DICOM files, however nested, as the series of its patients.

Builders list a collection with `find_series`, which reads headers only, and
read the series they want with `formats.dicom.read_files(s.files)`.
"""

import collections
import dataclasses
import os
import pathlib

from medjax.data import walk
from medjax.data.formats import dicom
from medjax.data.formats.dicom import header

_TAGS = [
  'PatientID',
  'StudyInstanceUID',
  'SeriesInstanceUID',
  'SOPClassUID',
  'Modality',
  'FrameOfReferenceUID',
  'ReferencedFrameOfReferenceSequence',
  'ReferencedSeriesSequence',
]


@dataclasses.dataclass(frozen=True)
class Series:
  """One series: its ids, its files, and what it refers to.

  `frame` is the frame of reference, `refers` the uids of the series that a
  segmentation or structure set was drawn on.
  """

  patient: str
  study: str
  uid: str
  modality: str
  frame: str
  refers: frozenset[str]
  files: tuple[pathlib.Path, ...]

  @property
  def folder(self):
    """The folder that holds all of its files."""
    parents = {p.parent for p in self.files}
    return pathlib.Path(os.path.commonpath(parents))


def find_series(root):
  """The `Series` below a folder, in order of patient, study and uid.

  Raises FileNotFoundError where there is no DICOM file, ValueError for one that
  is damaged or names no patient.
  """
  groups, about = collections.defaultdict(list), {}
  for path in filter(dicom.is_dicom, walk.files_below(root)):
    dataset = header.load(path, pixels=False, tags=_TAGS)
    if header.is_directory(dataset):
      continue
    key = (
      *(
        str(dataset.get(k) or '').strip()
        for k in ('PatientID', 'StudyInstanceUID', 'SeriesInstanceUID')
      ),
      header.modality_of(dataset),
    )
    if not key[0]:
      raise ValueError(
        f'{path}: has no PatientID, without which no split is safe; mend the '
        'header'
      )
    groups[key].append(path)
    if key not in about:
      with header.parsing(path):
        about[key] = _references(dataset)
  if not groups:
    raise FileNotFoundError(f'{root}: holds no DICOM files')
  return [
    Series(*key, *about[key], tuple(groups[key])) for key in sorted(groups)
  ]


def _references(dataset):
  """(frame of reference, uids of the series referred to)."""
  frame = dataset.get('FrameOfReferenceUID')
  items = list(dataset.get('ReferencedSeriesSequence') or ())
  for place in dataset.get('ReferencedFrameOfReferenceSequence') or ():
    frame = place.get('FrameOfReferenceUID') or frame
    for study in place.get('RTReferencedStudySequence') or ():
      items += study.get('RTReferencedSeriesSequence') or ()
  uids = frozenset(str(i.get('SeriesInstanceUID') or '') for i in items)
  return str(frame or ''), uids - {''}
