"""RT structure sets on the grid of an image: contours become masks."""

import collections

import numpy as np

from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.header import numbers
from medjax.data.formats.dicom.stack import LPS_TO_RAS

_FLAT = 0.3  # a contour may leave its slice by this many slices


def read_rtstruct(dataset, path, reference):
  """{ROI name: mask (*spatial,) bool} on the grid of `reference`.

  A voxel is inside if its centre is inside an odd number of the contours of
  its plane, so that an inner contour cuts a hole. A plane of contours fills
  the slices nearer to it than half the distance between planes. Points and
  open contours enclose nothing and are passed over. Raises ValueError for
  contours that are damaged, not parallel to an axis of the grid, or all
  outside it.
  """
  if reference.array.ndim != 4:
    raise DicomError(f'{path}: its reference must be a volume')
  with parsing(path):
    names = {
      int(r.ROINumber): str(r.get('ROIName') or '').strip()
      for r in dataset.get('StructureSetROISequence') or ()
    }
    contours = {
      int(r.ReferencedROINumber): list(r.get('ContourSequence') or ())
      for r in dataset.get('ROIContourSequence') or ()
    }
  if not names:
    raise DicomError(f'{path}: names no structures; copy it again')
  counts = collections.Counter(names.values())
  shape = reference.array.shape[:-1]
  to_voxel = np.linalg.inv(reference.affine) @ LPS_TO_RAS
  masks = {}
  drawn = False
  for number, name in names.items():
    if not name or counts[name] > 1:
      name = f'{name or "structure"} {number}'
    polygons = _polygons(contours.get(number, ()), path, to_voxel)
    drawn |= bool(polygons)
    masks[name] = fill(polygons, shape, f'{path}: {name}')
  if drawn and not any(m.any() for m in masks.values()):
    raise DicomError(
      f'{path}: no contour lies in the reference image; another image?'
    )
  return masks


def fill(polygons, shape, where):
  """The voxels (*shape,) inside closed planar polygons.

  polygons: a list of (points, 3) in voxel coordinates, centres at whole
  numbers, each in a plane across one axis, which is the same for all.
  """
  mask = np.zeros(shape, bool)
  if not polygons:
    return mask
  extents = np.array([np.ptp(p, axis=0) for p in polygons])
  axis = int(np.argmin(extents.max(0)))
  if extents[:, axis].max() > 2 * _FLAT:
    raise DicomError(
      f'{where}: contours are not parallel to the slices of the reference; '
      'give the image they were drawn on'
    )
  planes = _planes(np.array([p[:, axis].mean() for p in polygons]))
  levels = np.array(sorted(planes))
  reach = 0.5 * np.diff(levels).min() if len(levels) > 1 else 0.5
  others = [a for a in range(3) if a != axis]
  size = tuple(shape[a] for a in others)
  filled = {}
  view = np.moveaxis(mask, axis, 0)
  for k in range(shape[axis]):
    nearest = levels[np.argmin(np.abs(levels - k))]
    if abs(nearest - k) > reach + 1e-3:
      continue
    if nearest not in filled:
      filled[nearest] = _inside(
        [polygons[i][:, others] for i in planes[nearest]], size
      )
    view[k] = filled[nearest]
  return mask


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


def _planes(depths):
  """{depth: indices of the contours there}; nearby depths are one plane."""
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
