"""Binary masks and label maps as pictures hold them, and what they mean."""

import io
import zlib

import numpy as np
import PIL.Image
import pytest

from medjax.data import formats

DISC = np.hypot(*np.mgrid[-15.5:16, -15.5:16]) < 8


def saved(tmp_path, image, name='m.png', **options):
  if isinstance(image, np.ndarray):
    image = PIL.Image.fromarray(image)
  image.save(tmp_path / name, **options)
  return tmp_path / name


def palette(indices, colours):
  image = PIL.Image.fromarray(np.asarray(indices, np.uint8), 'L').convert('P')
  image = PIL.Image.new('P', indices.shape[::-1])
  image.putdata(np.asarray(indices).ravel().tolist())
  image.putpalette(np.ravel(colours).tolist())
  return image


def mask(path, **options):
  return formats.read_mask(path, **options).array


def low_bits(path, values, bits):
  """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""

  def chunk(name, data):
    crc = zlib.crc32(name + data).to_bytes(4)
    return len(data).to_bytes(4) + name + data + crc

  rows = []
  for line in values:
    text = ''.join(f'{int(v):0{bits}b}' for v in line)
    rows.append(int(text, 2).to_bytes(len(text) // 8))
  height, width = values.shape
  header = width.to_bytes(4) + height.to_bytes(4) + bytes([bits, 0, 0, 0, 0])
  data = zlib.compress(b''.join(b'\0' + row for row in rows))
  path.write_bytes(
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + chunk(b'IDAT', data)
    + chunk(b'IEND', b'')
  )
  return path


# Two values.


@pytest.mark.parametrize(
  ('dark', 'bright', 'dtype'),
  [
    (0, 255, np.uint8), (3, 253, np.uint8), (0, 128, np.uint8),
    (0, 65535, np.uint16), (0, 255, np.uint16), (0, 4095, np.uint16),
    (7, 60000, np.uint16), (0, 1, np.uint8),
  ],
)  # fmt: skip
def test_two_greys_are_a_binary_mask(tmp_path, dark, bright, dtype):
  array = np.where(DISC, bright, dark).astype(dtype)
  for name in ('m.png', 'm.tif'):
    found = mask(saved(tmp_path, array, name))
    np.testing.assert_array_equal(found, DISC)


@pytest.mark.parametrize(
  'colours',
  [
    [(255,) * 3, (0,) * 3],  # white first
    [(0,) * 3, (255,) * 3],
    [(3,) * 3, (253,) * 3],
    [(253,) * 3, (3,) * 3],
    [(200, 0, 0), (0, 0, 0)],  # a colour first, black second
  ],
)
@pytest.mark.parametrize('suffix', ['png', 'gif', 'bmp', 'tif'])
def test_palettes_by_their_colours(tmp_path, colours, suffix):
  bright = int(np.sum(colours[1]) > np.sum(colours[0]))
  image = palette(np.where(DISC, bright, 1 - bright), colours)
  path = saved(tmp_path, image, f'm.{suffix}')
  if suffix == 'bmp' and colours[:2] == [(0,) * 3, (255,) * 3]:
    with pytest.raises(ValueError, match=r'm\.bmp: a BMP of 8 bits'):
      mask(path)  # which Pillow would decode as black
    return
  np.testing.assert_array_equal(mask(path), DISC)


@pytest.mark.parametrize('method', [0, 1, 2])
def test_a_quantised_mask(tmp_path, method):
  grey = PIL.Image.fromarray(np.where(DISC, 255, 0).astype(np.uint8))
  for colours in (2, 8):
    image = grey.convert('RGB').quantize(colours, method=method)
    np.testing.assert_array_equal(mask(saved(tmp_path, image)), DISC)


def test_an_empty_and_a_full_mask(tmp_path):
  for value, wanted in ((0, 0), (255, 1)):
    full = np.full((4, 4), value, np.uint8)
    assert np.all(mask(saved(tmp_path, full)) == wanted)
    image = palette(np.zeros((4, 4), int), [(value,) * 3, (255 - value,) * 3])
    assert np.all(mask(saved(tmp_path, image)) == wanted)


def test_masks_in_alpha(tmp_path):
  alpha = np.where(DISC, 255, 0).astype(np.uint8)
  black = np.zeros((32, 32, 3), np.uint8)
  path = saved(tmp_path, np.dstack([black, alpha]))
  np.testing.assert_array_equal(mask(path), DISC)
  assert 'alpha' in formats.read_mask(path).meta['notes'][0]
  white = np.dstack([np.full((32, 32), 255, np.uint8), alpha])
  np.testing.assert_array_equal(mask(saved(tmp_path, white)), DISC)
  # Where the colours differ, they are the mask, as before.
  shown = np.dstack([np.dstack([alpha] * 3), np.full_like(alpha, 255)])
  np.testing.assert_array_equal(mask(saved(tmp_path, shown)), DISC)
  ink = palette(DISC.astype(int), [(0, 0, 0), (0, 0, 0)])
  path = saved(tmp_path, ink, transparency=bytes([0, 255]))
  np.testing.assert_array_equal(mask(path), DISC)


@pytest.mark.parametrize('quality', [75, 90, 100])
def test_jpeg_masks_of_black_and_white(tmp_path, quality):
  blocks = np.kron(np.eye(4), np.ones((8, 8))) > 0
  image = PIL.Image.fromarray(np.where(blocks, 255, 0).astype(np.uint8))
  path = saved(tmp_path, image, 'm.jpg', quality=quality)
  np.testing.assert_array_equal(mask(path), blocks)
  again = saved(tmp_path, image.convert('RGB'), 'm.jpg', quality=quality)
  np.testing.assert_array_equal(mask(again), blocks)
  inside = saved(tmp_path, image, 'm.tif', compression='jpeg', quality=quality)
  np.testing.assert_array_equal(mask(inside), blocks)


def test_jpeg_masks_resaved_as_png(tmp_path):
  image = PIL.Image.fromarray(np.where(DISC, 255, 0).astype(np.uint8))
  path = saved(tmp_path, image, 'm.jpg', quality=95)
  again = saved(tmp_path, PIL.Image.open(path), 'again.png')
  np.testing.assert_array_equal(mask(again), DISC)


def test_bool_and_one_bit(tmp_path):
  np.testing.assert_array_equal(mask(saved(tmp_path, DISC)), DISC)
  np.testing.assert_array_equal(mask(saved(tmp_path, DISC, 'm.tif')), DISC)
  tifffile = pytest.importorskip('tifffile')
  tifffile.imwrite(tmp_path / 'b.tif', DISC)  # 1 bit, "white is zero"
  np.testing.assert_array_equal(mask(tmp_path / 'b.tif'), DISC)
  np.testing.assert_array_equal(
    formats.read(tmp_path / 'b.tif').array[..., 0], 255 * DISC
  )


# Several classes.


def test_greys_of_2_and_4_bits_are_classes(tmp_path):
  values = np.arange(16).reshape(4, 4) % 4
  found = mask(low_bits(tmp_path / 'm.png', values, 2))
  np.testing.assert_array_equal(found, values)
  values = np.arange(16).reshape(2, 8) % 11
  found = mask(low_bits(tmp_path / 'm.png', values, 4))
  np.testing.assert_array_equal(found, values)
  shown = formats.read(tmp_path / 'm.png').array  # an image stays 0 to 255
  np.testing.assert_array_equal(shown[..., 0], 17 * values)
  values = np.where(np.eye(8) > 0, 1, 0)
  np.testing.assert_array_equal(
    mask(low_bits(tmp_path / 'm.png', values, 1)), values
  )


def test_palettes_of_classes_stay_indices(tmp_path):
  labels = np.arange(12).reshape(3, 4) % 4
  for colours in (
    [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)],  # VOC's
    [(0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255)],
  ):
    path = saved(tmp_path, palette(labels, colours))
    np.testing.assert_array_equal(mask(path), labels)
  # Of three classes made visible, a case may have the first and last only.
  only = np.where(labels == 3, 2, 0)
  ramp = [(0,) * 3, (128,) * 3, (255,) * 3]
  np.testing.assert_array_equal(
    mask(saved(tmp_path, palette(only, ramp))), only
  )


def test_a_quantised_label_map(tmp_path):
  labels = (np.arange(64).reshape(8, 8) % 5).astype(np.uint8)
  image = PIL.Image.fromarray(labels).convert('RGB').quantize(8)
  np.testing.assert_array_equal(mask(saved(tmp_path, image)), labels)


def test_colours_of_one_class(tmp_path):
  array = np.zeros((32, 32, 3), np.uint8)
  array[DISC] = (0, 200, 30)
  np.testing.assert_array_equal(mask(saved(tmp_path, array)), DISC)


def test_values_that_the_user_names(tmp_path):
  array = np.array([[0, 128], [255, 128]], np.uint8)
  path = saved(tmp_path, array)
  found = mask(path, values={128: 1, 255: 2})
  np.testing.assert_array_equal(found, [[0, 1], [2, 1]])
  inverted = saved(tmp_path, np.array([[0, 255]], np.uint8))
  np.testing.assert_array_equal(mask(inverted, values={0: 1, 255: 0}), [[1, 0]])
  with pytest.raises(ValueError, match=r'holds 128, which data\.mask_values'):
    mask(saved(tmp_path, array), values={255: 1})


def test_a_value_that_is_ignored(tmp_path):
  array = np.array([[0, 1], [255, 2]], np.uint8)
  path = saved(tmp_path, array)
  np.testing.assert_array_equal(mask(path, ignore=255), array)
  # Background and ignored only: no binary mask.
  path = saved(tmp_path, np.array([[0, 255]], np.uint8))
  np.testing.assert_array_equal(mask(path, ignore=255), [[0, 255]])
  # And of a binary one with a border that is ignored, white is still 1.
  path = saved(tmp_path, np.array([[0, 200, 255]], np.uint8))
  np.testing.assert_array_equal(mask(path, ignore=255), [[0, 1, 255]])


# Refusals.


def test_what_is_no_label_map(tmp_path):
  rng = np.random.default_rng(0)
  shades = rng.integers(0, 256, (32, 32), np.uint8)
  jpeg = io.BytesIO()
  three = PIL.Image.fromarray(
    (np.arange(64).reshape(8, 8) % 3).astype(np.uint8)
  )
  three.save(jpeg, 'JPEG')
  colours = np.zeros((4, 4, 3), np.uint8)
  colours[0, 0], colours[1, 1] = (9, 0, 0), (0, 9, 0)
  labels = np.arange(16).reshape(4, 4) % 3
  bad = {
    'shades': (shades, 'shades of grey'),
    'greys': (np.array([[0, 128, 255]], np.uint8), 'mask_values={128: 1, 255'),
    'colours': (colours, 'not three that differ'),
    'quantised': (
      palette(labels, [(9, 0, 0), (0, 0, 0), (0, 9, 0)]),
      'black is not the first',
    ),
  }
  for name, (image, message) in bad.items():
    path = saved(tmp_path, image, f'{name}.png')
    with pytest.raises(ValueError, match=f'{name}.png: .*{message}'):
      mask(path)
  for name, image in (('shades', shades), ('labels', three)):
    path = saved(tmp_path, image, f'{name}.jpg')
    with pytest.raises(ValueError, match=f'{name}.jpg: .*save masks as PNG'):
      mask(path)


@pytest.mark.parametrize('top', [255, 65535])
def test_volumes_of_0_and_full_scale(tmp_path, top):
  nib = pytest.importorskip('nibabel')
  array = np.zeros((4, 4, 4), np.uint16)
  array[1] = top
  for stored in (array, array.astype(np.float32)):
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / 'm.nii')
    found = formats.read_mask(tmp_path / 'm.nii')
    np.testing.assert_array_equal(found.array, array > 0)
    assert found.meta['notes'][-1].endswith('taken as 0 and 1')
  array[2] = 1  # then it is a label map
  nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / 'm.nii')
  assert mask(tmp_path / 'm.nii').max() == top
  labels = np.where(array == 1, 3, 0).astype(np.uint8)  # one class of several
  nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / 'm.nii')
  np.testing.assert_array_equal(mask(tmp_path / 'm.nii'), labels)
