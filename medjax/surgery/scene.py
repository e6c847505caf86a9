"""What a plan is made on: a label map with names, its image, its place."""

import dataclasses
import fnmatch
import functools

import numpy as np

from medjax import files
from medjax.build import closest
from medjax.data import formats
from medjax.data.formats.volume import orientation_of, spacing_of

_SAME = 1e-3  # of a voxel, by which two grids may differ


@dataclasses.dataclass(frozen=True)
class Scene:
  """A label map, named, in space.

  labels: (x, y, z) integers, 0 the background.
  affine: voxel → RAS mm (4, 4), of orthogonal axes, right-handed.
  names: {value: name} of the labels that are there.
  faint: {value: name} of those that have a probability, and no voxel.
  image: (x, y, z) on the same grid, or None.
  probabilities: (x, y, z, K) of the labels by value, or None.
  path: of the labels, for messages.
  """

  labels: np.ndarray
  affine: np.ndarray
  names: dict[int, str]
  image: np.ndarray | None = None
  probabilities: np.ndarray | None = None
  path: str = 'labels'
  faint: dict[int, str] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def spacing(self):
    """Voxel size (3,), mm."""
    return spacing_of(self.affine)

  @property
  def voxel(self):
    """The volume of a voxel, mm³."""
    return float(np.prod(self.spacing))

  @functools.cached_property
  def directions(self):
    """Where the axes run to: columns of length 1, in RAS."""
    return self.affine[:3, :3] / self.spacing

  def to_grid(self, points):
    """RAS mm (…, 3) → mm along the axes from the centre of voxel 0."""
    return (np.asarray(points, float) - self.affine[:3, 3]) @ self.directions

  def to_ras(self, points):
    """The inverse of `to_grid`."""
    return np.asarray(points, float) @ self.directions.T + self.affine[:3, 3]

  def value(self, name):
    """The label of a name."""
    known = {**self.names, **self.faint}
    return next(k for k, n in known.items() if n == name)

  def mask(self, name):
    """Where a structure is, (x, y, z) bool."""
    return self.labels == self.value(name)

  def union(self, names, *, confidence=None):
    """Where any of the structures is.

    With `confidence`, also where the segmentation gives one of them a
    probability of at least 1 - confidence: its uncertainty as a margin.
    """
    values = [self.value(name) for name in names]
    found = np.isin(self.labels, values)
    if confidence is not None and self.probabilities is not None:
      for k in values:
        found |= self.probabilities[..., k] >= 1 - confidence
    return found

  def find(self, patterns, field, *, faint=False):
    """Names that match patterns such as 'rib_*', in the order of the labels.

    `faint`: of those that have no voxel too. Raises ValueError for a pattern
    that matches none.
    """
    known, found = list(self.names.values()), set()
    known += self.faint.values() if faint else ()
    for pattern in patterns:
      some = fnmatch.filter(known, pattern)
      if not some:
        raise ValueError(
          f'{self.path}: {field} {pattern!r} is none of its structures'
          f'{closest(pattern, known)}'
        )
      found |= {*some}
    return [name for name in known if name in found]

  def like(self, patterns):
    """Names that match any of the patterns, if any do."""
    known = self.names.values()
    return [n for n in known if any(fnmatch.fnmatch(n, p) for p in patterns)]

  def one(self, name, field):
    """The one structure that a pattern matches."""
    found = self.find([name], field)
    if len(found) > 1:
      raise ValueError(
        f'{field} {name!r} matches {_listed(found)}; name one of them'
      )
    return found[0]

  def inside(self, point):
    """Whether a point (RAS mm) lies in a voxel of the grid."""
    index = self.to_grid(point) / self.spacing
    return bool(((index >= -0.5) & (index < np.array(self.shape) - 0.5)).all())

  @property
  def shape(self):
    """Voxels along each axis."""
    return self.labels.shape

  def at(self, point):
    """The voxel of a point (RAS mm)."""
    index = np.rint(self.to_grid(point) / self.spacing).astype(int)
    return tuple(int(i) for i in np.clip(index, 0, np.array(self.shape) - 1))


def read(path, *, image=None, names=None, probabilities=None, empty=False):
  """Reads a `Scene` of files on one grid.

  `names`: a CSV with the columns value and name. Raises ValueError for what is
  no right-handed volume or has no size in mm, for other grids, and, unless it
  may be `empty`, for an empty label map.
  """
  if formats.is_segmentation(path):
    raise ValueError(
      f'{path}: DICOM masks have the grid of their series, which is not here: '
      'give NIfTI, as medjax predict writes it without --seg'
    )
  volume = formats.read_mask(path)
  check_place(path, volume.array, volume.affine)
  if volume.meta.get('unit', 'mm') != 'mm':
    raise ValueError(
      f'{path}: does not say how large a voxel is; store it as NIfTI, with its '
      'affine in mm'
    )
  found = {'empty': empty}
  if image is not None:
    found['image'] = _on_grid(image, volume, path)[..., 0].astype(np.float32)
  if probabilities is not None:
    array = _on_grid(probabilities, volume, path)
    if array.shape[-1] <= volume.array.max():
      raise ValueError(
        f'{probabilities}: has {array.shape[-1]} channels for labels up to '
        f'{volume.array.max()}; give what medjax predict --probabilities wrote'
      )
    found['probabilities'] = array
  table = volume.meta.get('segments', {})
  if names is not None:
    table = {**table, **read_names(names)}
  return make(volume.array, volume.affine, table, path=str(path), **found)


def of_prediction(prediction, affine, class_names=(), image=None):
  """The `Scene` of a `Prediction` of a label map.

  `affine` is the case's; class_names the background first. Its probabilities,
  if they were asked for, become a margin.
  """
  if prediction.labels is None:
    raise ValueError(f'{prediction.id}: is no segmentation: it has no labels')
  check_place(prediction.id, prediction.labels, affine)
  return make(
    prediction.labels,
    affine,
    dict(enumerate(class_names)),
    path=str(prediction.id),
    image=image,
    probabilities=prediction.probabilities,
  )


def make(labels, affine, names, *, path='labels', empty=False, **more):
  """A `Scene`; labels without a name are called label_1, …."""
  values = [int(k) for k in np.unique(labels) if k != 0]
  if not values and not empty:
    raise ValueError(f'{path}: holds no label but 0; there is nothing to plan')
  if values and values[0] < 0:
    raise ValueError(f'{path}: holds label {values[0]}; labels are above 0')
  maps = more.get('probabilities')
  if maps is not None and not np.allclose(maps.sum(-1), 1, atol=0.02):
    raise ValueError(
      f'{path}: the probabilities do not add up to 1 in each voxel: those of '
      'regions, which overlap, are none of labels'
    )
  channels = range(1, maps.shape[-1] if maps is not None else 0)
  faint = [k for k in channels if k not in values and maps[..., k].any()]
  named = {k: names.get(k) or f'label_{k}' for k in (*values, *faint)}
  if len({*named.values()}) < len(named):
    raise ValueError(f'{path}: two labels have one name; rename one')
  faint = {k: named.pop(k) for k in faint}
  affine = np.asarray(affine, float)
  return Scene(labels, affine, named, path=path, faint=faint, **more)


def check_place(path, array, affine):
  """Raises ValueError for what is no volume with right-handed square axes."""
  if np.ndim(array) != 3 or min(array.shape) < 2:
    shape = ' x '.join(map(str, array.shape))
    raise ValueError(
      f'{path}: is {shape}, no volume; a plan needs a label map of three axes'
    )
  directions = affine[:3, :3] / spacing_of(affine)
  if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3:
    raise ValueError(
      f'{path}: its axes are not at right angles; resample it to a grid whose '
      'are'
    )
  if np.linalg.det(directions) < 0:
    raise ValueError(
      f'{path}: its axes are left-handed ({orientation_of(affine)}), as of a '
      'mirrored image; see that left is left, then store it as RAS '
      '(nibabel.as_closest_canonical)'
    )


def read_names(path):
  """{value: name} of a CSV with these two columns."""
  mend = 'give a CSV with the columns value and name'
  rows, columns = files.read_csv(path, mend=mend)
  if not {'value', 'name'} <= {*columns}:
    raise ValueError(f'{path}: has the columns {", ".join(columns)}; {mend}')
  try:
    return {int(row['value']): row['name'] for row in rows}
  except ValueError:
    raise ValueError(f'{path}: a value is no whole number; {mend}') from None


def same_grid(path, volume, other, other_path):
  """Raises ValueError where two volumes are not on one grid."""
  shape, wanted = volume.array.shape[:3], other.array.shape[:3]
  if volume.affine.shape == other.affine.shape and shape == wanted:
    moved = np.linalg.solve(other.affine, volume.affine) - np.eye(4)
    ends = np.r_[np.array(wanted), 1.0]
    if np.abs(moved * ends).max() < _SAME * 100:
      return
  grids = [_grid(volume), _grid(other)]
  if grids[0] == grids[1]:  # then it lies elsewhere
    grids = [_corner(volume), _corner(other)]
  raise ValueError(
    f'{path}: is on another grid than {other_path} ({grids[0]} and {grids[1]});'
    ' resample one onto the other'
  )


def same_place(path, other, scene):
  """Raises ValueError where another scene is not on a scene's grid."""
  volumes = [
    formats.Volume(s.labels[..., None], s.affine) for s in (other, scene)
  ]
  same_grid(path, *volumes, scene.path)


def read_map(path, scene):
  """A map of numbers (x, y, z) on a scene's grid."""
  volume = formats.read(path)
  same = formats.Volume(scene.labels[..., None], scene.affine)
  same_grid(path, volume, same, scene.path)
  return volume.array[..., 0].astype(np.float32)


def _on_grid(path, labels, labels_path):
  volume = formats.read(path)
  same_grid(path, volume, labels, labels_path)
  return volume.array


def _grid(volume):
  shape = ' x '.join(map(str, volume.array.shape[: volume.affine.shape[0] - 1]))
  sizes = ' x '.join(f'{s:.3g}' for s in volume.spacing)
  return f'{shape} of {sizes} mm'


def _corner(volume):
  first = ', '.join(f'{x:.1f}' for x in volume.affine[:-1, -1])
  return f'first voxel at {first} mm, axes {orientation_of(volume.affine)}'


def _listed(names):
  names = list(names)
  more = f' and {len(names) - 12} more' if len(names) > 12 else ''
  return ', '.join(names[:12]) + more
