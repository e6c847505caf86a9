"""Frames in the patient's space, put in order: `stack(frames, where)`.

Pure geometry, shared by series of files, multi-frame files and segmentations.
DICOM speaks LPS, this package RAS.
"""

import collections
import dataclasses
import pathlib

import numpy as np

from medjax.data.formats.dicom.errors import DicomError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A slice may lie this far from a regular grid, as a fraction of the distance
# between slices: scanners round positions.
_IRREGULAR = 0.05
_TILT = 0.5  # degrees from which a shear is named


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
  """One plane of pixels, known by its header only.

  size: (rows, columns). position, orientation (row direction, then column
  direction) and spacing (between rows, between columns) are DICOM's, in mm;
  None where the header is silent. `axes` holds what could tell frames at one
  place apart (echo time, …), `notes` what was assumed of the header. `table`:
  values go through a modality look-up table, not slope and intercept.
  """

  path: pathlib.Path
  index: int
  size: tuple[int, int]
  position: tuple | None = None
  orientation: tuple | None = None
  spacing: tuple | None = None
  thickness: float | None = None
  step: float | None = None  # SpacingBetweenSlices
  slope: float = 1.0
  intercept: float = 0.0
  axes: dict = dataclasses.field(default_factory=dict)
  table: bool = False
  notes: tuple[str, ...] = ()

  def directions(self):
    """Unit vectors (3,) along rows, along columns, and their normal."""
    along = np.array(self.orientation[:3])
    down = np.array(self.orientation[3:])
    lengths = np.linalg.norm(along), np.linalg.norm(down)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(along @ down) > 0.01:
      raise DicomError(
        f'{self.path}: ImageOrientationPatient is no pair of right-angled '
        'directions; mend the header'
      )
    along, down = along / lengths[0], down / lengths[1]
    return along, down, np.cross(along, down)


def stack(frames, where):
  """Frames in the order of their positions, their affine, and notes.

  Frames are sorted along the normal of their planes. Returns (frames, affine
  (4, 4) voxel (column, row, slice) → mm RAS, notes). Refused, with one
  ValueError naming `where`: frames without a place; of different sizes, pixel
  spacings or orientations; several at one place; missing or unevenly spaced
  slices. Noted: gantry tilt (kept as the shear of the affine) and positions
  that are rounded.
  """
  _check_placed(frames, where)
  _check_alike(frames, where)
  along, down, normal = frames[0].directions()
  depth = np.array([np.dot(f.position, normal) for f in frames])
  order = np.argsort(depth, kind='stable')
  frames, depth = [frames[i] for i in order], depth[order]
  _check_distinct(frames, depth, where)
  positions = np.array([f.position for f in frames], float)
  notes = list(dict.fromkeys(n for f in frames for n in f.notes))
  if len(frames) == 1:
    step = normal * (frames[0].step or frames[0].thickness or 1.0)
  else:
    _check_even(depth, where)
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    notes += _departures(positions, step, normal, where)
  row_spacing, column_spacing = frames[0].spacing
  affine = np.eye(4)
  affine[:3, 0] = along * column_spacing
  affine[:3, 1] = down * row_spacing
  affine[:3, 2] = step
  affine[:3, 3] = positions[0]
  return frames, LPS_TO_RAS @ affine, notes


def plane(frame):
  """The affine (4, 4) of one frame: (row, column, 0) → mm RAS."""
  along, down, normal = frame.directions()
  affine = np.eye(4)
  affine[:3, 0] = down * frame.spacing[0]
  affine[:3, 1] = along * frame.spacing[1]
  affine[:3, 2] = normal * (frame.step or frame.thickness or 1.0)
  affine[:3, 3] = frame.position
  return LPS_TO_RAS @ affine


def _check_placed(frames, where):
  fields = {
    'position': 'ImagePositionPatient',
    'orientation': 'ImageOrientationPatient',
    'spacing': 'PixelSpacing',
  }
  for field, keyword in fields.items():
    absent = [f for f in frames if getattr(f, field) is None]
    if absent:
      raise DicomError(
        f'{where}: {len(absent)} of {len(frames)} images have no {keyword} '
        f'({absent[0].path.name}), so their place is unknown; read them one '
        'by one'
      )


def _check_alike(frames, where):
  sizes = collections.Counter(f.size for f in frames)
  if len(sizes) > 1:
    raise DicomError(
      f'{where}: images of different sizes in one series '
      f'({_counts(sizes, lambda s: f"{s[0]}x{s[1]}")}); separate them'
    )
  normals = np.array([f.directions()[2] for f in frames])
  orientations = np.array([f.orientation for f in frames])
  kinds = _groups(orientations, 1e-3)
  if len(kinds) > 1:
    named = collections.Counter(
      {f'{i}: {_view(normals[g[0]])}': len(g) for i, g in enumerate(kinds)}
    )
    raise DicomError(
      f'{where}: images of different orientations in one series '
      f'({_counts(named, lambda s: s.split(": ")[1])}); a localizer? separate '
      'them'
    )
  kinds = _groups(np.array([f.spacing for f in frames]), 1e-4)
  if len(kinds) > 1:
    raise DicomError(
      f'{where}: pixel spacing varies within the series '
      f'({frames[kinds[0][0]].spacing[0]:g} and '
      f'{frames[kinds[1][0]].spacing[0]:g} mm); separate the images'
    )


def _check_distinct(frames, depth, where):
  span = depth[-1] - depth[0]
  tolerance = max(1e-3, 0.01 * span / max(len(frames) - 1, 1))
  same = np.flatnonzero(np.diff(depth) < tolerance)
  if not len(same):
    return
  a, b = frames[same[0]], frames[same[0] + 1]
  places = len(frames) - len(same)
  told = [
    f'{k} {a.axes[k]} and {b.axes[k]}'
    for k in a.axes
    if k in b.axes and a.axes[k] != b.axes[k]
  ]
  hint = f' (they differ in {told[0]})' if told else ''
  names = (
    f'frames {a.index + 1} and {b.index + 1}'
    if a.path == b.path
    else f'{a.path.name} and {b.path.name}'
  )
  raise DicomError(
    f'{where}: {len(frames)} images at {places} positions: {names} lie at '
    f'the same place{hint}; separate them'
  )


def _check_even(depth, where):
  gaps = np.diff(depth)
  if gaps.max() - gaps.min() <= 2 * _IRREGULAR * np.median(gaps):
    return
  step = np.median(gaps) if len(gaps) > 2 else gaps.min()
  missing = np.rint(gaps / step) - 1
  whole = np.abs(gaps / step - missing - 1) <= 2 * _IRREGULAR
  if whole.all() and missing.sum() > 0:
    k = int(np.argmax(missing))
    raise DicomError(
      f'{where}: {int(missing.sum())} slices are missing, {int(missing[k])} '
      f'of them between {depth[k]:.2f} and {depth[k + 1]:.2f} mm; find the '
      'files'
    )
  raise DicomError(
    f'{where}: the distance between slices varies from {gaps.min():.2f} to '
    f'{gaps.max():.2f} mm; slices missing, or two series in one?'
  )


def _departures(positions, step, normal, where):
  """Refuses positions off the line of slices; notes tilt and rounding."""
  ideal = positions[0] + np.arange(len(positions))[:, None] * step
  off = np.linalg.norm(positions - ideal, axis=1).max()
  pitch = abs(step @ normal)
  if off > max(_IRREGULAR * pitch, 0.01):
    raise DicomError(
      f'{where}: slices lie up to {off:.2f} mm off a straight, even line; '
      'two series in one?'
    )
  notes = []
  if off > 1e-3:
    notes.append(f'slices lie up to {off:.3f} mm off an even grid')
  tilt = np.degrees(np.arccos(np.clip(pitch / np.linalg.norm(step), -1, 1)))
  if tilt > _TILT:
    notes.append(f'gantry tilt of {tilt:.1f}°: the affine is sheared')
  return notes


def _groups(rows, tolerance):
  """Indices of rows (n, d) that agree with the first of their group."""
  groups, left = [], np.arange(len(rows))
  while len(left):
    same = np.abs(rows[left] - rows[left[0]]).max(-1) <= tolerance
    groups.append(left[same])
    left = left[~same]
  return groups


def _view(normal):
  return ('sagittal', 'coronal', 'axial')[int(np.argmax(np.abs(normal)))]


def _counts(counter, name):
  return ', '.join(f'{n} {name(k)}' for k, n in counter.most_common(4))
