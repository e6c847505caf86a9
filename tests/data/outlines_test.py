"""Outlines become masks beside their pictures."""

import json
import sys

import numpy as np
import PIL.Image
import pytest

from medjax import convert
from medjax.data import formats
from medjax.data.outlines import convert_outlines

WHOLE = '0.25 0.2 0.75 0.2 0.75 0.8 0.25 0.8'


@pytest.fixture
def pictures(tmp_path):
  folder = tmp_path / 'pictures'
  folder.mkdir()
  for name in ('a', 'b', 'c'):
    PIL.Image.new('L', (12, 10)).save(folder / f'{name}.png')
  return folder


def labelme(path, shape=(10, 12)):
  points = [[1, 1], [4, 1], [4, 3], [1, 3]]
  found = {
    'imagePath': f'{path.stem}.png', 'imageHeight': shape[0],
    'imageWidth': shape[1], 'shapes': [{'label': 'cyst', 'points': points}],
  }  # fmt: skip
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(found))


def test_yolo_by_the_command(tmp_path, pictures, monkeypatch, capsys):
  drawn = tmp_path / 'drawn'
  drawn.mkdir()
  # With the mark of byte order with which Windows saves.
  (drawn / 'classes.txt').write_text('cyst\ntumour\n', 'utf-8-sig')
  (drawn / 'a.txt').write_text(f'1 {WHOLE}\n', 'utf-8-sig')
  (drawn / 'b.txt').write_text(f'0 {WHOLE}\n')
  command = f'convert {drawn} {tmp_path}/masks --images={pictures}'
  monkeypatch.setattr(sys, 'argv', command.split())
  convert.main()
  said = capsys.readouterr().out
  assert "class_names=('background', 'cyst', 'tumour')" in said
  assert 'without a mask: c (1)' in said
  for name, label in (('a', 2), ('b', 1)):
    mask = np.asarray(PIL.Image.open(tmp_path / 'masks' / f'{name}.png'))
    wanted = np.zeros((10, 12), np.uint8)
    wanted[2:8, 3:9] = label
    np.testing.assert_array_equal(mask, wanted)


def test_a_folder_of_labelme(tmp_path, pictures):
  for name in ('a', 'c'):
    labelme(tmp_path / 'drawn' / f'{name}.json')
  written, names, left, listed = convert_outlines(
    tmp_path / 'drawn', pictures, tmp_path / 'masks'
  )
  assert [p.name for p in written] == ['a.png', 'c.png']
  assert names == ('background', 'cyst')
  assert left == ['b']
  assert not listed
  assert np.asarray(PIL.Image.open(written[0])).sum() == 6


def test_numbers_that_depend_on_what_is_drawn_are_told(
  tmp_path, pictures, capsys
):
  labelme(tmp_path / 'drawn' / 'a.json')
  convert.draw(tmp_path / 'drawn', pictures, tmp_path / 'masks')
  assert 'note: only those classes have a number' in capsys.readouterr().out
  (tmp_path / 'yolo').mkdir()
  (tmp_path / 'yolo/classes.txt').write_text('cyst\ntumour\n')
  (tmp_path / 'yolo/a.txt').write_text(f'1 {WHOLE}')
  convert.draw(tmp_path / 'yolo', pictures, tmp_path / 'more')
  said = capsys.readouterr().out
  assert '  2 tumour' in said
  assert 'note' not in said
  assert np.asarray(PIL.Image.open(tmp_path / 'more/a.png')).max() == 2


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif'])
@pytest.mark.parametrize('turn', [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize('kind', ['LabelMe', 'YOLO'])
def test_a_photo_that_its_camera_turned(tmp_path, suffix, turn, kind):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'drawn').mkdir()
  picture = PIL.Image.new('RGB', (60, 40))
  tags = picture.getexif()
  tags[0x0112] = turn
  picture.save(tmp_path / f'in/a{suffix}', exif=tags)
  shape = formats.read(tmp_path / f'in/a{suffix}').array.shape[:2]
  assert shape == ((60, 40) if turn >= 5 else (40, 60))
  if kind == 'LabelMe':
    labelme(tmp_path / 'drawn/a.json', shape)
  else:
    (tmp_path / 'drawn/classes.txt').write_text('cyst')
    (tmp_path / 'drawn/a.txt').write_text(f'0 {WHOLE}')
  (path,), *_ = convert_outlines(
    tmp_path / 'drawn', tmp_path / 'in', tmp_path / 'out'
  )
  assert formats.read(path).array.shape[:2] == shape


@pytest.mark.parametrize(
  ('name', 'shape', 'message'),
  [
    ('z', (10, 12), r'draws on z, which .*pictures has not'),
    ('a', (12, 10), r'is of 12 x 10 pixels, .*a\.png has 10 x 12'),
  ],
)
def test_refusals_write_nothing(tmp_path, pictures, name, shape, message):
  labelme(tmp_path / 'drawn' / 'b.json')
  labelme(tmp_path / 'drawn' / f'{name}.json', shape)
  with pytest.raises(ValueError, match=message):
    convert_outlines(tmp_path / 'drawn', pictures, tmp_path / 'masks')
  assert not (tmp_path / 'masks').exists()
