"""RT structure sets on the grid of an image: contours become masks."""

import numpy as np

from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.header import digest, first, numbers
from medjax.data.formats.dicom.segments import Segments, told_apart
from medjax.data.formats.dicom.stack import LPS_TO_RAS

_FLAT = 0.3  # a contour may leave its slice by this many slices
_ON_SLICE = 0.1  # so near to a slice, in slices, a contour was drawn on it
_BRIDGED = 2.0 + 1e-3  # gaps up to so many times a gap beside them are filled


def read_rtstruct(dataset, path, reference, *, frame=None):
  """`Segments` by ROI name on the grid of `reference`.

  frame: the digest of its frame of reference; structures that state another
  are left out, with a note.

  A voxel is inside if its centre is inside an odd number of the contours of
  its plane, so that an inner contour cuts a hole. A slice between two planes
  of contours takes the nearer, if the gap is at most twice one beside it;
  beyond the outermost, half a slice is filled (see `fill`). Points and open
  contours enclose nothing and are passed over. Raises ValueError where all
  structures are of another frame, and for contours that are damaged, not
  parallel to an axis of the grid, or all outside it.
  """
  if reference.array.ndim != 4:
    raise DicomError(f'{path}: its reference must be a volume')
  with parsing(path):
    labels, codes = labels_of(dataset)
    contours = {
      int(r.ReferencedROINumber): list(r.get('ContourSequence') or ())
      for r in dataset.get('ROIContourSequence') or ()
    }
  if not labels:
    raise DicomError(f'{path}: names no structures; copy it again')
  labels, notes = _in_frame(dataset, path, labels, frame)
  names = told_apart(labels, 'structure')
  to_voxel = np.linalg.inv(reference.affine) @ LPS_TO_RAS
  polygons = {n: _polygons(contours.get(n, ()), path, to_voxel) for n in names}
  least = min((_least_gap(p) for p in polygons.values() if p), default=np.inf)
  shape = reference.array.shape[:-1]
  masks = {}
  for n, name in names.items():
    where = f'{path}: {name}'
    masks[name] = fill(polygons[n], shape, where, least=least)
    notes += [f'{name}: {line}' for line in _said(polygons[n], shape, least)]
  drawn = any(polygons.values())
  if drawn and not any(m.any() for m in masks.values()):
    raise DicomError(
      f'{path}: no contour lies in the reference image; another image?'
    )
  return Segments(
    masks,
    labels={name: labels[n] or 'structure' for n, name in names.items()},
    codes={name: codes.get(n, '') for n, name in names.items()},
    notes=notes,
  )


def _in_frame(dataset, path, labels, frame):
  """The labels without those of another frame of reference, and notes."""
  with parsing(path):
    stated = {
      int(r.ROINumber): digest(r.get('ReferencedFrameOfReferenceUID'))
      for r in dataset.StructureSetROISequence
    }
  apart = [n for n in labels if frame and stated[n] not in ('', frame)]
  if len(apart) == len(labels):
    raise DicomError(
      f'{path}: all structures lie in another frame of reference than the '
      'image; give the image they were drawn on, or register them'
    )
  kept = {n: label for n, label in labels.items() if n not in apart}
  if not apart:
    return kept, []
  names = ', '.join(labels[n] or 'structure' for n in apart)
  return kept, [f'structures of another frame are left out: {names}']


def labels_of(dataset):
  """{ROI number: its name} and {ROI number: its coded meaning}."""
  labels = {
    int(r.ROINumber): str(r.get('ROIName') or '').strip()
    for r in dataset.get('StructureSetROISequence') or ()
  }
  codes = {
    int(o.ReferencedROINumber): str(
      first(o.get('RTROIIdentificationCodeSequence')).get('CodeMeaning') or ''
    ).strip()
    for o in dataset.get('RTROIObservationsSequence') or ()
    if o.get('ReferencedROINumber') is not None
  }
  return labels, codes


def fill(polygons, shape, where, *, least=np.inf):
  """The voxels (*shape,) inside closed planar polygons.

  polygons: a list of (points, 3) in voxel coordinates, centres at whole
  numbers, each in a plane across one axis, which is the same for all.
  least: the least gap between planes of all structures of the file: how far
  its slices were apart, if that was another image.
  """
  mask = np.zeros(shape, bool)
  if not polygons:
    return mask
  axis = _axis(polygons)
  extents = np.array([np.ptp(p, axis=0) for p in polygons])
  if extents[:, axis].max() > 2 * _FLAT:
    raise DicomError(
      f'{where}: contours are not parallel to the slices of the reference; '
      'give the image they were drawn on'
    )
  planes = _planes(polygons, axis)
  levels = np.array(sorted(planes))
  others = [a for a in range(3) if a != axis]
  size = tuple(shape[a] for a in others)
  filled = {}
  view = np.moveaxis(mask, axis, 0)
  for k in np.flatnonzero(_reach(levels, shape[axis], least)[0]):
    nearest = levels[np.argmin(np.abs(levels - k))]
    if nearest not in filled:
      filled[nearest] = _inside(
        [polygons[i][:, others] for i in planes[nearest]], size
      )
    view[k] = filled[nearest]
  return mask


def _reach(levels, count, least):
  """Slices (count,) that are filled, those of them only as they lie between
  contours, and how many gaps are left empty.

  Every gap between levels is judged by those beside it, so that contours on
  every other slice make one body, and two bodies stay two.
  """
  on_slices = np.abs(levels - np.rint(levels)).max() < _ON_SLICE
  if on_slices:
    least = min(least, 1.0)
  cap = 0.5 if on_slices or not np.isfinite(least) else least / 2
  if len(levels) == 1:  # never lost between two slices
    cap = max(cap, 0.5)
  gaps = np.diff(levels)
  beside = [
    max([*gaps[max(i - 1, 0) : i], *gaps[i + 1 : i + 2]], default=least)
    for i in range(len(gaps))
  ]
  bridged = gaps <= _BRIDGED * np.array(beside)
  slices = np.arange(count)
  near = np.abs(slices[:, None] - levels).min(1) <= cap + 1e-3
  after = np.searchsorted(levels, slices)  # the gap that a slice lies in
  within = (after > 0) & (after < len(levels))
  between = np.zeros(count, bool)
  between[within] = bridged[after[within] - 1]
  return near | between, between & ~near, int(np.sum(~bridged))


def _said(polygons, shape, least):
  """Notes of what `fill` takes for granted between contours."""
  if not polygons:
    return []
  axis = _axis(polygons)
  levels = np.array(sorted(_planes(polygons, axis)))
  _, between, empty = _reach(levels, shape[axis], least)
  notes = []
  if between.any():
    notes.append(f'{between.sum()} slices between contours take the nearer')
  if empty:
    notes.append(f'{empty} gaps between contours are left empty')
  return notes


def _axis(polygons):
  """The axis that the planes of contours lie across."""
  extents = np.array([np.ptp(p, axis=0) for p in polygons])
  return int(np.argmin(extents.max(0)))


def _least_gap(polygons):
  """The least distance between planes of contours, in slices."""
  levels = sorted(_planes(polygons, _axis(polygons)))
  return np.diff(levels).min(initial=np.inf)


def _polygons(contours, path, to_voxel):
  found = []
  for contour in contours:
    with parsing(path, 'contour'):
      kind = str(contour.get('ContourGeometricType') or '')
      count = len(contour.get('ContourData') or ())
    if not kind.startswith('CLOSED') or count < 9:
      continue
    if count % 3:
      raise DicomError(
        f'{path}: a contour has {count} coordinates, not three a point; copy '
        'it again'
      )
    points = np.array(numbers(contour, 'ContourData', count, path))
    points = np.c_[points.reshape(-1, 3), np.ones(count // 3)]
    found.append((points @ to_voxel.T)[:, :3])
  return found


def _planes(polygons, axis):
  """{depth: indices of the contours there}; nearby depths are one plane."""
  depths = np.array([p[:, axis].mean() for p in polygons])
  planes, last = {}, None
  for i in np.argsort(depths, kind='stable'):
    if last is None or depths[i] - last > 0.1:
      last = float(depths[i])
      planes[last] = []
    planes[last].append(int(i))
  return planes


def _inside(polygons, size):
  """Pixels of `size` with their centre inside an odd number of polygons.

  Every edge flips, on each line of pixels it crosses, all pixels beyond the
  crossing; the parity of flips is the answer.
  """
  flips = np.zeros((size[0], size[1] + 1), np.int32)
  for points in polygons:
    start, stop = points, np.roll(points, -1, axis=0)
    low = np.minimum(start[:, 0], stop[:, 0])
    high = np.maximum(start[:, 0], stop[:, 0])
    begin = np.clip(np.ceil(low), 0, size[0]).astype(int)
    count = np.clip(np.ceil(high), 0, size[0]).astype(int) - begin
    edge = np.repeat(np.arange(len(points)), count)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    line += begin[edge]
    a, b = start[edge], stop[edge]
    cross = a[:, 1] + (line - a[:, 0]) / (b[:, 0] - a[:, 0]) * (
      b[:, 1] - a[:, 1]
    )
    beyond = np.clip(np.ceil(cross), 0, size[1]).astype(int)
    np.add.at(flips, (line, beyond), 1)
  return (np.cumsum(flips, axis=1)[:, :-1] % 2).astype(bool)
