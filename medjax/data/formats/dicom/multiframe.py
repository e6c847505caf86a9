"""Places of the frames of a file without functional groups: `placed`."""

import dataclasses

import numpy as np

from medjax.data.formats.dicom.header import first, number, numbers
from medjax.data.formats.dicom.stack import LPS_TO_RAS

_TIMES = frozenset({0x00181063, 0x00181065})  # FrameTime, FrameTimeVector
# What the frames of nuclear medicine may differ in, PS3.3 C.8.4.8; that they
# are slices is SliceVector.
_VECTORS = (
  'EnergyWindowVector', 'DetectorVector', 'PhaseVector', 'RotationVector',
  'RRIntervalVector', 'TimeSlotVector', 'AngularViewVector', 'TimeSliceVector',
)  # fmt: skip


def placed(dataset, frame, path, count):
  """`count` copies of the first frame, each at its place.

  Frames step along the normal: by GridFrameOffsetVector (RT dose), by
  SliceVector and SpacingBetweenSlices (nuclear medicine, whose place is in
  DetectorInformationSequence), else by SpacingBetweenSlices or, said so,
  SliceThickness (cone-beam CT). A negative spacing steps against the normal
  (PS3.3 C.8.4.15). Frames that are moments or views have no place.
  """
  if _is_nuclear(dataset):
    detector = first(dataset.get('DetectorInformationSequence'))
    frame = dataclasses.replace(
      frame,
      position=frame.position
      or numbers(detector, 'ImagePositionPatient', 3, path),
      orientation=frame.orientation
      or numbers(detector, 'ImageOrientationPatient', 6, path),
    )
  along, notes = _along(dataset, frame, path, count)
  frame = dataclasses.replace(frame, notes=(*frame.notes, *notes))
  # Moments and views are no distance apart.
  step = None if along is None else abs(along[1] - along[0])
  frame = dataclasses.replace(frame, step=step)
  if frame.position is None and frame.orientation and step:
    said = 'ImagePositionPatient is missing: the first frame is put at 0'
    notes = (*frame.notes, said)
    frame = dataclasses.replace(frame, position=(0.0, 0.0, 0.0), notes=notes)
  if along is None or frame.position is None or frame.orientation is None:
    return [
      dataclasses.replace(frame, index=i, position=None) for i in range(count)
    ]
  normal = frame.directions()[2]
  start = np.array(frame.position)
  return [
    dataclasses.replace(frame, index=i, position=tuple(start + mm * normal))
    for i, mm in enumerate(along)
  ]


def axis_of(frames, *, sections=False):
  """Affine (4, 4) and notes of frames without a place.

  The third axis is space where the distance between frames is stated, or,
  of `sections` (optical coherence tomography), their thickness. Origin and
  directions are unknown.
  """
  one = frames[0]
  rows, columns = one.spacing or (1.0, 1.0)
  step = one.step or (one.thickness if sections else None)
  notes = list(dict.fromkeys(n for f in frames for n in f.notes))
  notes.append(
    f'frames have no place: taken {step:g} mm apart; where they lie in the '
    'patient is unknown'
    if step
    else 'frames have no place: the third axis may be time'
  )
  return LPS_TO_RAS @ np.diag([columns, rows, step or 1.0, 1.0]), notes


def _is_nuclear(dataset):
  return dataset.get('Modality') == 'NM' or 'SliceVector' in dataset


def _along(dataset, frame, path, count):
  """Millimetres along the normal from the first frame, and notes.

  None where frames are not apart in space, as far as is known.
  """
  offsets = dataset.get('GridFrameOffsetVector')
  if offsets:
    # PS3.3 C.8.8.3.2: the first offset is 0, or the position's own z.
    offsets = numbers(dataset, 'GridFrameOffsetVector', count, path)
    return np.subtract(offsets, offsets[0]), ()
  if _is_nuclear(dataset):
    index = _slices(dataset, path, count)
  else:
    index = None if _is_cine(dataset) else np.arange(count)
  step = number(dataset, 'SpacingBetweenSlices', path)
  if index is None or not (step or frame.position):
    return None, ()
  if step:
    return index * step, ()
  if frame.thickness is None:
    return None, ()
  return index * frame.thickness, (
    f'SpacingBetweenSlices is missing: frames taken {frame.thickness:g} mm '
    'apart, the SliceThickness',
  )


def _slices(dataset, path, count):
  """Numbers of the slices from 0 on, or None where frames are no slices."""
  for keyword in _VECTORS:
    if len(set(dataset.get(keyword) or ())) > 1:
      return None
  kind = list(dataset.get('ImageType') or ())[2:3]
  if dataset.get('SliceVector'):
    index = numbers(dataset, 'SliceVector', count, path)
    return np.subtract(index, index[0])
  return np.arange(count) if kind == ['RECON TOMO'] else None


def _is_cine(dataset):
  """Whether the frames are moments, as FrameIncrementPointer tells."""
  pointer = dataset.get('FrameIncrementPointer')
  if pointer is None:
    return bool(dataset.get('FrameTime') or dataset.get('FrameTimeVector'))
  tags = [pointer] if isinstance(pointer, int) else list(pointer)
  return bool(_TIMES.intersection(map(int, tags)))
