"""What the headers of one image file say: `frames_of(dataset, path)`."""

import dataclasses

from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.header import are_words, first, number, numbers
from medjax.data.formats.dicom.multiframe import placed
from medjax.data.formats.dicom.pet import SUV_TIMES
from medjax.data.formats.dicom.scaling import scaling
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
_MOSAICS = frozenset({'MOSAIC', 'VFRAME'})
_SIEMENS_TILES = ((0x0019, 0x0010), (0x0019, 0x100A))  # creator, and how many
# Read first, without pixels: all that grouping and stacking need.
TAGS = (
  'SOPClassUID', 'SOPInstanceUID', 'SeriesInstanceUID', 'SeriesNumber',
  'PatientID', 'StudyInstanceUID', 'FrameOfReferenceUID',
  'Modality', 'Rows', 'Columns', 'NumberOfFrames', 'SamplesPerPixel',
  'BitsAllocated', 'BitsStored', 'HighBit', 'PixelRepresentation',
  'PhotometricInterpretation', 'ImagePositionPatient',
  'ImageOrientationPatient', 'PixelSpacing', 'ImagerPixelSpacing',
  'NominalScannedPixelSpacing', 'SliceThickness', 'SpacingBetweenSlices',
  'RescaleSlope', 'RescaleIntercept', 'ModalityLUTSequence',
  'RealWorldValueMappingSequence', 'GridFrameOffsetVector',
  'DoseGridScaling', 'SharedFunctionalGroupsSequence',
  'PerFrameFunctionalGroupsSequence', 'TotalPixelMatrixRows', 'InstanceNumber',
  *SUV_TIMES,
  *_SIEMENS_TILES,
  *_AXES,
)  # fmt: skip
_MAX_FRAMES = 2**20
_CENTIMETRES = 3  # of PhysicalUnitsXDirection, PS3.3 C.8.5.5.1.15


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

  Places come from the functional groups (enhanced objects), else from the
  file's own elements (see `multiframe.placed`). Raises ValueError for a mosaic,
  whose slices are tiles of one picture.
  """
  count = frame_count(dataset, path)
  with parsing(path):
    if _is_mosaic(dataset):
      raise DicomError(
        f'{path}: is a mosaic, whose slices are tiles of one picture; unpack '
        'it with dcm2niix'
      )
    per_frame = dataset.get('PerFrameFunctionalGroupsSequence')
    if per_frame:
      if len(per_frame) != count:
        raise DicomError(
          f'{path}: describes {len(per_frame)} frames but states {count}; '
          'mend the header'
        )
      shared = first(dataset.get('SharedFunctionalGroupsSequence'))
      frames = [
        _enhanced_frame(dataset, shared, groups, path, index)
        for index, groups in enumerate(per_frame)
      ]
      if not any(f.position for f in frames) and count > 1:
        frames = _placed_plainly(dataset, frames, path)
      return frames
    frame = _plain_frame(dataset, path)
    return [frame] if count == 1 else placed(dataset, frame, path, count)


def _is_mosaic(dataset):
  """Whether the scanner (Siemens, United Imaging) laid slices side by side."""
  kind = dataset.get('ImageType') or ()
  kind = [kind] if isinstance(kind, str) else kind
  if _MOSAICS.intersection(kind):
    return True
  creator, tiles = (dataset.get(tag) for tag in _SIEMENS_TILES)
  if creator is None or tiles is None:
    return False
  known = str(creator.value).strip() == 'SIEMENS MR HEADER'
  return known and int.from_bytes(_bytes(tiles.value), 'little') > 1


def _bytes(value):
  return value if isinstance(value, bytes) else int(value).to_bytes(4, 'little')


def _placed_plainly(dataset, frames, path):
  """Frames whose functional groups say no place, where the file itself does."""
  plain = dataclasses.replace(
    frames[0],
    position=numbers(dataset, 'ImagePositionPatient', 3, path),
    notes=(),
  )
  if plain.position is None:
    return frames
  places = placed(dataset, plain, path, len(frames))
  return [
    dataclasses.replace(
      frame, position=p.position, step=p.step, notes=(*frame.notes, *p.notes)
    )
    for frame, p in zip(frames, places, strict=True)
  ]


def _plain_frame(dataset, path):
  slope, intercept, notes = scaling(
    [dataset], dataset.get('RealWorldValueMappingSequence'), path
  )
  return Frame(
    path=path,
    index=0,
    size=size_of(dataset, path),
    position=numbers(dataset, 'ImagePositionPatient', 3, path),
    orientation=numbers(dataset, 'ImageOrientationPatient', 6, path),
    spacing=_spacing(dataset, 'PixelSpacing', path),
    thickness=_length(dataset, 'SliceThickness', path),
    step=_length(dataset, 'SpacingBetweenSlices', path),
    slope=slope,
    intercept=intercept,
    axes={k: str(v) for k in _AXES if (v := dataset.get(k)) not in (None, '')},
    **_stored(dataset, notes),
  )


def _enhanced_frame(dataset, shared, groups, path, index):
  def group(name):
    return first(groups.get(name) or shared.get(name))

  measures = group('PixelMeasuresSequence')
  content = group('FrameContentSequence')
  axes = {
    k: str(v)
    for k, source in (
      ('EffectiveEchoTime', group('MREchoSequence')),
      ('DiffusionBValue', group('MRDiffusionSequence')),
      ('DataType', group('ImageDataTypeSequence')),
      ('TemporalPositionIndex', content),
      ('StackID', content),
    )
    if (v := source.get(k)) not in (None, '')
  }
  mapping = 'RealWorldValueMappingSequence'
  slope, intercept, notes = scaling(
    [group('PixelValueTransformationSequence'), dataset],
    groups.get(mapping) or shared.get(mapping) or dataset.get(mapping),
    path,
  )
  position, orientation, where = _place(group, path)
  return Frame(
    path=path,
    index=index,
    size=size_of(dataset, path),
    position=position,
    orientation=orientation
    or numbers(dataset, 'ImageOrientationPatient', 6, path),
    spacing=_spacing(measures, 'PixelSpacing', path)
    or _spacing(dataset, 'PixelSpacing', path),
    thickness=_length(measures, 'SliceThickness', path),
    step=_length(measures, 'SpacingBetweenSlices', path),
    slope=slope,
    intercept=intercept,
    axes=axes,
    **_stored(dataset, (*where, *notes)),
  )


def _place(group, path):
  """(position, orientation, notes); of ultrasound in the volume's own frame."""
  position = numbers(
    group('PlanePositionSequence'), 'ImagePositionPatient', 3, path
  )
  orientation = numbers(
    group('PlaneOrientationSequence'), 'ImageOrientationPatient', 6, path
  )
  if position or orientation:
    return position, orientation, ()
  position = numbers(
    group('PlanePositionVolumeSequence'), 'ImagePositionVolume', 3, path
  )
  orientation = numbers(
    group('PlaneOrientationVolumeSequence'), 'ImageOrientationVolume', 6, path
  )
  said = ('placed in its own frame: how it lies in the patient is unknown',)
  return position, orientation, said if position else ()


def _stored(dataset, notes):
  """What is said of how the pixels are stored, as fields of a `Frame`."""
  if dataset.get('ModalityLUTSequence'):
    notes = ('values are those of the modality look-up table',)
  high, bits = dataset.get('HighBit'), dataset.get('BitsStored')
  if high is not None and bits and high != bits - 1:
    notes += (
      (f'HighBit {high}: values are the highest {bits} bits of their words',)
      if high >= bits and are_words(dataset)
      else (f'HighBit {high} contradicts BitsStored {bits}: ignored',)
    )
  return {'table': bool(dataset.get('ModalityLUTSequence')), 'notes': notes}


def pixel_size(dataset, path):
  """In-plane spacing (between rows, between columns) in mm, and its source.

  PixelSpacing is the size in the patient; ImagerPixelSpacing, at the detector
  of an X-ray, is larger than that by the magnification, which is divided out
  where the header states it; ultrasound has regions with a scale of their own,
  which counts if it is one. (None, '') without any.
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
  if spacing:
    return spacing, 'NominalScannedPixelSpacing'
  with parsing(path):
    scales = {
      _region_scale(region, path)
      for region in dataset.get('SequenceOfUltrasoundRegions') or ()
      if region.get('RegionSpatialFormat', 1) == 1  # two-dimensional
    }
  if len(scales) == 1 and None not in scales:
    return scales.pop(), 'SequenceOfUltrasoundRegions'
  return None, ''


def _region_scale(region, path):
  """(between rows, between columns) in mm of a region of ultrasound."""
  units = (
    region.get('PhysicalUnitsXDirection'),
    region.get('PhysicalUnitsYDirection'),
  )
  if units != (_CENTIMETRES, _CENTIMETRES):
    return None
  sizes = [
    abs(10 * number(region, keyword, path, default=0.0))
    for keyword in ('PhysicalDeltaY', 'PhysicalDeltaX')
  ]
  return (round(sizes[0], 9), round(sizes[1], 9)) if min(sizes) > 0 else None


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
