"""Heads without faces: `removed(paths)` gives the pixels of a series anew.

As Quickshear does it (Schimke and Hale 2011): all that lies in front of a plane
that touches the brain from below and in front becomes black. Where the brain
is, an average brain tells that is laid upon the head by an affine map. Only for
MR, whose heads look like the average one.
"""

import pathlib

import numpy as np
import pydicom
import scipy.optimize
from pydicom import uid
from scipy import ndimage

from medjax.data import formats
from medjax.privacy import objects, values
from medjax.privacy.objects import RefusedError

_GRID = 6.0  # mm, of the registration
_HEIGHT = 150.0  # mm below the top of a head in which its brain lies
_MARGIN = 8.0  # mm between brain and plane
_ANGLES = np.deg2rad(np.arange(20, 75, 2.5))  # of the plane, from upright
_ALIKE = 0.5  # correlation below which no brain was found


def removed(paths):
  """{path: frame (rows, columns) without a face} of the slices of one head.

  Raises `RefusedError` where it is no MR volume, or its brain is not found.
  """
  slices = [_slice(path) for path in paths]
  array, affine, order = _stacked(slices)
  kept = without_face(array, affine)
  return {slices[i][0]: kept[..., k] for k, i in enumerate(order)}


def without_face(array, affine):
  """A volume (i, j, k) in which the face is its lowest value.

  affine: voxel indices → mm, RAS. Raises `RefusedError`.
  """
  head, template = _Head.of(array, affine), _template()
  world = _aligned(head, template)
  points = np.argwhere(template.brain & ~ndimage.binary_erosion(template.brain))
  points = _apply(world @ template.affine, points)
  normal, offset = _plane(points, head.surface)
  # n · (A v) > offset, without holding the place of every voxel.
  front = np.full(array.shape, normal @ affine[:3, 3] - offset)
  for axis, size in enumerate(array.shape):
    shape = [1, 1, 1]
    shape[axis] = size
    front += (normal @ affine[:3, axis] * np.arange(size)).reshape(shape)
  array = array.copy()
  array[front > 0] = array.min()
  return array


def put(new, frame, syntax):
  """Puts a frame into a data set, uncompressed; returns the syntax."""
  plain = uid.ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
  order = '<' if plain.is_little_endian else '>'
  data = frame.astype(frame.dtype.newbyteorder(order)).tobytes()
  wide = frame.dtype.itemsize > 1 or plain.is_implicit_VR
  data += b'\0' * (len(data) % 2)
  new.add(values.new(0x7FE00010, 'OW' if wide else 'OB', data))
  return plain


class _Head:
  """A volume on a coarse grid: `image`, `affine`, its `surface` in mm."""

  def __init__(self, image, affine, brain=None):
    self.image, self.affine, self.brain = image, affine, brain

  @classmethod
  def of(cls, array, affine):
    """The head of a volume, at `_GRID`."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    steps = np.maximum(_GRID / spacing, 1e-3)
    width = np.maximum(steps.astype(int), 1)
    small = ndimage.uniform_filter(np.asarray(array, np.float32), width)
    late = (1 - width % 2) / 2  # a mean of 2 is that of the place between them
    shape = np.maximum((np.array(array.shape) / steps).astype(int), 1)
    if min(shape) < 8:
      raise RefusedError('too few slices to find its brain')
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing='ij')
    at = [
      g * s + (s - 1) / 2 + half
      for g, s, half in zip(grid, steps, late, strict=True)
    ]
    image = ndimage.map_coordinates(small, at, order=1, mode='nearest')
    scale = np.eye(4)
    scale[:3, :3] = np.diag(steps)
    scale[:3, 3] = (steps - 1) / 2
    return cls(image, affine @ scale)

  @property
  def mask(self):
    """Where there is a head, not air."""
    low, high = np.percentile(self.image, (10, 98))
    return self.image > low + 0.12 * (high - low)

  @property
  def surface(self):
    """Points (n, 3) of the head in mm."""
    return _apply(self.affine, np.argwhere(self.mask))

  def middle(self):
    """(3,) mm: the middle of what lies below the top of the head."""
    points = self.surface
    top = np.percentile(points[:, 2], 99.5)
    near = points[points[:, 2] > top - _HEIGHT]
    return np.array([*near[:, :2].mean(0), top - _HEIGHT / 2])


def _apply(affine, points):
  return points @ affine[:3, :3].T + affine[:3, 3]


def _template():
  """The average brain of ICBM 152."""
  try:
    from nilearn import datasets
  except ImportError:
    raise RefusedError(
      '--faces=remove needs the average brain of nilearn: '
      "pip install 'medjax[demo]'"
    ) from None
  folder = pathlib.Path(datasets.__file__).parent / 'data'
  kinds = [
    formats.read(next(folder.glob(f'mni_icbm152_{k}_tal_nlin_sym_09a*.nii.gz')))
    for k in ('t1', 'gm', 'wm')
  ]
  t1, gm, wm = (k.array[..., 0].astype(np.float32) for k in kinds)
  gm, wm = gm / max(gm.max(), 1), wm / max(wm.max(), 1)
  head = _Head.of(t1, kinds[0].affine)
  brain = ndimage.binary_fill_holes(gm + wm > 0.2)
  return _Whole(head, brain, kinds[0].affine)


class _Whole:
  """The template: its coarse `head`, its fine `brain` and their `affine`."""

  def __init__(self, head, brain, affine):
    self.head, self.brain, self.affine = head, brain, affine


def _aligned(head, template):
  """Map (4, 4) from the template's mm to those of a head."""
  own, other = head.middle(), template.head.middle()
  # A brain, and the dark around it: its skull.
  near = ndimage.binary_dilation(template.head.mask, iterations=1)
  points = _apply(template.head.affine, np.argwhere(near))
  target = template.head.image[near]
  back = np.linalg.inv(head.affine)

  def worst(values_of):
    at = _apply(back @ _map(values_of, other, own), points)
    image = ndimage.map_coordinates(head.image, at.T, order=1, cval=0)
    return -np.corrcoef(image, target)[0, 1]

  start = np.zeros(9)
  found = scipy.optimize.minimize(
    worst, start, method='Powell',
    bounds=[(-40, 40)] * 3 + [(-0.5, 0.5)] * 3 + [(-0.25, 0.25)] * 3,
    options=dict(maxiter=6, xtol=1e-2, ftol=1e-4),
  )  # fmt: skip
  if not -found.fun > _ALIKE:
    raise RefusedError('its brain was not found, so its face cannot be removed')
  return _map(found.x, other, own)


def _map(parameters, other, own):
  """A map by shifts (mm), turns (radians) and logarithms of scales."""
  x, y, z = parameters[3:6]
  turn = np.eye(3)
  for i, j, a in ((1, 2, x), (0, 2, y), (0, 1, z)):
    one = np.eye(3)
    one[i, i] = one[j, j] = np.cos(a)
    one[i, j], one[j, i] = -np.sin(a), np.sin(a)
    turn = turn @ one
  whole = np.eye(4)
  whole[:3, :3] = turn @ np.diag(np.exp(parameters[6:9]))
  whole[:3, 3] = own + parameters[:3] - whole[:3, :3] @ other
  return whole


def _plane(brain, head):
  """(normal, offset) in mm of the plane that cuts most off a head."""
  best = None
  for angle in _ANGLES:
    normal = np.array([0, np.cos(angle), -np.sin(angle)])
    offset = float((brain @ normal).max()) + _MARGIN
    count = int((head @ normal > offset).sum())
    if best is None or count > best[0]:
      best = count, normal, offset
  return best[1:]


def _slice(path):
  """(path, frame, position, axes (3, 2) mm LPS) of a file."""
  ds = objects.read(path)
  if ds.get('Modality') != 'MR':
    raise RefusedError('faces are removed from MR alone: no other was tested')
  if int(ds.get('NumberOfFrames') or 1) > 1 or int(ds.SamplesPerPixel) > 1:
    raise RefusedError('faces are removed from files of one grey slice each')
  try:
    position = np.array(ds.ImagePositionPatient, float)
    along, down = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    rows, columns = (float(v) for v in ds.PixelSpacing)
    frame = pydicom.pixels.pixel_array(ds, raw=True)
  except Exception:
    raise RefusedError('its slices say no place, or are damaged') from None
  return path, frame, position, np.stack([down * rows, along * columns], 1)


def _stacked(slices):
  """(array (row, column, slice), affine → RAS mm, the order of the slices)."""
  axes = slices[0][3]
  if len({(s[1].shape, s[1].dtype) for s in slices}) > 1 or any(
    not np.allclose(s[3], axes, atol=1e-3) for s in slices
  ):
    raise RefusedError('its slices are no volume')
  normal = np.cross(axes[:, 1], axes[:, 0])
  normal /= np.linalg.norm(normal)
  depth = np.array([s[2] @ normal for s in slices])
  order = np.argsort(depth, kind='stable')
  gaps = np.diff(depth[order])
  if len(gaps) < 8 or gaps.min() < 0.5 * gaps.max() or gaps.min() <= 0:
    raise RefusedError('its slices are no volume')
  affine = np.eye(4)
  affine[:3, :2] = axes
  affine[:3, 2] = normal * gaps.mean()
  affine[:3, 3] = slices[order[0]][2]
  affine[:2] *= -1  # LPS → RAS
  array = np.stack([slices[i][1] for i in order], -1)
  return array, affine, order
