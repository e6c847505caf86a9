"""Pictures of a plan: cuts along and across a path, and a view in 3-D."""

import itertools

import numpy as np
from scipy import ndimage

_AROUND = 25.0  # mm of a cut beyond the path
_WITHIN = 100.0  # mm around the paths that a view shows, at least
_PIXELS = 420  # of the longer side of the view
_SOFT = (-160.0, 240.0)  # HU
_LIGHT = np.array([0.4, 0.5, 0.77])


def cuts(volume, shown, spacing, line, worst, *, wide=40.0):
  """Three cuts: along the path two, across it at `worst` (3,) one.

  Args:
    volume: (x, y, z) of an image, or None: the labels are shown alone.
    shown: (x, y, z) labels to outline.
    spacing: mm; line: (n, 3), mm on the grid; wide: mm to either side of it.

  Panels as `figures.cuts` takes them.
  """
  start, end = line[0], line[-1]
  along = (end - start) / np.linalg.norm(end - start)
  side = np.cross(along, np.eye(3)[np.abs(along).argmin()])
  side /= np.linalg.norm(side)
  other = np.cross(along, side)
  middle, length = (start + end) / 2, np.linalg.norm(end - start)
  panels = []
  for title, down in (('along the path', side), ('along, turned', other)):
    size = (length / 2 + _AROUND, wide)
    panel = _cut(volume, shown, spacing, middle, along, down, size)
    at = [(line - middle) @ along, (line - middle) @ down]
    panel['lines'] = [np.stack(at, -1) / panel['step'] + panel['centre']]
    panels.append({**panel, 'caption': title})
  panel = _cut(volume, shown, spacing, worst, side, other, (wide, wide))
  panel['dots'] = [panel['centre']]
  panels.append({**panel, 'caption': 'across, where it is nearest'})
  return panels


def _cut(volume, shown, spacing, middle, right, down, size):
  """A plane through `middle`, `size` mm to each side, on pixels of `step`."""
  step = float(np.min(spacing)) / 1.5
  u = np.arange(-size[0], size[0] + step, step)
  v = np.arange(-size[1], size[1] + step, step)
  points = middle + u[None, :, None] * right + v[:, None, None] * down
  index = np.moveaxis(points / spacing, -1, 0)
  mask = ndimage.map_coordinates(shown, index, order=0, mode='constant')
  image = np.zeros(mask.shape, np.float32)
  if volume is not None:
    image = ndimage.map_coordinates(volume, index, order=1, mode='nearest')
    if volume.min() < -500:  # CT: as soft tissue is looked at
      image = np.clip(image, *_SOFT)
  centre = np.array([size[0], size[1]]) / step
  return {'image': image, 'mask': mask, 'step': step, 'centre': centre}


def view(shown, skin, spacing, lines, colours, *, up):
  """A picture (h, w, 3) in [0, 1] of structures, with lines and the skin.

  Seen from beside the first line. The surface voxels are drawn in the order
  of their depth, brighter where they face the light; the skin is a haze.

  Args:
    shown: (x, y, z) labels; colours: {label: (3,)}.
    skin: (n, 3), mm on the grid, of points of the skin.
    lines: each (n, 3), mm on the grid.
    up: unit vector (3,) of the grid that points up in the picture.
  """
  frame = _camera(lines[0] if lines else None, up)
  points, normals, values = _shell(shown, spacing)
  if lines:  # what is far from the paths would make them small
    ends = np.concatenate(lines)
    middle = ends.mean(0)
    within = np.linalg.norm(ends - middle, axis=-1).max() + _AROUND
    within = max(within, _WITHIN)
    near = np.linalg.norm(points - middle, axis=-1) < within
    points, normals, values = (x[near] for x in (points, normals, values))
    skin = skin[np.linalg.norm(skin - middle, axis=-1) < within]
  spots = np.concatenate([points, *lines, skin]) if len(points) else skin
  flat = spots @ frame.T
  low, high = flat.min(0), flat.max(0)
  pixel = float((high - low)[:2].max()) / _PIXELS
  size = np.ceil((high - low)[:2] / pixel).astype(int) + 1
  to_pixels = lambda p: ((p @ frame.T)[:, :2] - low[:2]) / pixel
  picture = np.ones((size[1], size[0], 3))
  light = frame.T @ _LIGHT
  order = np.argsort((points @ frame.T)[:, 2])
  bright = 0.45 + 0.55 * np.clip(normals @ light, 0, 1)
  paint = np.array([colours.get(int(v), (0.7, 0.7, 0.7)) for v in values])
  paint = np.clip(paint.reshape(-1, 3) * bright[:, None], 0, 1)
  wide = int(np.ceil(1.8 * float(np.max(spacing)) / pixel)) + 1
  _splat(picture, to_pixels(points)[order], paint[order], wide)
  haze = np.ones_like(picture)
  _splat(haze, to_pixels(skin), np.full((len(skin), 3), 0.75), wide)
  picture = picture * (0.75 + 0.25 * haze)
  for k, line in enumerate(lines):
    dense = np.concatenate(
      [np.linspace(a, b, 60) for a, b in itertools.pairwise(line)]
    )
    colour = np.tile(
      (0.85, 0.1, 0.1) if k == 0 else (0.2, 0.2, 0.2), (len(dense), 1)
    )
    _splat(picture, to_pixels(dense), colour, 3 if k == 0 else 2)
  return picture[::-1]


def _camera(line, up):
  """Rows: right, up and towards the eye, which stands beside the line."""
  up = np.asarray(up, float)
  along = np.array([1.0, 0.3, 0.2]) if line is None else line[0] - line[-1]
  along = along - (along @ up) * up
  if np.linalg.norm(along) < 1e-3:
    along = np.eye(3)[np.abs(up).argmin()]
  along /= np.linalg.norm(along)
  eye = 0.75 * np.cross(up, along) + 0.6 * along + 0.25 * up
  eye /= np.linalg.norm(eye)
  right = np.cross(up, eye)
  right /= np.linalg.norm(right)
  return np.stack([right, np.cross(eye, right), eye])


def _shell(shown, spacing):
  """(points, normals outwards, labels) of the voxels at borders."""
  border = np.zeros(shown.shape, bool)
  for axis in range(3):
    a, out = (np.moveaxis(x, axis, 0) for x in (shown, border))
    differs = a[1:] != a[:-1]
    out[1:] |= differs
    out[:-1] |= differs
  voxels = np.argwhere(border & (shown > 0))
  at = tuple(voxels.T)
  blur = 1.5 * np.max(spacing) / np.asarray(spacing)
  solid = ndimage.gaussian_filter((shown > 0).astype(np.float32), blur)
  normals = -np.stack([g[at] for g in np.gradient(solid, *spacing)], -1)
  normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
  return voxels * np.asarray(spacing), normals, shown[at]


def _splat(picture, at, colours, wide):
  """Paints a square for each point; of those on a pixel the last is seen."""
  at = np.rint(at).astype(int)
  half, order = wide // 2, np.arange(len(at))
  seen = np.full(picture.shape[:2], -1)
  for dx in range(-half, wide - half):
    for dy in range(-half, wide - half):
      x = np.clip(at[:, 0] + dx, 0, picture.shape[1] - 1)
      y = np.clip(at[:, 1] + dy, 0, picture.shape[0] - 1)
      one = np.full_like(seen, -1)
      one[y, x] = order
      seen = np.maximum(seen, one)
  picture[seen >= 0] = colours[seen[seen >= 0]]
