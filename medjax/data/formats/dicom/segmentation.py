"""DICOM SEG on the grid of an image: `read_seg(dataset, path, reference)`."""

import collections

import numpy as np
from scipy import ndimage

from medjax.data.formats.dicom import pixels
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.frames import frames_of
from medjax.data.formats.dicom.header import first
from medjax.data.formats.dicom.stack import LPS_TO_RAS

_OFF = 0.05  # a frame may lie this far off its slice, in slices


def read_seg(dataset, path, reference, *, threshold=0.5):
  """{segment label: mask (*spatial,) bool} on the grid of `reference`.

  Binary, fractional (`threshold` of the largest value) and label-map objects.
  Frames lie where they say, empty ones may be absent; voxels of the reference
  take the nearest voxel of the segmentation, and are outside beyond it. Raises
  ValueError if a segment's frames lie on no even grid, or none of them touches
  the reference. Without positions (X-rays) the frame must have its size.
  """
  names = _names(dataset, path)
  planar = reference.array.ndim == 3
  frames = frames_of(dataset, path)
  if 'TotalPixelMatrixRows' in dataset:
    raise DicomError(f'{path}: segments a whole-slide image: not supported')
  if not planar and any(
    f.position is None or f.orientation is None or f.spacing is None
    for f in frames
  ):
    raise DicomError(
      f'{path}: its frames have no place; its reference must be the picture '
      'it was drawn on'
    )
  array = _stored(dataset, path)
  if len(array) != len(frames):
    raise DicomError(
      f'{path}: holds {len(array)} frames but describes {len(frames)}'
    )
  members = _members(dataset, path, names, array, threshold)
  if planar:
    return _planar(members, names, array, path, reference)
  step = _step(frames, path, reference)
  shape = reference.array.shape[:-1]
  masks, touched = {}, not members
  for number, name in names.items():
    mask = np.zeros(shape, bool)
    for run in _runs(members.get(number, []), frames, step, path):
      touched |= _paint(mask, run, frames, step, reference.affine)
    masks[name] = mask
  if not touched:
    raise DicomError(
      f'{path}: no voxel of it lies in the reference image; another image?'
    )
  return masks


def _names(dataset, path):
  """{segment number: label}, labels made distinct."""
  with parsing(path):
    labels = {
      int(s.SegmentNumber): str(s.get('SegmentLabel') or '').strip()
      for s in dataset.get('SegmentSequence') or ()
    }
  if not labels:
    raise DicomError(f'{path}: names no segments; copy it again')
  labels.pop(0, None)  # the background of a label map
  counts = collections.Counter(labels.values())
  return {
    n: label if label and counts[label] == 1 else f'{label or "segment"} {n}'
    for n, label in labels.items()
  }


def _stored(dataset, path):
  pixels.check(dataset, path)
  with parsing(path, 'pixels'):
    array = pixels.decoded(dataset, path)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    return array.reshape(-1, rows, columns)


def _members(dataset, path, names, array, threshold):
  """{segment number: [(frame index, mask of that frame)]}, empty ones left out.

  Masks are made when asked for: a set of 100 organs is not held twice.
  """
  members = collections.defaultdict(list)
  with parsing(path):
    kind = str(dataset.get('SegmentationType') or 'BINARY')
    if kind == 'LABELMAP':
      for i, plane in enumerate(array):
        for number in np.unique(plane):
          if int(number) in names:
            members[int(number)].append((i, _equal(plane, number)))
      return members
    least = 1
    if kind == 'FRACTIONAL':
      least = threshold * float(dataset.get('MaximumFractionalValue') or 255)
    shared = first(dataset.get('SharedFunctionalGroupsSequence'))
    per_frame = dataset.get('PerFrameFunctionalGroupsSequence') or ()
    for i, groups in enumerate(per_frame):
      about = first(
        groups.get('SegmentIdentificationSequence')
        or shared.get('SegmentIdentificationSequence')
      )
      number = int(about.ReferencedSegmentNumber)
      if number not in names:
        raise DicomError(f'{path}: frame {i + 1} is of no known segment')
      if np.any(array[i] >= least):
        members[number].append((i, _at_least(array[i], least)))
  return members


def _equal(plane, number):
  return lambda: plane == number


def _at_least(plane, least):
  return lambda: plane >= least


def _planar(members, names, array, path, reference):
  size = reference.array.shape[:2]
  if array.shape[1:] != size:
    raise DicomError(
      f'{path}: has {array.shape[1]}x{array.shape[2]} pixels but the '
      f'reference {size[0]}x{size[1]}; give the picture it was drawn on'
    )
  masks = {name: np.zeros(size, bool) for name in names.values()}
  for number, chosen in members.items():
    for _, mask in chosen:
      masks[names[number]] |= mask()
  return masks


def _step(frames, path, reference):
  """Distance between slices in mm: as stated, else the least that occurs.

  All frames in one plane: the reference's, if it has slices parallel to it.
  """
  normal = frames[0].directions()[2]
  for f in frames:
    if np.abs(np.subtract(f.orientation, frames[0].orientation)).max() > 1e-3:
      raise DicomError(f'{path}: frames of different orientations')
  depth = np.sort([np.dot(f.position, normal) for f in frames])
  gaps = np.diff(depth)
  gaps = gaps[gaps > 0.01]
  if not len(gaps):
    axes = (LPS_TO_RAS @ reference.affine)[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    along = np.abs(normal @ axes) / spacing
    if along.max() > 0.999:
      return float(spacing[np.argmax(along)])
    return float(frames[0].step or frames[0].thickness or spacing.min())
  for step in (frames[0].step, gaps.min()):
    if step and np.all(np.abs(gaps / step - np.rint(gaps / step)) < _OFF):
      return float(step)
  raise DicomError(f'{path}: its frames lie on no even grid')


def _runs(chosen, frames, step, path):
  """One segment's frames as runs of neighbours, [(slice, frame index, mask)].

  A run is resampled at once; far-apart runs do not make one huge volume.
  """
  normal = frames[0].directions()[2]
  by_slice = {}
  origin = np.array(frames[0].position)
  for i, mask in chosen:
    along = (np.array(frames[i].position) - origin) @ normal / step
    if abs(along - round(along)) > 2 * _OFF:
      raise DicomError(f'{path}: its frames lie on no even grid')
    if round(along) in by_slice:
      raise DicomError(
        f'{path}: two frames of one segment lie at the same place'
      )
    by_slice[round(along)] = (i, mask)
  run = []
  for k in sorted(by_slice):
    if run and k != run[-1][0] + 1:
      yield run
      run = []
    run.append((k, *by_slice[k]))
  if run:
    yield run


def _paint(mask, run, frames, step, affine):
  """Sets the voxels of `mask` nearest to set voxels of a run of frames."""
  voxels = np.stack([make() for _, _, make in run])  # (slice, row, column)
  at = frames[run[0][1]]
  along, down, normal = at.directions()
  own = np.eye(4)
  own[:3, 0] = normal * step
  own[:3, 1] = down * at.spacing[0]
  own[:3, 2] = along * at.spacing[1]
  own[:3, 3] = at.position
  # Where the box around the set voxels lies in the reference.
  to_reference = np.linalg.inv(affine) @ LPS_TO_RAS @ own
  found = np.array(np.nonzero(voxels))
  low, high = found.min(1) - 0.5, found.max(1) + 0.5
  corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1)
  places = (to_reference @ np.vstack([corners, np.ones(8)]))[:3]
  begin = np.maximum(np.floor(places.min(1)).astype(int), 0)
  end = np.minimum(np.ceil(places.max(1)).astype(int) + 1, mask.shape)
  if np.any(end <= begin):
    return False
  back = np.linalg.inv(to_reference)
  values = ndimage.affine_transform(
    np.pad(voxels, 1).astype(np.uint8),
    back[:3, :3],
    back[:3, :3] @ begin + back[:3, 3] + 1,
    output_shape=tuple(end - begin),
    order=0,
    mode='constant',
    cval=0,
  )
  window = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
  mask[window] |= values.astype(bool)
  return bool(values.any())
