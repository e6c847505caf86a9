"""Label maps as DICOM SEG: `write_segmentation(path, labels, source)`."""

import dataclasses
import datetime
import pathlib

import numpy as np
import pydicom

from medjax import __version__
from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, quiet
from medjax.data.formats.dicom.find import list_series
from medjax.data.formats.dicom.frames import frames_of
from medjax.data.formats.dicom.series import distinct
from medjax.data.formats.dicom.stack import stack

# SNOMED CT codes of a segment's category and type: that it is tissue is all
# that a class name tells for sure.
TISSUE = ('85756007', 'SCT', 'Tissue')
# Of its source a SEG repeats these and no more: comments, addresses, stations
# and operators stay where they are. Type 2 elements may be empty, PS3.5 7.4.3.
_EMPTY = (
  'PatientID', 'PatientName', 'PatientBirthDate', 'PatientSex', 'StudyID',
  'StudyDate', 'StudyTime', 'AccessionNumber', 'ReferringPhysicianName',
)  # fmt: skip
_UTF_8 = 'ISO_IR 192'
# Those that need no code extensions, PS3.3 C.12.1.1.2.
_SETS = (
  'ISO_IR 100', 'ISO_IR 101', 'ISO_IR 109', 'ISO_IR 110', 'ISO_IR 144',
  'ISO_IR 127', 'ISO_IR 126', 'ISO_IR 138', 'ISO_IR 148', 'ISO_IR 13',
  'ISO_IR 166', 'GB18030', 'GBK', _UTF_8,
)  # fmt: skip
_NEEDED = (
  'SOPClassUID', 'SOPInstanceUID', 'StudyInstanceUID', 'SeriesInstanceUID',
  'Modality', 'Rows', 'Columns',
)  # fmt: skip
_USED = (
  'PatientOrientation', 'SpecificCharacterSet', 'FrameOfReferenceUID',
  'PositionReferenceIndicator',
  'NumberOfFrames', 'ImagePositionPatient', 'ImageOrientationPatient',
  'PixelSpacing', 'SliceThickness', 'SpacingBetweenSlices',
  'SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence',
  'LossyImageCompression', 'LossyImageCompressionRatio',
  'LossyImageCompressionMethod',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Identity:
  """What makes a DICOM SEG the same object each time that it is written.

  uid, series, dimensions, tracking: UIDs of it, of its series, of its dimension
    organization, and of each segment.
  moment: when its content was made.
  algorithm: (name, version).
  codes: ((value, scheme, meaning) of the category, that of the type) of each
    segment.
  """

  uid: str
  series: str
  dimensions: str
  tracking: tuple[str, ...]
  moment: datetime.datetime
  algorithm: tuple[str, str]
  codes: tuple


@quiet()
def write_segmentation(path, labels, source, *, class_names, identity=None):
  """Writes a label map as a DICOM SEG that refers to its source images.

  labels: (*spatial,) on the grid of `read(source)`. source: the file, or the
  folder of the series, that was read. class_names: background first; segment k
  is called `class_names[k]`. The SEG repeats of its source what the standard
  demands: patient, study and place. With an `Identity` the same labels give the
  same bytes; without, each is a new object, of tissue. Needs highdicom. Raises
  ValueError for labels off the grid or without a name, and sources that are no
  whole DICOM.
  """
  try:
    import highdicom as hd
  except ImportError:
    raise DicomError(
      f'{path}: writing a DICOM SEG needs highdicom; pip install medjax[dicom]'
    ) from None
  labels = np.asarray(labels)
  highest = _highest(labels, class_names, path)
  datasets, frames, array = _on_frames(labels, pathlib.Path(source))
  number = max(_series_number(datasets[0]), 0) + 100
  datasets = _sources(datasets, frames, labels.ndim, source)
  identity = identity or _new(len(class_names))
  description = [_segment(hd, n, class_names[n], identity)
                 for n in range(1, len(class_names))]  # fmt: skip
  try:
    seg = hd.seg.Segmentation(
      source_images=datasets,
      pixel_array=array.astype(np.uint8 if highest < 256 else np.uint16),
      segmentation_type='BINARY',
      segment_descriptions=description,
      series_instance_uid=identity.series,
      series_number=number,
      sop_instance_uid=identity.uid,
      instance_number=1,
      manufacturer='medjax',
      manufacturer_model_name='medjax',
      software_versions=__version__,
      device_serial_number='0',
      content_label='SEGMENTATION',
      series_description='Segmentation by medjax',
      **_places(hd, datasets, frames),
    )
    _drop_half_measures(seg)
    if labels.ndim == 2:  # type 2C, PS3.3 C.7.6.1
      seg.PatientOrientation = datasets[0].get('PatientOrientation', '')
    _identify(seg, identity)
    seg.save_as(path)
  except AttributeError as e:
    raise DicomError(
      f'{source}: its headers lack {e.name or "an element"}, which a DICOM SEG '
      'repeats of its source; mend them, or write .nii.gz'
    ) from None
  except (KeyError, TypeError, ValueError) as e:  # may quote the header
    raise DicomError(
      f'{source}: its headers are none that a DICOM SEG can refer to '
      f'({type(e).__name__}); write .nii.gz'
    ) from None


def _highest(labels, class_names, path):
  """The highest label. Raises DicomError for one without a name."""
  highest = int(labels.max())
  if highest >= len(class_names) or labels.min() < 0 or len(class_names) < 2:
    raise DicomError(
      f'{path}: labels go to {highest}, but there are {len(class_names)} '
      'classes'
    )
  return highest


def _series_number(dataset):
  try:
    return int(dataset.get('SeriesNumber') or 0)
  except (TypeError, ValueError):
    return 0


def _sources(datasets, frames, rank, source):
  """What a SEG takes of its source images; refuses what it cannot refer to."""
  if _is_plain(datasets, frames) and not all(f.position for f in frames):
    raise DicomError(
      f'{source}: its frames have no place, without which no DICOM SEG can '
      'refer to them; write .nii.gz'
    )
  if len({d.get('SeriesInstanceUID') for d in datasets}) > 1:
    raise DicomError(
      f'{source}: each slice is a series of its own, and a DICOM SEG refers to '
      'one; write .nii.gz'
    )
  datasets = [_needed(d, rank, source) for d in datasets]
  _state_thickness(datasets, frames)
  return datasets


def _is_plain(datasets, frames):
  """Whether it is one file of several frames without functional groups."""
  groups = 'PerFrameFunctionalGroupsSequence'
  return len(datasets) < len(frames) and groups not in datasets[0]


def _places(hd, datasets, frames):
  """Where the frames lie, for highdicom, which takes it from groups only."""
  if not _is_plain(datasets, frames):
    return {}
  one, step = frames[0], _apart(frames)
  return {
    'plane_positions': [
      hd.PlanePositionSequence('PATIENT', f.position) for f in frames
    ],
    'plane_orientation': hd.PlaneOrientationSequence(
      'PATIENT', one.orientation
    ),
    'pixel_measures': hd.PixelMeasuresSequence(
      pixel_spacing=one.spacing,
      slice_thickness=one.thickness or step,
      spacing_between_slices=step,
    ),
  }


def _needed(dataset, rank, source):
  """What a SEG takes of a source; absent type 2 elements are empty.

  Raises ValueError naming a type 1 element that is absent.
  """
  wanted = (*_NEEDED, 'FrameOfReferenceUID') if rank == 3 else _NEEDED
  absent = [k for k in wanted if dataset.get(k) in (None, '')]
  if absent:
    raise DicomError(
      f'{source}: its headers lack {", ".join(absent)}, without which no DICOM '
      'SEG can refer to it; mend them, or write .nii.gz'
    )
  kept = pydicom.Dataset()
  kept.file_meta = dataset.file_meta
  for keyword in (*_NEEDED, *_USED):
    if keyword in dataset:
      kept[keyword] = dataset[keyword]
  take_patient(kept, dataset)
  return kept


def take_patient(kept, dataset):
  """Sets in `kept` what results repeat of a source's patient and study.

  They are of type 2: absent or illegal values are empty (PS3.5 7.4.3). Texts of
  a character set with code extensions, as Japan and Korea use, become UTF-8.
  """
  for keyword in _EMPTY:
    value = _legal(keyword, dataset.get(keyword))
    is_text = isinstance(value, str | pydicom.valuerep.PersonName)
    setattr(kept, keyword, str(value) if is_text else value)
  if dataset.get('SpecificCharacterSet') not in (None, '', *_SETS):
    kept.SpecificCharacterSet = _UTF_8


def _legal(keyword, value):
  """A value of a type 2 element; empty where it is absent or no such value."""
  if value is None:
    return ''
  if keyword == 'PatientSex':
    return value if value in ('M', 'F', 'O') else ''
  if keyword in ('StudyID', 'AccessionNumber') and len(str(value)) > 16:  # SH
    return ''
  try:
    if keyword.endswith('Date'):
      pydicom.valuerep.DA(value)
    elif keyword.endswith('Time'):
      pydicom.valuerep.TM(value)
  except ValueError:
    return ''
  return value


def _drop_half_measures(seg):
  """Of an X-ray, which has no thickness; highdicom would not read it back."""
  shared = seg.SharedFunctionalGroupsSequence[0]
  for measures in shared.get('PixelMeasuresSequence') or ():
    if 'SliceThickness' not in measures:
      del shared.PixelMeasuresSequence


def _new(count):
  """An `Identity` that nothing had before."""
  make = pydicom.uid.generate_uid
  return Identity(
    uid=make(),
    series=make(),
    dimensions=make(),
    tracking=tuple(make() for _ in range(1, count)),
    moment=datetime.datetime.now(),
    algorithm=('medjax', __version__),
    codes=((TISSUE, TISSUE),) * (count - 1),
  )


def _identify(seg, identity):
  """Sets what highdicom takes from the clock and by chance."""
  seg.ContentDate = seg.InstanceCreationDate = identity.moment.date()
  seg.ContentTime = seg.InstanceCreationTime = identity.moment.time()
  for item in (
    *seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence,
  ):  # fmt: skip
    item.DimensionOrganizationUID = identity.dimensions
  for item in seg.get('ContributingEquipmentSequence') or ():
    item.ContributionDateTime = identity.moment


def _segment(hd, number, name, identity):
  category, kind = identity.codes[number - 1]
  algorithm, version = identity.algorithm
  return hd.seg.SegmentDescription(
    segment_number=number,
    segment_label=name[:64],
    segmented_property_category=hd.sr.CodedConcept(*category),
    segmented_property_type=hd.sr.CodedConcept(*kind),
    algorithm_type='AUTOMATIC',
    algorithm_identification=hd.AlgorithmIdentificationSequence(
      name=algorithm,
      family=hd.sr.CodedConcept('123110', 'DCM', 'Artificial Intelligence'),
      version=version,
    ),
    tracking_id=name,
    tracking_uid=identity.tracking[number - 1],
  )


def _on_frames(labels, source):
  """The source's data sets, its `Frame`s in order, and labels (frames, rows,
  columns) in that order.

  The inverse of how `read` turns frames into voxels.
  """
  if source.is_dir():
    found = list_series(source)
    if len(found) > 1:
      raise DicomError(f'{source}: holds {len(found)} series; name one')
    files, _, _ = distinct(found[0])
  else:
    files = (source,)
  datasets = {f: header.load(f, pixels=False) for f in files}
  frames = [f for path, d in datasets.items() for f in frames_of(d, path)]
  if labels.ndim == 3:
    array = labels.transpose(2, 1, 0)
    if any(f.position for f in frames):
      frames, _, _ = stack(frames, source)
  else:
    array = labels[None]
  if array.shape != (len(frames), *frames[0].size):
    raise DicomError(
      f'{source}: has {len(frames)} frames of {frames[0].size}, the labels '
      f'{array.shape[0]} of {array.shape[1:]}; give the image they belong to'
    )
  if len(datasets) > 1:
    return [datasets[f.path] for f in frames], frames, array
  order = np.argsort([f.index for f in frames])
  return list(datasets.values()), [frames[i] for i in order], array[order]


def _state_thickness(datasets, frames):
  """Slices whose thickness is missing are as thick as they are apart."""
  if any(f.position is None for f in frames):
    return
  for dataset in datasets:
    if not dataset.get('SliceThickness'):
      dataset.SliceThickness = float(frames[0].step or _apart(frames))


def _apart(frames):
  """Distance in mm between the first two frames; 1 for one frame."""
  if len(frames) == 1:
    return 1.0
  move = np.subtract(frames[1].position, frames[0].position)
  return round(float(np.linalg.norm(move)), 6)
