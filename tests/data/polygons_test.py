"""Outlines of COCO, YOLO and LabelMe, and run lengths, as label maps."""

import json

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from medjax.data.formats import polygons

RNG = np.random.default_rng(0)


def star(points=9, size=20):
  """An outline that is not convex, with corners at no special places."""
  turn = np.sort(RNG.uniform(0, 2 * np.pi, points))
  radius = RNG.uniform(3, size / 2 - 1, points)
  return size / 2 + radius[:, None] * np.c_[np.cos(turn), np.sin(turn)]


def test_inside_matches_matplotlib():
  for _ in range(20):
    ring = star()
    found = polygons.inside([ring - 0.5], (22, 21))
    centres = np.stack(np.mgrid[:22, :21][::-1], -1).reshape(-1, 2) + 0.5
    theirs = Outline(ring).contains_points(centres).reshape(22, 21)
    np.testing.assert_array_equal(found, theirs)


def test_a_hole_and_what_lies_outside():
  box = np.array([[-5.0, -5], [30, -5], [30, 30], [-5, 30]])
  hole = np.array([[2.0, 3], [6, 3], [6, 8], [2, 8]])
  found = polygons.label_map(
    polygons.Drawing('x', (10, 12), (('a', (box, hole)),)), ('background', 'a')
  )
  assert found.sum() == 120 - 4 * 5
  assert not found[3:8, 2:6].any()


def coco(path, annotations):
  found = {
    'images': [
      {'id': 3, 'file_name': 'a.png', 'height': 10, 'width': 12},
      {'id': 4, 'file_name': 'b.png', 'height': 4, 'width': 4},
    ],
    'categories': [{'id': 7, 'name': 'cell'}, {'id': 9, 'name': 'nerve'}],
    'annotations': annotations,
  }
  path.write_text(json.dumps(found))
  return path


def packed(counts):
  """COCO's compressed counts, written as its rleToString says."""
  text = ''
  for i, count in enumerate(counts):
    value = count - counts[i - 2] if i > 2 else count
    more = True
    while more:
      sign = value & 31
      value >>= 5
      more = value != -1 if sign & 16 else value != 0
      text += chr((sign | 32 * more) + 48)
  return text


def test_coco(tmp_path):
  mask = RNG.integers(0, 2, (10, 12))
  mask[0, 0] = 0
  flat = mask.ravel(order='F')
  edges = np.flatnonzero(np.diff(flat)) + 1
  counts = np.diff([0, *edges, flat.size]).tolist()
  size = [10, 12]
  for stored in (counts, packed(counts)):
    path = coco(
      tmp_path / 'coco.json',
      [
        {'id': 1, 'image_id': 3, 'category_id': 7,
         'segmentation': {'counts': stored, 'size': size}},
        {'id': 2, 'image_id': 3, 'category_id': 9,
         'segmentation': [[2, 2, 5, 2, 5, 6, 2, 6]]},
      ],
    )  # fmt: skip
    first, second = polygons.read(path)
    names = polygons.class_names([first, second])
    assert names == ('background', 'cell', 'nerve')
    wanted = mask.copy()
    wanted[2:6, 2:5] = 2
    np.testing.assert_array_equal(polygons.label_map(first, names), wanted)
    assert (first.image, second.image) == ('a.png', 'b.png')
    assert polygons.label_map(second, names).shape == (4, 4)
    assert not polygons.label_map(second, names).any()


def test_a_class_has_its_number_whether_it_is_drawn_or_not(tmp_path):
  outline = [[2, 2, 5, 2, 5, 6, 2, 6]]
  nerve = {
    'id': 2, 'image_id': 3, 'category_id': 9, 'segmentation': outline,
  }  # fmt: skip
  drawings = polygons.read(coco(tmp_path / 'coco.json', [nerve]))
  names = polygons.class_names(drawings)
  assert names == ('background', 'cell', 'nerve')
  assert polygons.label_map(drawings[0], names).max() == 2
  (tmp_path / 'a.txt').write_text('1 .1 .1 .9 .1 .9 .9')
  options = dict(shape=(10, 10), class_names=('cell', 'nerve', 'vein'))
  found = polygons.read(tmp_path / 'a.txt', **options)
  assert polygons.class_names(found) == ('background', 'cell', 'nerve', 'vein')


def test_labelme(tmp_path):
  found = {
    'imagePath': 'x.jpg',
    'imageHeight': 10,
    'imageWidth': 12,
    'shapes': [
      {'label': 'a', 'shape_type': 'polygon',
       'points': [[1, 1], [4, 1], [4, 3], [1, 3]]},
      {'label': 'b', 'shape_type': 'rectangle', 'points': [[6, 2], [10, 7]]},
      {'label': 'b', 'shape_type': 'circle', 'points': [[2, 7], [2, 9]]},
    ],
  }  # fmt: skip
  (tmp_path / 'x.json').write_text(json.dumps(found))
  (drawing,) = polygons.read(tmp_path / 'x.json')
  labels = polygons.label_map(drawing, ('background', 'a', 'b'))
  wanted = np.zeros((10, 12), int)
  wanted[1:3, 1:4] = 1
  wanted[2:7, 6:10] = 2
  y, x = np.mgrid[:10, :12] + 0.5
  wanted[np.hypot(x - 2, y - 7) < 2] = 2
  np.testing.assert_array_equal(labels, wanted)


def test_yolo(tmp_path):
  ring = np.array([[0.25, 0.2], [0.75, 0.2], [0.75, 0.8], [0.25, 0.8]])
  line = '1 ' + ' '.join(map(str, ring.ravel()))
  (tmp_path / 'x.txt').write_text(line + '\n\n')
  (drawing,) = polygons.read(
    tmp_path / 'x.txt', shape=(10, 12), class_names=('a', 'b')
  )
  labels = polygons.label_map(drawing, ('background', 'a', 'b'))
  wanted = np.zeros((10, 12), int)
  wanted[2:8, 3:9] = 2
  np.testing.assert_array_equal(labels, wanted)
  assert drawing.image == 'x'


def test_run_lengths():
  mask = RNG.integers(0, 2, (7, 5))
  padded = np.r_[0, mask.ravel(order='F'), 0]
  starts = np.flatnonzero(np.diff(padded) == 1) + 1
  stops = np.flatnonzero(np.diff(padded) == -1) + 1
  runs = zip(starts, stops - starts, strict=True)
  text = ' '.join(f'{a} {n}' for a, n in runs)
  np.testing.assert_array_equal(polygons.from_runs([text], (7, 5)), mask)
  half = text.split(' ')
  joined = [' '.join(half[:4]), ' '.join(half[4:]), '-1', '']
  np.testing.assert_array_equal(polygons.from_runs(joined, (7, 5)), mask)
  for bad in ('1', '0 3', '34 9', '1 x'):
    with pytest.raises(ValueError, match='run lengths'):
      polygons.from_runs([bad], (7, 5))


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('x.json', '{', 'is not JSON'),
    ('x.json', '[]', 'is neither COCO nor LabelMe'),
    ('x.json', '{"shapes": [{}]}', 'lacks'),
    (
      'x.json',
      '{"imageHeight": 9, "imageWidth": 9, "shapes": [{"label": "a", '
      '"shape_type": "line", "points": [[0, 1], [2, 3]]}]}',
      'draws a line, which has no inside',
    ),
    (
      'x.json',
      '{"images": [{"id": 1, "file_name": "a", "height": 9, "width": 9}], '
      '"categories": [{"id": 1, "name": "a"}], "annotations": [{"id": 5, '
      '"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}]}',
      'annotation 5 is a box without an outline',
    ),
    (
      'x.json',
      '{"imageHeight": 1e9, "imageWidth": 1e9, "shapes": []}',
      'a pic',
    ),
    ('x.txt', '0 .5 .5 .1 .1', 'line 1 is a box, not an outline'),
    ('x.txt', '0 .5 .5 .1', 'line 1 is no outline'),
    ('x.txt', 'a b', 'line 1'),
  ],
)
def test_refusals(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message) as e:
    polygons.read(tmp_path / name, shape=(9, 9))
  assert '\n' not in str(e.value)
  assert name in str(e.value)
