"""Outlines and run lengths as label maps: COCO, YOLO, LabelMe, Kaggle's RLE.

`read(path, …)` gives the `Drawing`s of a file of outlines; `label_map` makes
one of them a mask. A pixel belongs to an outline if its centre lies inside, an
odd number of rings away from the outside. Coordinates count from the corner of
the first pixel, so its centre is (.5, .5), as COCO and LabelMe do.
"""

import dataclasses
import json
import pathlib

import numpy as np

from medjax.data.formats import raw

_LARGEST = 2**27  # pixels of a picture that is drawn


@dataclasses.dataclass(frozen=True)
class Drawing:
  """What is drawn on one picture.

  image: the file's name as the outlines give it. shape: (rows, columns).
  structures: (class name, rings (k, 2) as x, y | mask (rows, columns) bool)
  of each, later ones over earlier. classes: all that its file lists, drawn or
  not; () where files list none.
  """

  image: str
  shape: tuple[int, int]
  structures: tuple
  classes: tuple[str, ...] = ()


def read(path, *, shape=None, class_names=()):
  """The `Drawing`s of a COCO or LabelMe .json, or of a YOLO .txt.

  shape (rows, columns) and class_names: of YOLO, whose files lack them. Raises
  ValueError for what is none of these, or holds only boxes.
  """
  path = pathlib.Path(path)
  if path.suffix.lower() == '.txt':
    if shape is None:
      raise ValueError(f"{path}: YOLO's outlines need the shape of their image")
    return [_yolo(path, tuple(shape), tuple(class_names))]
  try:
    found = json.loads(path.read_text(encoding='utf-8-sig'))
  except (ValueError, OSError) as e:
    raise ValueError(f'{path}: is not JSON ({e})') from None
  try:
    if isinstance(found, dict) and 'shapes' in found:
      return [_labelme(path, found)]
    if isinstance(found, dict) and 'annotations' in found:
      return _coco(path, found)
  except (KeyError, TypeError, IndexError, AttributeError) as e:
    raise ValueError(f'{path}: lacks {e}; export it again') from None
  raise ValueError(f'{path}: is neither COCO nor LabelMe')


def class_names(drawings):
  """('background', …): the names in drawings and those listed, sorted.

  So a class has the same number in files of which one draws it and one does
  not.
  """
  names = {name for d in drawings for name, _ in d.structures}
  names.update(*(d.classes for d in drawings))
  return ('background', *sorted(names - {'background'}))


def label_map(drawing, names):
  """The label map (rows, columns) of a `Drawing`; `names` background first."""
  place = {name: i for i, name in enumerate(names)}
  kind = np.uint8 if len(names) < 257 else np.uint16
  labels = np.zeros(drawing.shape, kind)
  for name, drawn in drawing.structures:
    if name not in place:
      raise ValueError(f'{drawing.image}: {name!r} is none of the classes')
    mask = drawn if isinstance(drawn, np.ndarray) else inside(
      [np.asarray(ring, float) - 0.5 for ring in drawn], drawing.shape
    )  # fmt: skip
    labels[mask] = place[name]
  return labels


def inside(rings, shape):
  """Pixels (rows, columns) whose centre is inside an odd number of rings.

  rings: (k, 2) each, x and y, where centres of pixels are at whole numbers.
  Every edge flips, on each row that it crosses, all pixels beyond the
  crossing; the parity of flips is the answer.
  """
  flips = np.zeros((shape[0], shape[1] + 1), np.int32)
  for ring in rings:
    x, y = ring[:, 0], ring[:, 1]
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    low, high = np.minimum(y, y2), np.maximum(y, y2)
    first = np.clip(np.ceil(low), 0, shape[0]).astype(int)
    count = np.clip(np.ceil(high), 0, shape[0]).astype(int) - first
    edge = np.repeat(np.arange(len(ring)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    row += first[edge]
    slope = (x2 - x)[edge] / (y2 - y)[edge]
    crossing = x[edge] + (row - y[edge]) * slope
    beyond = np.clip(np.ceil(crossing), 0, shape[1]).astype(int)
    np.add.at(flips, (row, beyond), 1)
  return (np.cumsum(flips, axis=1)[:, :-1] % 2).astype(bool)


def from_runs(texts, shape):
  """The mask (rows, columns) of run lengths as Kaggle writes them.

  '5 3 12 4' are pixels 5 to 7 and 12 to 15, counted from 1 down the columns;
  '-1' and '' are none. Several texts are joined.
  """
  if len(shape) != 2:
    raise ValueError('run lengths are of pictures, not of volumes')
  size = shape[0] * shape[1]
  mask = np.zeros(size, np.uint8)
  for text in texts:
    if text.strip() in ('', '-1') or not text.strip()[0].isdigit():
      continue
    values = np.array(raw.numbers('mask', 'run lengths', text, kind=int))
    starts, lengths = values[::2] - 1, values[1::2]
    if len(values) % 2 or starts.min() < 0 or (starts + lengths).max() > size:
      raise ValueError(
        f'run lengths leave the picture of {shape[0]} x {shape[1]} pixels; are '
        'they of another size?'
      )
    for start, length in zip(starts, lengths, strict=True):
      mask[start : start + length] = 1
  return mask.reshape(shape, order='F')


# Files.


def _labelme(path, found):
  shape = _shape(path, found['imageHeight'], found['imageWidth'])
  structures = []
  for drawn in found['shapes']:
    points = _points(path, drawn['points'])
    kind = drawn.get('shape_type') or 'polygon'
    if kind == 'rectangle' and len(points) == 2:
      (x, y), (x2, y2) = points
      points = np.array([[x, y], [x2, y], [x2, y2], [x, y2]])
    elif kind == 'circle' and len(points) == 2:
      radius = np.linalg.norm(points[1] - points[0])
      turn = np.linspace(0, 2 * np.pi, 256, endpoint=False)
      points = points[0] + radius * np.c_[np.cos(turn), np.sin(turn)]
    elif kind != 'polygon':
      raise ValueError(f'{path}: draws a {kind}, which has no inside')
    structures.append((str(drawn['label']), (points,)))
  return Drawing(
    str(found.get('imagePath') or path.stem), shape, (*structures,)
  )


def _coco(path, found):
  names = {c['id']: str(c['name']) for c in found['categories']}
  by_image = {i['id']: [] for i in found['images']}
  for drawn in found['annotations']:
    outline = drawn.get('segmentation')
    if not outline:
      raise ValueError(
        f'{path}: annotation {drawn.get("id")} is a box without an outline; '
        'boxes are no masks'
      )
    by_image[drawn['image_id']].append((names[drawn['category_id']], outline))
  drawings = []
  for image in found['images']:
    shape = _shape(path, image['height'], image['width'])
    structures = [
      (name, _coco_outline(path, outline, shape))
      for name, outline in by_image[image['id']]
    ]
    drawings.append(
      Drawing(
        str(image['file_name']), shape, (*structures,), (*names.values(),)
      )
    )
  return drawings


def _coco_outline(path, outline, shape):
  """Rings, or the mask of COCO's run lengths."""
  if isinstance(outline, list):
    rings = [np.array(r, float).reshape(-1, 2) for r in outline]
    return tuple(_points(path, r) for r in rings)
  counts = outline['counts']
  if isinstance(counts, str):
    counts = _unpacked(counts)
  if sum(counts) != shape[0] * shape[1] or min(counts) < 0:
    raise ValueError(f'{path}: run lengths do not fill their picture')
  on = np.repeat(np.arange(len(counts)) % 2, counts)
  return on.astype(bool).reshape(shape, order='F')


def _unpacked(text):
  """COCO's compressed run lengths: 5 bits a sign, differences to two before."""
  counts, at = [], 0
  while at < len(text):
    value, shift, more = 0, 0, True
    while more:
      sign = ord(text[at]) - 48
      value |= (sign & 31) << shift
      more = bool(sign & 32)
      at += 1
      shift += 5
    if sign & 16:
      value -= 1 << shift
    counts.append(value + (counts[-2] if len(counts) > 2 else 0))
  return counts


def _yolo(path, shape, names):
  """Lines 'class x y x y …', of the picture's width and height."""
  structures = []
  for number, line in enumerate(path.read_text('utf-8-sig').splitlines(), 1):
    if not line.strip():
      continue
    kind, *values = raw.numbers(path, f'line {number}', line)
    if len(values) == 4:
      raise ValueError(
        f'{path}: line {number} is a box, not an outline; boxes are no masks'
      )
    if len(values) < 6 or len(values) % 2 or kind != int(kind) or kind < 0:
      raise ValueError(f'{path}: line {number} is no outline of YOLO')
    points = np.array(values).reshape(-1, 2) * (shape[1], shape[0])
    known = int(kind) < len(names)
    name = names[int(kind)] if known else f'class {int(kind)}'
    structures.append((name, (points,)))
  return Drawing(path.stem, shape, (*structures,), names)


def _shape(path, rows, columns):
  if not 0 < int(rows) * int(columns) <= _LARGEST or int(rows) < 0:
    raise ValueError(f'{path}: a picture of {rows} x {columns} pixels')
  return int(rows), int(columns)


def _points(path, points):
  points = np.array(points, float)
  if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
    raise ValueError(f'{path}: an outline is not a list of x, y')
  return points
