"""What the headers of one image file say: `frames_of(dataset, path)`."""

import itertools

import numpy as np

from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.header import first, number, numbers
from medjax.data.formats.dicom.stack import Frame

# What a second image at the same place may differ in.
_AXES = (
  'EchoTime',
  'TemporalPositionIdentifier',
  'DiffusionBValue',
  'AcquisitionNumber',
  'TriggerTime',
  'ImageType',
)
# Read first, without pixels: all that grouping and stacking need.
TAGS = (
  'SOPClassUID', 'SOPInstanceUID', 'SeriesInstanceUID', 'SeriesNumber',
  'Modality', 'Rows', 'Columns', 'NumberOfFrames', 'SamplesPerPixel',
  'BitsAllocated', 'BitsStored', 'PixelRepresentation',
  'PhotometricInterpretation', 'ImagePositionPatient',
  'ImageOrientationPatient', 'PixelSpacing', 'ImagerPixelSpacing',
  'NominalScannedPixelSpacing', 'SliceThickness', 'SpacingBetweenSlices',
  'RescaleSlope', 'RescaleIntercept', 'GridFrameOffsetVector',
  'DoseGridScaling', 'SharedFunctionalGroupsSequence',
  'PerFrameFunctionalGroupsSequence', 'TotalPixelMatrixRows', 'InstanceNumber',
  *_AXES,
)  # fmt: skip
_MAX_FRAMES = 2**20


def size_of(dataset, path):
  """(rows, columns) of a header; None where it describes no image."""
  with parsing(path):
    if not dataset.get('Rows') or not dataset.get('Columns'):
      return None
    return int(dataset.Rows), int(dataset.Columns)


def frame_count(dataset, path):
  """How many frames a header states."""
  count = number(dataset, 'NumberOfFrames', path, default=1)
  if count != int(count) or not 1 <= count <= _MAX_FRAMES:
    raise DicomError(f'{path}: NumberOfFrames is {count:g}; mend the header')
  return int(count)


def frames_of(dataset, path):
  """The `Frame`s of a file: one, or one for each frame of a multi-frame file.

  Places come from the functional groups (enhanced objects), from
  GridFrameOffsetVector (RT dose) or from the file's own elements.
  """
  count = frame_count(dataset, path)
  with parsing(path):
    per_frame = dataset.get('PerFrameFunctionalGroupsSequence')
    if per_frame:
      if len(per_frame) != count:
        raise DicomError(
          f'{path}: describes {len(per_frame)} frames but states {count}; '
          'mend the header'
        )
      shared = first(dataset.get('SharedFunctionalGroupsSequence'))
      return [
        _enhanced_frame(dataset, shared, groups, path, index)
        for index, groups in enumerate(per_frame)
      ]
    frame = _plain_frame(dataset, path)
    if count == 1:
      return [frame]
    return _offset_frames(dataset, frame, path, count)


def _plain_frame(dataset, path):
  scaling = number(dataset, 'DoseGridScaling', path)
  return Frame(
    path=path,
    index=0,
    size=size_of(dataset, path),
    position=numbers(dataset, 'ImagePositionPatient', 3, path),
    orientation=numbers(dataset, 'ImageOrientationPatient', 6, path),
    spacing=_spacing(dataset, 'PixelSpacing', path),
    thickness=_length(dataset, 'SliceThickness', path),
    step=_length(dataset, 'SpacingBetweenSlices', path),
    slope=scaling or number(dataset, 'RescaleSlope', path, default=1.0),
    intercept=number(dataset, 'RescaleIntercept', path, default=0.0),
    axes={k: str(v) for k in _AXES if (v := dataset.get(k)) not in (None, '')},
  )


def _enhanced_frame(dataset, shared, groups, path, index):
  def group(name):
    return first(groups.get(name) or shared.get(name))

  measures = group('PixelMeasuresSequence')
  values = group('PixelValueTransformationSequence')
  content = group('FrameContentSequence')
  axes = {
    k: str(v)
    for k, source in (
      ('EffectiveEchoTime', group('MREchoSequence')),
      ('DiffusionBValue', group('MRDiffusionSequence')),
      ('TemporalPositionIndex', content),
      ('StackID', content),
    )
    if (v := source.get(k)) not in (None, '')
  }
  return Frame(
    path=path,
    index=index,
    size=size_of(dataset, path),
    position=numbers(
      group('PlanePositionSequence'), 'ImagePositionPatient', 3, path
    ),
    orientation=numbers(
      group('PlaneOrientationSequence'), 'ImageOrientationPatient', 6, path
    ),
    spacing=_spacing(measures, 'PixelSpacing', path),
    thickness=_length(measures, 'SliceThickness', path),
    step=_length(measures, 'SpacingBetweenSlices', path),
    slope=number(
      values,
      'RescaleSlope',
      path,
      default=number(dataset, 'RescaleSlope', path, default=1.0),
    ),
    intercept=number(
      values,
      'RescaleIntercept',
      path,
      default=number(dataset, 'RescaleIntercept', path, default=0.0),
    ),
    axes=axes,
  )


def _offset_frames(dataset, frame, path, count):
  """Frames stepping along the normal (RT dose), or without a place (cine)."""
  offsets = dataset.get('GridFrameOffsetVector')
  fields = {k: getattr(frame, k) for k in frame.__dataclass_fields__}
  if not offsets or frame.position is None or frame.orientation is None:
    return [
      Frame(**{**fields, 'index': i, 'position': None}) for i in range(count)
    ]
  offsets = numbers(dataset, 'GridFrameOffsetVector', count, path)
  normal = frame.directions()[2]
  start = np.array(frame.position)
  # PS3.3 C.8.8.3.2: the first offset is 0, or the position's own z.
  return [
    Frame(
      **{
        **fields,
        'index': i,
        'position': tuple(start + (offset - offsets[0]) * normal),
      }
    )
    for i, offset in zip(itertools.count(), offsets, strict=False)
  ]


def pixel_size(dataset, path):
  """In-plane spacing (between rows, between columns) in mm, and its source.

  PixelSpacing is the size in the patient; ImagerPixelSpacing, at the detector
  of an X-ray, is larger than that by the magnification, which is divided out
  where the header states it. (None, '') without any.
  """
  spacing = _spacing(dataset, 'PixelSpacing', path)
  if spacing:
    return spacing, 'PixelSpacing'
  spacing = _spacing(dataset, 'ImagerPixelSpacing', path)
  if spacing:
    factor = _length(dataset, 'EstimatedRadiographicMagnificationFactor', path)
    if factor:
      both = (spacing[0] / factor, spacing[1] / factor)
      return both, 'ImagerPixelSpacing / magnification'
    return spacing, 'ImagerPixelSpacing'
  spacing = _spacing(dataset, 'NominalScannedPixelSpacing', path)
  return (spacing, 'NominalScannedPixelSpacing') if spacing else (None, '')


def _spacing(dataset, keyword, path):
  """Two positive numbers, or None: some X-rays state 0 for unknown."""
  values = numbers(dataset, keyword, 2, path)
  return values if values and min(values) > 0 else None


def _length(dataset, keyword, path):
  """A positive number, or None; these are only fallbacks."""
  try:
    value = number(dataset, keyword, path)
  except DicomError:
    return None
  return value if value and value > 0 else None
