"""DICOM SEG on the grid of an image: `read_seg(dataset, path, reference)`."""

import collections

import numpy as np
from scipy import ndimage

from medjax.data.formats.dicom import pixels
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.frames import frames_of
from medjax.data.formats.dicom.header import first
from medjax.data.formats.dicom.segments import Segments, told_apart
from medjax.data.formats.dicom.stack import LPS_TO_RAS

_OFF = 0.05  # a frame may lie this far off its slice, in slices


def read_seg(dataset, path, reference, *, threshold=0.5):
  """`Segments` by segment label on the grid of `reference`.

  Binary, fractional (`threshold` of the largest value) and label-map objects.
  Frames lie where they say, empty ones may be absent; voxels of the reference
  take the nearest voxel of the segmentation, and are outside beyond it. Raises
  ValueError if a segment's frames lie on no even grid, or none of them touches
  the reference. Without positions (X-rays) the frame must have its size.
  """
  names, about = _names(dataset, path)
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
    masks = _planar(members, names, array, path, reference)
    return Segments(masks, **about)
  step = _step(frames, path, reference)
  normal = frames[0].directions()[2]
  slices = _slices(frames, normal, step, path)
  shift = _shift(frames, slices, normal, step, reference)
  shape = reference.array.shape[:-1]
  masks, touched = {}, not members
  for number, name in names.items():
    mask = np.zeros(shape, bool)
    chosen = [(slices[i], i, make) for i, make in members.get(number, [])]
    for run in _runs(chosen, frames, shift, path):
      touched |= _paint(mask, run, frames, shift, reference.affine)
    masks[name] = mask
  if not touched:
    raise DicomError(
      f'{path}: no voxel of it lies in the reference image; another image?'
    )
  return Segments(masks, **about)


def labels_of(dataset):
  """{segment number: its label} and {segment number: its coded meaning}."""
  labels, codes = {}, {}
  for s in dataset.get('SegmentSequence') or ():
    number = int(s.SegmentNumber)
    if number == 0:  # the background of a label map
      continue
    labels[number] = str(s.get('SegmentLabel') or '').strip()
    code = first(s.get('SegmentedPropertyTypeCodeSequence'))
    codes[number] = str(code.get('CodeMeaning') or '').strip()
  return labels, codes


def _names(dataset, path):
  """{segment number: name}, and the labels and codes of names."""
  with parsing(path):
    labels, codes = labels_of(dataset)
    if not dataset.get('SegmentSequence'):
      raise DicomError(f'{path}: names no segments; copy it again')
  names = told_apart(labels, 'segment')
  return names, {
    'labels': {name: labels[n] or 'segment' for n, name in names.items()},
    'codes': {name: codes[n] for n, name in names.items()},
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
    if len(chosen) > 1:
      raise DicomError(
        f'{path}: has {len(chosen)} frames of one segment, which have no place '
        'in one picture; give the image it was drawn on'
      )
    masks[names[number]] |= chosen[0][1]()
  return masks


def _step(frames, path, reference):
  """Distance between slices in mm, along the normal.

  As stated, else the least gap that occurs. Since empty frames are left out of
  a SEG, that may be several slices of a reference that the frames lie on: then
  so many that their thickness comes nearest to SliceThickness.
  """
  normal = frames[0].directions()[2]
  for f in frames:
    if np.abs(np.subtract(f.orientation, frames[0].orientation)).max() > 1e-3:
      raise DicomError(f'{path}: frames of different orientations')
  depth = np.sort([np.dot(f.position, normal) for f in frames])
  gaps = np.diff(depth)
  gaps = gaps[gaps > 0.01]
  pitch = _pitch(depth, normal, reference)
  if not len(gaps):
    least = reference.spacing.min()
    return float(frames[0].step or pitch or frames[0].thickness or least)
  least = gaps.min()
  if pitch and np.rint(least / pitch) > 1:
    whole = least / np.arange(1, np.rint(least / pitch) + 1)
    thickness = frames[0].thickness or pitch
    least = whole[np.abs(whole - thickness).argmin()]
  for step in (frames[0].step, least):
    many = np.rint(gaps / step) if step else np.zeros(1)
    if many.min() > 0 and np.all(np.abs(gaps / step - many) < _OFF):
      return float(gaps.sum() / many.sum())
  raise DicomError(f'{path}: its frames lie on no even grid')


def _pitch(depth, normal, reference):
  """Distance between the slices of a reference that frames lie on, or None."""
  axis = _axis_across(normal, reference)
  if axis is None:
    return None
  pitch = axis @ normal
  along = (depth - normal @ (LPS_TO_RAS @ reference.affine)[:3, 3]) / pitch
  on_slices = np.abs(along - np.rint(along)).max() < 2 * _OFF
  return float(abs(pitch)) if on_slices else None


def _slices(frames, normal, step, path):
  """The number of each frame's slice, along the normal from the first frame."""
  depth = np.array([np.dot(f.position, normal) for f in frames])
  along = (depth - depth[0]) / step
  if np.abs(along - np.rint(along)).max() > 2 * _OFF:
    raise DicomError(f'{path}: its frames lie on no even grid')
  return [int(k) for k in np.rint(along)]


def _shift(frames, slices, normal, step, reference):
  """From a slice to the next in mm (3,): not along the normal under a tilt.

  As the frames have it; frames in one plane take that of a reference whose
  slices are parallel to them.
  """
  order = np.argsort(slices, kind='stable')
  positions = np.array([frames[i].position for i in order])
  count = np.diff(np.array(slices)[order])
  if count.any():
    moves = np.diff(positions, axis=0)[count > 0]
    return np.median(moves / count[count > 0, None], axis=0)
  axis = _axis_across(normal, reference)
  if axis is None:
    return normal * step
  return axis * (step / (axis @ normal))


def _axis_across(normal, reference):
  """The axis (3,) of a grid whose slices are planes of this normal, or None."""
  axes = (LPS_TO_RAS @ reference.affine)[:3, :3]
  planes = np.cross(np.roll(axes, -1, 1), np.roll(axes, -2, 1), axis=0)
  parallel = np.abs(normal @ planes) / np.linalg.norm(planes, axis=0)
  return axes[:, np.argmax(parallel)] if parallel.max() > 0.999 else None


def _runs(chosen, frames, shift, path):
  """One segment's frames as runs of neighbours, [(slice, frame index, mask)].

  The frames of a run lie one `shift` apart and are resampled at once; a frame
  that lies elsewhere begins another, as do those after a gap.
  """
  run, taken = [], set()
  tolerance = max(_OFF * np.linalg.norm(shift), 0.01)
  for k, i, make in sorted(chosen, key=lambda c: c[0]):
    if k in taken:
      raise DicomError(f'{path}: two frames of one segment lie in one plane')
    taken.add(k)
    if run:
      first_k, first_i, _ = run[0]
      place = np.add(frames[first_i].position, (k - first_k) * shift)
      off = np.linalg.norm(place - frames[i].position)
      if k != run[-1][0] + 1 or off > tolerance:
        yield run
        run = []
    run.append((k, i, make))
  if run:
    yield run


def _paint(mask, run, frames, shift, affine):
  """Sets the voxels of `mask` nearest to set voxels of a run of frames."""
  voxels = np.stack([make() for _, _, make in run])  # (slice, row, column)
  at = frames[run[0][1]]
  along, down, _ = at.directions()
  own = np.eye(4)
  own[:3, 0] = shift
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
